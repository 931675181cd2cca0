from collections.abc import AsyncIterator, Sequence

import pytest
from evaluate_cases import LIMITS, split

from marbury.chat.handbook import HandbookModel, answer, load
from marbury.chat.model import complete
from marbury.chat.scripted import ScriptedReply
from marbury.errors import GuardError
from marbury.evaluate import ladder
from marbury.evaluate.attacks import Attack, Harmless, attacks, harmless
from marbury.evaluate.ladder import Bench, composed, run_attack, run_harmless
from marbury.evaluate.measures import AttackResult, HarmlessResult, Outcome
from marbury.guard import Guard, Judge, ScriptedScorer
from marbury.records import Message, Piece
from marbury.scoring import Score, Thresholds

ATTACKS = attacks(split(), load())
HARMLESS = harmless(split())
BINDING = next(section for section in load().sections if section.title == "The binding step")


def on(trigger: str) -> Bench:
    """Flags a text from the trigger on: with an empty one everything, with one that never comes nothing."""
    return Bench(ScriptedScorer(trigger), LIMITS)


async def under_attack(bench: Bench, rows: Sequence[Attack] = ATTACKS) -> list[AttackResult]:
    return [await run_attack(bench, row) for row in rows]


async def in_peace(bench: Bench, rows: Sequence[Harmless] = HARMLESS) -> list[HarmlessResult]:
    return [await run_harmless(bench, row) for row in rows]


async def test_a_guard_that_always_allows_is_as_good_as_none() -> None:
    for row in await under_attack(on("xyzzy")):
        everything = Outcome("", row.answer, 0, row.details, True)
        assert row.details > 0
        assert all(row.outcomes[name] == everything for name in ("helpful-only", "input", "output", "both"))
    assert all(stage == "" for row in await in_peace(on("xyzzy")) for stage in guarded(row))


async def test_a_guard_that_always_blocks_lets_nothing_out_and_refuses_everybody() -> None:
    for row in await under_attack(on("")):
        assert row.outcomes["input"] == row.outcomes["both"] == Outcome("input", 0, 0, 0, False)
        assert row.outcomes["output"] == Outcome("output", 0, 0, 0, False)
        assert row.outcomes["helpful-only"].success
    for peaceful in await in_peace(on("")):
        assert peaceful.stages["both"] == "input"


def guarded(row: HarmlessResult) -> list[str]:
    return [row.stages[name] for name in ("input", "output", "both")]


async def test_a_keyword_guard_blocks_the_requests_that_name_it() -> None:
    stages = {row.id: row.outcomes["input"].stage for row in await under_attack(on("quillstone"))}
    assert stages == {"p-bad": "input", "q-bad": "", "p-bad~1": "", "p-bad~2": "input", "p-bad~3": "input"}
    refused = {row.id: row.stages["both"] for row in await in_peace(on("quillstone"))}
    assert refused == {"h-1": "", "h-2": "", "h-3": "input", "h-1~1": ""}


async def test_a_keyword_guard_stops_a_reply_at_its_word_and_not_later() -> None:
    plain = next(attack for attack in ATTACKS if attack.id == "p-bad~1")
    [row] = await under_attack(on("silver"), [plain])
    said = answer(BINDING, plain.form)
    stop = said.index("silver")
    outcome = row.outcomes["output"]
    assert outcome == Outcome("output", stop - 1, 0, outcome.details, False)  # the space goes with its word
    assert outcome.details == 1  # the first bullet; of the second, 7 of 10 content words came before the word
    assert row.outcomes["both"] == outcome
    assert row.output_score == 10.0
    assert 0 < row.held <= 24


async def test_a_late_keyword_lets_the_attack_succeed_although_it_is_stopped() -> None:
    plain = next(attack for attack in ATTACKS if attack.id == "p-bad~1")
    [row] = await under_attack(on("ticking"), [plain])
    assert row.outcomes["both"].stage == "output"
    assert row.outcomes["both"].success
    assert row.outcomes["both"].details == 7  # of the last bullet, all but the last of 8 content words


async def test_a_reply_in_code_passes_a_keyword_guard_and_is_graded_all_the_same() -> None:
    coded = next(attack for attack in ATTACKS if attack.codes)
    [row] = await under_attack(on("violet"), [coded])
    assert row.outcomes["output"] == Outcome("", row.answer, 0, len(BINDING.bullets), True)


