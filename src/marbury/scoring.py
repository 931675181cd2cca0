"""What a classifier says and what the guard makes of it. Logits and values only: no torch, no network.

`Scorer` is the one contract between the classifiers and the guard. A scripted scorer (`ScriptedScorer`)
keeps it without any learning, for tests and drills.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from marbury.records import Message, Turns

Side = Literal["input", "output"]


class Score(msgspec.Struct, frozen=True):
    """The scores at one token.

    `end`: how many characters of the text are covered up to and including this token.
    `harm`: logit that the whole text will be harmful. `categories`: one logit per restricted category.
    """

    end: int
    harm: float
    categories: tuple[float, ...] = ()


class Verdict(msgspec.Struct, frozen=True):
    """What the guard decided about a request or a reply, and from which numbers."""

    side: Side
    flagged: bool
    score: float
    threshold: float
    category: str | None = None


class Thresholds(msgspec.Struct, frozen=True):
    """Four limits on logits. A score is flagged when it is greater than or equal to its limit."""

    input_single: float
    input_multi: float
    output_single: float
    output_multi: float

    def limit(self, side: Side, turns: Turns) -> float:
        """The limit for one side and one kind of conversation."""
        value: float = getattr(self, f"{side}_{turns}")
        return value


class ReplyScorer(Protocol):
    """Scores one reply while it grows. Not for use by two threads at once."""

    def push(self, text: str) -> list[Score]:
        """Take more text; give the scores of the tokens that no later text can change."""
        ...

    def finish(self) -> list[Score]:
        """The text is complete: give the scores that were still held back."""
        ...

    def close(self) -> None:
        """Free the memory of the stream. May be called twice."""
        ...


class Reading(Protocol):
    """A request that has been read: its score, and the way to score replies to it."""

    @property
    def score(self) -> Score:
        """The highest score over the turns of the request."""
        ...

    def reply(self) -> ReplyScorer:
        """Begin a reply to this request (one call per choice and channel)."""
        ...

    def close(self) -> None:
        """Free the memory of the request. May be called twice."""
        ...


class Scorer(Protocol):
    """Reads requests and scores replies."""

    @property
    def categories(self) -> tuple[str, ...]:
        """The restricted categories, in the order of `Score.categories`."""
        ...

    def read(self, messages: Sequence[Message]) -> Reading:
        """Read a request: all messages before the reply."""
        ...


@runtime_checkable
class ManyScorer(Scorer, Protocol):
    """A scorer that can advance many replies in one step."""

    def push_all(self, pushes: Sequence[tuple[Any, str | None]]) -> list[list[Score] | Exception]:
        """Push text to many of its replies, or finish them with None: what each `push` would give, or raise.

        One that fails stops no other. No reply may occur twice.
        """
        ...


def push_all(scorer: Scorer, pushes: Sequence[tuple[ReplyScorer, str | None]]) -> list[list[Score] | Exception]:
    """Push to many replies, or finish them with None: in one step where the scorer can, else one after the other."""
    if isinstance(scorer, ManyScorer):
        return scorer.push_all(pushes)
    return [_push(reply, text) for reply, text in pushes]


def _push(reply: ReplyScorer, text: str | None) -> list[Score] | Exception:
    try:
        return reply.finish() if text is None else reply.push(text)
    except Exception as error:  # handed to whoever asked
        return error


def verdict(score: Score, limit: float, side: Side, categories: Sequence[str]) -> Verdict:
    """The decision for one score. A score that is not a number is flagged: judging closed, never open."""
    flagged = not score.harm < limit
    best = max(range(len(score.categories)), key=score.categories.__getitem__, default=None)
    category = categories[best] if flagged and best is not None else None
    return Verdict(side=side, flagged=flagged, score=score.harm, threshold=limit, category=category)


def whole(scorer: Scorer, request: Sequence[Message], reply: str | None) -> tuple[Score, Score | None]:
    """The score of a request, and the highest score along its whole reply (None without one).

    A score that is not a number counts as the highest.
    """
    reading = scorer.read(request)
    try:
        if reply is None:
            return reading.score, None
        stream = reading.reply()
        try:
            scores = stream.push(reply) + stream.finish()
        finally:
            stream.close()
        return reading.score, max(scores, key=lambda score: (math.isnan(score.harm), score.harm), default=None)
    finally:
        reading.close()
