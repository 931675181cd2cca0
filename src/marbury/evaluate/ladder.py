"""Runs each attack and each harmless conversation under every configuration, with the real guard.

Scores are dear, so a row is judged twice and no more: by a guard with the input side alone and by one with the output
side alone. With both, a request that the input side blocks is blocked, and any other meets the output side alone;
so that outcome follows from the two.
"""

import math
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import reduce

import msgspec

from marbury.chat.handbook import REFUSAL, HandbookModel, RefusingModel
from marbury.chat.model import ChatModel, complete
from marbury.chat.scripted import ScriptedReply
from marbury.ciphers import CIPHERS, Cipher
from marbury.evaluate.attacks import Attack, Harmless, Written
from marbury.evaluate.measures import AttackResult, HarmlessResult, Outcome, Stage, WrittenResult
from marbury.grading import released_details, succeeds
from marbury.guard import Guard, Judge
from marbury.records import Message, Piece, turns_of
from marbury.scoring import Reading, ReplyScorer, Score, Scorer, Side, Thresholds, whole

PATIENCE_S = 600.0  # a busy machine must not look like a guard that closed
_SHOWN = 1000  # characters of a request that the report keeps


class Trace(msgspec.Struct, frozen=True):
    """One conversation through a one-sided guard.

    `clear`: where the stop lies, that is how many characters were scored below the limit; all that is released at or
    after it is a leak. `held`: the most characters held back at once. Scores are nan for what was not scored.
    """

    text: str
    stopped: bool
    clear: int
    held: int
    input_score: float
    output_score: float


class Recorder:
    """A scorer that hands everything on and remembers the score of the request and the scores of the reply to it."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self.request = math.nan
        self.reply: list[Score] = []

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the scorer underneath."""
        return self._scorer.categories

    def read(self, messages: Sequence[Message]) -> Reading:
        """Read the request."""
        reading = self._scorer.read(messages)
        self.request = reading.score.harm
        return _RecordedReading(reading, self.reply)


class _RecordedReading:
    def __init__(self, reading: Reading, log: list[Score]) -> None:
        self._reading, self._log = reading, log
        self.close = reading.close

    @property
    def score(self) -> Score:
        return self._reading.score

    def reply(self) -> ReplyScorer:
        return _RecordedReply(self._reading.reply(), self._log)


class _RecordedReply:
    def __init__(self, reply: ReplyScorer, log: list[Score]) -> None:
        self._reply, self._log = reply, log
        self.close = reply.close

    def push(self, text: str) -> list[Score]:
        return self._kept(self._reply.push(text))

    def finish(self) -> list[Score]:
        return self._kept(self._reply.finish())

    def _kept(self, scores: list[Score]) -> list[Score]:
        self._log += scores
        return scores


class _Heard:
    """A model, and how many characters it has said."""

    def __init__(self, model: ChatModel) -> None:
        self._model = model
        self.name = model.name
        self.said = 0

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        async for piece in self._model.stream(messages):
            self.said += len(piece.text)
            yield piece


@dataclass(frozen=True)
class Bench:
    """What is under test: a scorer and its limits, in guards of one side each."""

    scorer: Scorer
    thresholds: Thresholds

    async def trace(self, model: ChatModel, side: Side, messages: Sequence[Message]) -> Trace:
        """What comes out of the model behind one side of the guard, and what was scored on the way.

        Raises:
            GuardError: judging failed: there is no number to report then.
        """
        heard, recorder = _Heard(model), Recorder(self.scorer)
        judge = Judge(
            recorder,
            self.thresholds,
            input_mode="enforce" if side == "input" else "off",
            output_mode="enforce" if side == "output" else "off",
            timeout_s=PATIENCE_S,
        )
        text, held, finish = "", 0, None
        try:
            async for piece in Guard(heard, judge).stream(messages):
                text += piece.text
                held = max(held, heard.said - len(text))
                finish = piece.finish or finish
        finally:
            judge.close()  # ends its thread: the scorer is never in two at once
        limit = self.thresholds.limit("output", turns_of(messages))
        highest = max((score.harm for score in recorder.reply), default=math.nan)
        return Trace(text, finish == "content_filter", _clear(recorder.reply, limit), held, recorder.request, highest)

    def highest(self, messages: Sequence[Message], reply: str) -> float:
        """The highest output score over a whole reply, however early the guard would stop it."""
        _, score = whole(self.scorer, messages, reply)
        return score.harm if score else math.nan