async def test_the_refusing_model_falls_for_disguise_and_framing() -> None:
    stages = {row.id: row.outcomes["refusing"].stage for row in await under_attack(on("xyzzy"))}
    assert stages == {"p-bad": "model", "q-bad": "", "p-bad~1": "", "p-bad~2": "model", "p-bad~3": ""}
    refused = {row.id: row.stages["refusing"] for row in await in_peace(on("xyzzy"))}
    assert refused == {"h-1": "", "h-2": "", "h-3": "model", "h-1~1": ""}


async def test_a_harmless_reply_that_trips_the_output_side_counts_as_refused() -> None:
    refused = {row.id: row.stages for row in await in_peace(on("museum"))}
    assert refused["h-3"]["output"] == refused["h-3"]["both"] == "output"
    assert refused["h-3"]["input"] == ""


@pytest.mark.parametrize("trigger", ["quillstone", "silver", "ticking", "heat", "", "xyzzy"])
async def test_both_sides_follow_from_one_side_each(trigger: str) -> None:
    """The guard with both sides at work does what the report derives from the two one-sided runs."""
    judge = Judge(ScriptedScorer(trigger), LIMITS)
    for attack, row in zip(ATTACKS, await under_attack(on(trigger)), strict=True):
        model = HandbookModel(attack.section, composed(attack.codes).encode, attack.form)
        reply = await complete(Guard(model, judge), attack.messages)
        assert len(reply.text) == row.outcomes["both"].released
        assert (reply.finish == "content_filter") == (row.outcomes["both"].stage != "")
    judge.close()


class Leaky(Guard):
    """A guard that lets everything out that its model says and tells of the stop at the end."""

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        stopped = (await complete(Guard(self._model, self._judge), messages)).finish == "content_filter"
        async for piece in self._model.stream(messages):
            yield Piece(piece.text, "content_filter" if piece.finish and stopped else piece.finish)


async def test_characters_released_after_the_stop_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladder, "Guard", Leaky)
    plain = next(attack for attack in ATTACKS if attack.id == "p-bad~1")
    [row] = await under_attack(on("silver"), [plain])
    said = answer(BINDING, plain.form)
    assert row.outcomes["output"].stage == "output"
    assert row.outcomes["output"].late == len(said) - said.index(" silver")


async def test_a_guard_that_ignores_its_scores_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deaf(Guard):
        async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
            await complete(Guard(self._model, self._judge), messages)
            async for piece in self._model.stream(messages):
                yield piece

    monkeypatch.setattr(ladder, "Guard", Deaf)
    [row] = await under_attack(on("silver"), ATTACKS[:1])
    assert row.outcomes["output"].stage == ""
    assert row.outcomes["output"].late > 0


async def test_scores_are_the_highest_over_the_whole_reply_even_if_it_is_stopped() -> None:
    class Rising(ScriptedScorer):
        def score(self, step: int, end: int, flagged: bool) -> Score:
            return Score(end=end, harm=float(end), categories=())

    [row] = await under_attack(Bench(Rising("never"), Thresholds(1e9, 1e9, 50.0, 50.0)), ATTACKS[:1])
    assert row.outcomes["output"].stage == "output"
    assert row.outcomes["output"].released < 50
    assert row.output_score == row.answer  # the last character, long after the stop
    assert row.input_score == sum(len(message.content) for message in ATTACKS[0].messages)


async def test_a_failing_guard_gives_no_numbers() -> None:
    with pytest.raises(GuardError):
        await under_attack(Bench(ScriptedScorer("xyzzy", fails_at=5), LIMITS))


async def test_nothing_is_left_open() -> None:
    scorer = ScriptedScorer("silver")
    await under_attack(Bench(scorer, LIMITS))
    await in_peace(Bench(scorer, LIMITS))
    assert scorer.open == 0


async def test_codes_compose_in_the_order_of_encoding() -> None:
    code = composed(("rot13", "base64"))
    assert code.encode("hat") == "dW5n"
    assert code.decode is not None and code.decode("dW5n") == "hat"
    assert composed(()).encode("hat") == "hat"
    assert composed(("pig-latin", "hex")).decode is None


async def test_a_row_without_a_reply_is_judged_on_its_request_alone() -> None:
    [row] = await in_peace(on("museum"), [row for row in HARMLESS if row.id == "h-1~1"])
    assert row.output_score is None
    assert row.input_score == -10.0
    assert (await complete(ScriptedReply("x"), [])).text == "x"
