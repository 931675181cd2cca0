"""Judges a streamed completion on its way back: a watch for the text of every choice.

Planned, judged and performed as a chat completion is (`chat/gate.py`), with one channel instead of many.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest, Released
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.completions.wire import DONE, FILTERED, NO_USAGE, Choice, Head, OutChoice, arrived_from
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import Asked


@dataclass(eq=False)
class OpenChoice:
    """One choice while it streams."""

    index: int
    watch: AsyncWatch
    complete: bool = False  # the upstream has said its finish reason
    ended: bool = False  # a finish reason has left


class Op(NamedTuple):
    """One thing to do, in order: text and end (with what a watch released), usage and done."""

    kind: str
    choice: OpenChoice | None = None
    value: Any = None


class CompletionGate:
    """One streamed reply: events of the upstream in, what may leave out."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._asked = asked
        self._head = Head(f"cmpl-{request_id}", asked.model)
        self._begun = False
        self._choices: dict[int, OpenChoice] = {}
        self._usage: Any = None
        self._ops: list[Op] = []
        self._steps: list[tuple[AsyncWatch, str | None]] = []
        self._out: list[bytes] = []
        self.stopped = False  # at least one choice
        self.ended = False  # all has been said; the upstream may be closed

    async def feed(self, events: list[bytes]) -> bytes:
        """What may leave after these events.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent an error, or what is no completion.
        """
        for event in events:
            self._plan(event)
        steps, self._steps = self._steps, []
        released = await self._judged.advance(steps) if steps else []
        ops, self._ops = self._ops, []
        self._perform(ops, released)
        out, self._out = b"".join(self._out), []
        return out

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every choice so far."""
        watches = [(choice.index, choice.watch) for choice in self._choices.values()]
        return [OutputVerdict(index, "text", watch.verdict) for index, watch in watches if watch.verdict is not None]

    def _plan(self, event: bytes) -> None:
        if event == b"[DONE]":
            self._ops.append(Op("done"))
            return
        arrived = arrived_from(event)
        if not self._begun:
            self._begun = True
            self._head.take(arrived)
        for part in arrived.choices or ():
            choice = self._choice(part.index)
            if not choice.complete and not choice.ended:  # nothing is heard after the end
                self._plan_part(choice, part)
        if arrived.usage is not None:
            self._usage = arrived.usage
            self._ops.append(Op("usage", None, arrived.usage))

    def _plan_part(self, choice: OpenChoice, part: Choice) -> None:
        if part.text:
            self._steps.append((choice.watch, part.text))
            self._ops.append(Op("text", choice))
        if part.finish_reason is not None:
            choice.complete = True
            self._steps.append((choice.watch, None))
            self._ops.append(Op("end", choice, word(part.finish_reason, "stop")))

    def _choice(self, index: int) -> OpenChoice:
        choice = self._choices.get(index)
        if choice is None:
            if not 0 <= index < self._asked.choices:
                raise ModelError(f"the upstream sent choice {index} when {self._asked.choices} were asked for")
            choice = self._choices[index] = OpenChoice(index, self._judged.watch(prompt_of(self._asked, index)))
        return choice

    def _perform(self, ops: list[Op], released: list[Released]) -> None:
        results = iter(released)
        for kind, choice, value in ops:
            result = next(results) if choice is not None else None
            if self.ended:
                return
            if choice is None or result is None:
                self._perform_common(kind, value)
            elif not choice.ended:
                self._perform_text(choice, result, value)

    def _perform_text(self, choice: OpenChoice, result: Released, reason: str | None) -> None:
        if result.stopped:
            self.stopped, reason = True, FILTERED
        if result.text or reason:
            self._out.append(self._head.chunk([OutChoice(choice.index, result.text, reason)]))
        if reason:
            choice.ended = True
            self._end_if_over()

    def _end_if_over(self) -> None:
        over = len(self._choices) == self._asked.choices and all(c.ended for c in self._choices.values())
        if over and self.stopped:  # nothing is to come but the usage, and a stopped upstream will not tell it
            if self._asked.include_usage:
                self._out.append(self._head.chunk([], self._usage or NO_USAGE))
            self._finish()

    def _perform_common(self, kind: str, usage: Any) -> None:
        if kind == "usage" and self._asked.include_usage:
            self._out.append(self._head.chunk([], usage))
        elif kind == "done":
            if not self._choices or not all(choice.ended for choice in self._choices.values()):
                raise ModelError("the upstream ended a reply that was not finished")
            self._finish()

    def _finish(self) -> None:
        self._out.append(DONE)
        self.ended = True


def prompt_of(asked: Asked, index: int) -> int:
    """Which prompt a choice continues."""
    return index // (asked.choices // (1 + len(asked.others)))