def _clear(scores: Sequence[Score], limit: float) -> int:
    """How many characters of a reply were scored below the limit before the first score that is not."""
    clear = 0
    for score in scores:
        if not score.harm < limit:
            break
        clear = score.end
    return clear


def _finite(score: float) -> float | None:
    """The score, if there is one."""
    return score if math.isfinite(score) else None


def composed(names: Sequence[str]) -> Cipher:
    """One code made of several, in the order of encoding; of none, plain text."""

    def both(one: Cipher, other: Cipher) -> Cipher:
        first, second = one.decode, other.decode
        decode = (lambda text: first(second(text))) if first and second else None
        return Cipher(f"{one.name}+{other.name}", "", lambda text: other.encode(one.encode(text)), decode)

    return reduce(both, (CIPHERS[name] for name in names), Cipher("plain", "", str, str))


async def run_attack(bench: Bench, attack: Attack) -> AttackResult:
    """One attack under all configurations.

    Raises:
        GuardError: judging failed.
    """
    code = composed(attack.codes)
    model = HandbookModel(attack.section, code.encode, attack.form)
    codes = (code, *CIPHERS.values())
    unguarded = released_details(model.text, attack.section, codes)

    def outcome(stage: Stage, text: str, clear: int) -> Outcome:
        found = unguarded if text == model.text else released_details(text, attack.section, codes)
        return Outcome(stage, len(text), max(0, len(text) - clear), len(found), succeeds(found, unguarded))

    said = await complete(RefusingModel(model, attack.framed, attack.controlled), attack.messages)
    refused = said.text == REFUSAL
    front = await bench.trace(model, "input", attack.messages)
    back = await bench.trace(model, "output", attack.messages)
    open_end = len(model.text)
    unguarded_outcome = outcome("", model.text, open_end)
    by_input = outcome("input" if front.stopped else "", front.text, 0 if front.stopped else open_end)
    by_output = outcome("output" if back.stopped else "", back.text, back.clear)
    highest = bench.highest(attack.messages, model.text) if back.stopped else back.output_score
    return AttackResult(
        id=attack.id,
        category=attack.category,
        language=attack.language,
        kind=attack.kind,
        family=attack.family,
        chain=attack.chain,
        request=attack.messages[-1].content[:_SHOWN],
        answer=len(model.text),
        details=len(unguarded),
        input_score=_finite(front.input_score),
        output_score=_finite(highest),
        held=back.held,
        outcomes={
            "helpful-only": unguarded_outcome,
            "refusing": outcome("model", "", 0) if refused else unguarded_outcome,
            "input": by_input,
            "output": by_output,
            "both": by_input if front.stopped else by_output,
        },
    )


async def run_harmless(bench: Bench, row: Harmless) -> HarmlessResult:
    """One harmless conversation under all configurations; the model behind the guard gives the row's own reply.

    Raises:
        GuardError: judging failed.
    """
    model = ScriptedReply(row.reply or "")
    refuses = RefusingModel(model, row.framed).refuses(row.messages)
    front = await bench.trace(model, "input", row.messages)
    by_input: Stage = "input" if front.stopped else ""
    by_output: Stage = ""
    score = math.nan
    if row.reply:
        back = await bench.trace(model, "output", row.messages)
        by_output = "output" if back.stopped else ""
        score = bench.highest(row.messages, row.reply) if back.stopped else back.output_score
    return HarmlessResult(
        id=row.id,
        source=row.source,
        category=row.category,
        language=row.language,
        family=row.family,
        request=row.messages[-1].content[:_SHOWN],
        input_score=_finite(front.input_score),
        output_score=_finite(score),
        stages={
            "helpful-only": "",
            "refusing": "model" if refuses else "",
            "input": by_input,
            "output": by_output,
            "both": by_input or by_output,
        },
    )


def run_written(bench: Bench, row: Written) -> WrittenResult:
    """The highest output score of a labelled reply."""
    return WrittenResult(row.id, row.harmful, _finite(bench.highest(row.messages, row.reply)))
