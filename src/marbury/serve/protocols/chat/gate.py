"""Judges a streamed chat completion on its way back: every choice and every channel has a watch of its own.

A chunk leaves only with text that its watch released. When one channel of a choice is stopped, the whole choice is
silent from there on and ends with `content_filter`; other choices go on. What is done with a batch of events is first
planned, then judged in one trip to the classifier, then performed in the order of the plan.
"""

from typing import Any, NamedTuple

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest, Released
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.chat.chunks import Call, ChunkWriter, OpenChoice
from marbury.serve.protocols.chat.wire import (
    NO_USAGE,
    Channel,
    Head,
    Said,
    arrived_from,
    call_place,
    channel_name,
    texts,
)
from marbury.serve.protocols.escapes import Unescaping
from marbury.serve.protocols.plain import call_id, numbers, word
from marbury.serve.protocols.protocol import Asked
from marbury.serve.protocols.watched import one_more

DONE = b"data: [DONE]\n\n"
FILTERED = "content_filter"


class Op(NamedTuple):
    """One thing to do, in order: text and rest (with what a watch released), role, end; chunk, usage and done."""

    kind: str
    choice: OpenChoice | None = None
    value: Any = None


class ReplyGate:
    """One streamed reply: events of the upstream in, what may leave out."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._asked = asked
        self._head = Head(f"chatcmpl-{request_id}", asked.model)
        self._begun = False
        self._choices: dict[int, OpenChoice] = {}
        self._usage: dict[str, Any] | None = None
        self._ops: list[Op] = []
        self._steps: list[tuple[AsyncWatch, str | None]] = []
        self._writer = ChunkWriter(self._head)
        self.stopped = False  # at least one choice
        self.ended = False  # all has been said; the upstream may be closed

    async def feed(self, events: list[bytes]) -> bytes:
        """What may leave after these events.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent an error, or what is no chat completion.
        """
        for event in events:
            self._plan(event)
        steps, self._steps = self._steps, []
        released = await self._judged.advance(steps) if steps else []
        ops, self._ops = self._ops, []
        self._perform(ops, released)
        return self._writer.take()

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every channel so far."""
        return [
            OutputVerdict(choice.index, channel_name(channel), watch.verdict)
            for choice in self._choices.values()
            for channel, watch in choice.watches.items()
            if watch.verdict is not None
        ]

    # Planning: what is to be done, and which texts are to be judged for it

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
            if choice.complete or choice.ended:
                continue  # nothing is heard after the end
            if part.delta is not None:
                self._plan_delta(choice, part.delta)
            if part.finish_reason is not None:
                self._plan_end(choice, word(part.finish_reason, "stop"))
        self._ops.append(Op("chunk"))
        if arrived.usage is not None:
            self._usage = numbers(arrived.usage)
            self._ops.append(Op("usage", None, self._usage))

    def _plan_delta(self, choice: OpenChoice, delta: Said) -> None:
        if delta.role is not None:
            self._ops.append(Op("role", choice))
        for position, part in enumerate(delta.tool_calls or ()):
            call = choice.calls.setdefault(call_place(part, position), Call())
            call.id = call.id or call_id(part.id)
        for channel, text in texts(delta):
            if channel[0] in ("name", "arguments"):
                self._plan_names(choice, channel)
            if channel not in choice.watches:
                choice.watches[channel] = one_more(self._judged)
            if channel[0] == "arguments":
                text = choice.escapes.setdefault(channel, Unescaping()).feed(text)
            self._plan_text(choice, channel, text)

    def _plan_text(self, choice: OpenChoice, channel: Channel, text: str) -> None:
        if text:
            self._steps.append((choice.watches[channel], text))
            self._ops.append(Op("text", choice, channel))

    def _plan_names(self, choice: OpenChoice, channel: Channel) -> None:
        """A name is complete when its arguments begin, or another call does."""
        kind, place = channel
        call = choice.calls.setdefault(place, Call())
        if kind == "name" and call.named:
            raise ModelError("the upstream changed the name of a tool call after its arguments had begun")
        for other, called in choice.calls.items():
            if not called.named and (kind == "arguments" or other != place) and ("name", other) in choice.watches:
                self._plan_rest(choice, ("name", other))

    def _plan_rest(self, choice: OpenChoice, channel: Channel) -> None:
        if channel[0] == "name":
            choice.calls[channel[1]].named = True
        if channel in choice.escapes:
            self._plan_text(choice, channel, choice.escapes[channel].feed("", last=True))
        self._steps.append((choice.watches[channel], None))
        self._ops.append(Op("rest", choice, channel))

    def _plan_end(self, choice: OpenChoice, reason: str) -> None:
        choice.complete = True
        for channel in choice.watches:
            if channel[0] != "name" or not choice.calls[channel[1]].named:
                self._plan_rest(choice, channel)
        self._ops.append(Op("end", choice, reason))

    def _choice(self, index: int) -> OpenChoice:
        choice = self._choices.get(index)
        if choice is None:
            if not 0 <= index < self._asked.choices:
                raise ModelError(f"the upstream sent choice {index} when {self._asked.choices} were asked for")
            choice = self._choices[index] = OpenChoice(index)
        return choice

    # Performing the plan with what was released

    def _perform(self, ops: list[Op], released: list[Released]) -> None:
        results = iter(released)
        for kind, choice, value in ops:
            result = next(results) if kind in ("text", "rest") else None
            if self.ended:
                return
            if choice is None:
                self._perform_common(kind, value)
            elif choice.ended:
                continue
            elif result is not None:
                self._writer.release(choice, value, result, complete=kind == "rest")
                if result.stopped:
                    self._stop(choice)
            elif kind == "role":
                self._writer.role(choice)
            else:
                self._end(choice, value)

    def _perform_common(self, kind: str, usage: Any) -> None:
        if kind == "chunk":
            self._writer.flush()
        elif kind == "usage" and self._asked.include_usage:
            self._writer.usage(usage)
        elif kind == "done":
            if not self._choices or not all(choice.ended for choice in self._choices.values()):
                raise ModelError("the upstream ended a reply that was not finished")
            self._finish()

    def _stop(self, choice: OpenChoice) -> None:
        self.stopped = True
        self._end(choice, FILTERED, flagged=True)
        for watch in choice.watches.values():
            watch.close()

    def _end(self, choice: OpenChoice, reason: str, *, flagged: bool = False) -> None:
        choice.ended = True
        self._writer.end(choice, reason, flagged=flagged)
        over = len(self._choices) == self._asked.choices and all(c.ended for c in self._choices.values())
        if over and self.stopped:  # nothing is to come but the usage, and a stopped upstream will not tell it
            if self._asked.include_usage:
                self._writer.usage(self._usage or NO_USAGE)
            self._finish()

    def _finish(self) -> None:
        self._writer.raw(DONE)
        self.ended = True
