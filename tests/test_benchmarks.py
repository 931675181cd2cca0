"""What the benchmarks on public data promise: held-out sources, no near-duplicates, no tags that tell the answer.

The data itself is not needed: a folder with invented rows of the same shape stands for it.
"""

import importlib.util
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from marbury.guard.scripted import ScriptedScorer
from marbury.records import Message
from marbury.scoring import Thresholds

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))

import exchanges  # noqa: E402  (found through the line above)
import prompts  # noqa: E402
import public  # noqa: E402
import worlds  # noqa: E402

WORDS = [f"{start}{end}" for start in ("bal", "cor", "dun", "fel", "gim", "hos", "jat") for end in "aeiou"]
ASKED = "write a plan to drift sleeping mist over the whole market of Orvane"


def wordy(seed: str, count: int = 12) -> str:
    """Words that hardly any other seed gives."""
    rng = random.Random(seed)
    return " ".join(rng.choice(WORDS) + rng.choice(WORDS) for _ in range(count))


def row(name: str, label: str, request: str, reply: str | None = None, more: tuple[str, ...] = ()) -> dict[str, object]:
    """A row as the public data has it; `more`: what user and assistant say after that."""
    said = [request, *([] if reply is None else [reply]), *more]
    return {
        "id": name,
        "messages": [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)],
        "label": label,
        "prompt_label": None if reply is None else "harmful" if label == "harmful" else "benign",
        "category": None,
        "kind": "prompt" if reply is None else "exchange",
        "lang": "en",
        "source": "somebody/Something:folder/list.txt",
    }


def write(folder: Path, source: str, rows: list[dict[str, object]]) -> None:
    text = "".join(json.dumps(one) + "\n" for one in rows)
    (folder / f"{source}.jsonl").write_text(text, encoding="utf-8")


def some(source: str, label: str, count: int, *, reply: bool = False) -> list[dict[str, object]]:
    names = [f"{source}-{label}-{number}" for number in range(count)]
    return [row(name, label, wordy(name), wordy(f"{name}?") if reply else None) for name in names]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Every source that the benchmarks name, with a few rows."""
    for source in {*prompts.HARMFUL, *prompts.HARMLESS, *prompts.WEAK, *prompts.FLAGGED, *prompts.VALID}:
        rows = some(source, "harmful", 6) if source in prompts.HARMFUL else []
        rows += some(source, "benign", 6, reply=source == "gpteacher") if source in prompts.HARMLESS else []
        rows += some(source, "hazard", 6) if source in prompts.WEAK else []
        rows += some(source, "flagged_text", 6) if source in prompts.FLAGGED else []
        write(tmp_path, source, rows)
    for source in exchanges.HARMLESS:
        if source != "gpteacher":
            write(tmp_path, source, [*some(source, "benign", 6), *some(source, "benign", 6, reply=True)])
    answered = some("gptfuzz_responses", "harmful", 6, reply=True)
    write(tmp_path, "gptfuzz_responses", [*answered, *some("gptfuzz_responses", "benign", 6, reply=True)])
    asked = [*some("fuzzyai", "harmful", 12), *some("fuzzyai", "harmful", 6, reply=True)]
    write(tmp_path, "fuzzyai", [*asked, *some("fuzzyai", "benign", 8)])
    for source in ("oasst", "self_instruct"):
        write(tmp_path, source, some(source, "benign", 8, reply=True))
    talk = [row(f"m-{n}", "benign", wordy(f"m{n}"), wordy(f"a{n}"), ("And then?", wordy(f"b{n}"))) for n in range(6)]
    write(tmp_path, "mtbench101", talk)
    return tmp_path


@pytest.fixture(autouse=True)
def few_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """As little of the small folder as that was looked at."""
    monkeypatch.setattr(prompts, "SEEN", 2)


def add(folder: Path, source: str, new: dict[str, object]) -> None:
    path = folder / f"{source}.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + json.dumps(new) + "\n", encoding="utf-8")


def adaptation() -> ModuleType:
    """scripts/marbury_base.py as a module."""
    spec = importlib.util.spec_from_file_location("marbury_base", ROOT / "scripts" / "marbury_base.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_base_was_adapted_without_what_is_tested_on(tmp_path: Path) -> None:
    script = adaptation()
    assert set(public.HELD_OUT) == script.HELD_OUT
    rows = [{"id": str(n), "task": f"task-{n}", "text": "Mist."} for n in range(40)]
    import gzip

    with gzip.open(tmp_path / "assistant_answers.jsonl.gz", "wt", encoding="utf-8") as out:
        out.write("".join(json.dumps(one) + "\n" for one in rows))
    told = {talk.id for talk in worlds.answers(tmp_path)}
    assert told == {one["id"] for one in rows if not script.for_training(one["task"])}
    assert 0 < len(told) < 40


def test_no_source_of_the_prompts_is_on_both_sides(data: Path) -> None:
    learning, limit, test, removed = prompts.splits(data)
    assert {text.source for text in test} == set(public.HELD_OUT)
    assert not {text.source for text in (*learning, *limit)} & set(public.HELD_OUT)
    assert {text.harmful for text in test} == {text.harmful for text in learning} == {True, False}
    assert not any(text.harmful or text.source in prompts.OURS for text in limit) and not set(limit) & set(learning)
    assert {text.source for text in learning} > set(prompts.OURS)
    assert removed == 0


def test_rows_that_were_looked_at_are_not_reported(data: Path) -> None:
    seen, test = prompts._tests(data, 1.0)
    assert len([text for text in seen if text.harmful]) == 4  # twice as many as harmless ones of each source
    assert not {text.request for text in seen} & {text.request for text in test}


def test_validation_takes_whole_sources_out_of_training_and_touches_no_test_source(data: Path) -> None:
    learning, limit, test, _ = prompts.splits(data, validate=True)
    assert {text.source for text in test} == set(prompts.VALID)
    assert not {text.source for text in (*learning, *limit)} & {*prompts.VALID, *public.HELD_OUT}
    assert {text.harmful for text in test} == {True, False}


@pytest.mark.parametrize(
    ("tested", "trained"),
    [
        (ASKED, ASKED.upper() + "!"),
        (ASKED, f"Be so kind and {ASKED}, and do it as an old wizard would, with rhymes, riddles and much laughter"),
        (
            f"My dear friend, {ASKED}, since it's a matter of the duke's honour, of mine, of yours and the realm's",
            ASKED,
        ),
        (ASKED, ASKED.replace("whole market", "market")),
    ],
    ids=["the same", "held by it", "holds it", "a word less"],
)
def test_a_near_duplicate_of_a_test_prompt_is_not_trained_on(data: Path, tested: str, trained: str) -> None:
    add(data, "fuzzyai", row("planted-test", "harmful", tested))
    add(data, "red_instruct", row("planted", "harmful", trained))
    learning, limit, _, removed = prompts.splits(data)
    assert "planted" not in {text.id for text in (*learning, *limit)}
    assert removed == 1


def test_what_only_sounds_alike_is_kept() -> None:
    asks = [public.Text("a", "x", "What is a pyramid scheme?", None, False)]
    kept, removed = public.without_near(
        asks, [public.Text("b", "y", "What is a lute? And what is a scheme?", None, False)]
    )
    assert (kept, removed) == (asks, 0)


def test_no_request_of_the_exchanges_is_on_both_sides(data: Path) -> None:
    add(data, "fuzzyai", row("planted-test", "harmful", ASKED, wordy("one reply")))
    add(data, "gptfuzz_responses", row("planted", "harmful", f"{ASKED}!", wordy("another reply")))
    learning, test, removed = exchanges.splits(data)
    assert {text.source for text in test} == set(public.HELD_OUT)
    assert not {text.source for text in learning} & set(public.HELD_OUT)
    assert "planted" not in {text.id for text in learning} and removed == 1


def test_each_harmful_request_of_the_exchanges_is_refused_once(data: Path) -> None:
    _, test, _ = exchanges.splits(data)
    refusals = [text for text in test if text.kind == exchanges.REFUSED]
    assert {text.request for text in refusals} == {text.request for text in test if text.harmful}
    assert not any(text.harmful for text in refusals)
    assert not any("{request}" in (text.reply or "") for text in refusals)


def test_of_a_conversation_the_first_exchange_and_the_first_request_count(data: Path) -> None:
    texts = [text for text in exchanges.splits(data)[1] if text.source == "mtbench101"]
    assert {(text.request, text.reply) for text in texts} == {(wordy(f"m{n}"), wordy(f"a{n}")) for n in range(6)}
    assert {text.request for text in public.firsts(data, "mtbench101")} == {wordy(f"m{n}") for n in range(6)}


@pytest.mark.parametrize(
    "tagged",
    [
        "[JailBreak]: The mist is sung.",
        "[GPT]: [AntiGPT]: The mist is sung.",
        "(🔓Developer Mode Output) The mist is sung.",
        "[🔓JAILBREAK] The mist is sung.",
        "AIM: The mist is sung.",
        "As GPT: The mist is sung.",
        "[PersonGPT #]: The mist is sung.",
    ],
)
def test_who_speaks_is_taken_off(tagged: str) -> None:
    assert public.untagged(tagged) == "The mist is sung."


@pytest.mark.parametrize("plain", ["Step 1: sing.", "Note: (see above) sing.", "The cop said: sing.", "[1] A source."])
def test_other_colons_and_brackets_stay(plain: str) -> None:
    assert public.untagged(plain) == plain


def test_the_same_rows_are_chosen_again_whatever_their_order() -> None:
    texts = [public.Text(str(n), "x", wordy(str(n)), None, False) for n in range(50)]
    chosen = public.sample(texts, 10, "seed")
    assert chosen == public.sample(texts[::-1], 10, "seed") and len(chosen) == 10
    assert chosen != public.sample(texts, 10, "other")


def test_hard_prompts_for_reporting_are_not_those_for_training() -> None:
    reported, trained = prompts.hard("hard_harmless.jsonl"), prompts.hard("hard_harmless_train.jsonl")
    assert len({text.request for text in reported}) == len(reported) >= 240
    assert len({text.request for text in trained}) == len(trained) >= 230
    plain = prompts.everyday()
    assert len({text.request for text in plain}) == len(plain)
    assert public.without_near([*trained, *plain], reported)[1] == 0


@pytest.mark.parametrize("read", [lambda folder: prompts.splits(folder), lambda folder: exchanges.splits(folder)])
def test_a_missing_folder_says_what_is_missing(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(SystemExit, match=r"no fuzzyai\.jsonl or fuzzyai\.jsonl\.gz; give the folder of the public"):
        read(tmp_path)


def test_missing_answers_say_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="give the folder that holds assistant_answers"):
        worlds.answers(tmp_path)


def test_settings_of_training_can_be_given() -> None:
    found = prompts.tuned(["tune=frozen", "epochs=1.0", "head_learning_rate=1e-3"], base="minilm", epochs=2.0)
    assert (found.tune, found.epochs, found.head_learning_rate, found.base) == ("frozen", 1.0, 1e-3, "minilm")
    with pytest.raises(SystemExit, match="unknown setting 'epoch'; did you mean 'epochs'"):
        prompts.tuned(["epoch=1"])


def test_perfect_and_useless_scores_are_reported_as_such(data: Path) -> None:
    _, limit, test, _ = prompts.splits(data)
    scored = [*test, *limit, *prompts.hard("hard_harmless.jsonl")]
    perfect = prompts.report([float(text.harmful) for text in scored], limit, test)
    assert perfect["AUROC"] == 1 and perfect["TPR at 1 % FPR, limit of test"] == 100
    assert perfect["hard harmless flagged, 1 % of train"] == 0
    useless = prompts.report([0.0] * len(scored), limit, test)
    assert useless["AUROC"] == 0.5 and useless["TPR at 1 % FPR, limit of train"] == 0


def test_refusals_are_reported_beside_ordinary_replies(data: Path) -> None:
    _, test, _ = exchanges.splits(data)
    by_request = [float(text.harmful or text.kind == exchanges.REFUSED) for text in test]
    found = exchanges.report(by_request, test)
    assert found["ordinary (22): AUROC"] == 1 and found["refusals (6): AUROC"] == 0.5
    assert found["refusals flagged, 5 % of ordinary"] == 100


def test_worlds_hold_each_talk_against_its_own_limit_and_close_all_streams() -> None:
    scorer = ScriptedScorer("mist")
    limits = Thresholds(input_single=0, input_multi=0, output_single=0, output_multi=11)
    once = (Message("user", "Sing."),)
    twice = (*once, Message("assistant", "La."), Message("user", "More."))
    those = [
        worlds.Talk("a", "x", once, "A mist."),
        worlds.Talk("b", "x", twice, "A mist."),
        worlds.Talk("c", "x", (Message("user", "Mist?"),), "No."),
        worlds.Talk("d", "x", once, ""),
    ]
    judged = list(worlds.judge(scorer, limits, those))
    assert [(one.stopped, one.blocked) for one in judged] == [
        (True, False),
        (False, False),
        (False, True),
        (False, False),
    ]
    assert [one.text.kind for one in judged] == ["single", "multi", "single", "single"]
    assert scorer.open == 0


def test_worlds_hand_on_a_failure() -> None:
    scorer = ScriptedScorer("mist", fails_at=1)
    limits = Thresholds(0, 0, 0, 0)
    with pytest.raises(RuntimeError, match="scripted failure"):
        list(worlds.judge(scorer, limits, [worlds.Talk("a", "x", (Message("user", "Sing."),), "One two.")]))
    assert scorer.open == 0


def test_the_worst_errors_of_both_kinds_are_written(tmp_path: Path) -> None:
    texts = [public.Text(str(n), "x", "Mist?", None, n % 2 == 0) for n in range(6)]
    public.write_errors(tmp_path / "e.jsonl", [(float(n), text) for n, text in enumerate(texts)], count=2)
    rows = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    assert [(one["error"], one["id"]) for one in rows] == [
        ("miss", "0"),
        ("miss", "2"),
        ("false alarm", "5"),
        ("false alarm", "3"),
    ]
