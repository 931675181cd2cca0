"""Judges a streamed message on its way back.

Blocks leave in the order in which they came, each as far as its text was released. When one channel is stopped, the
open block is closed and the message ends as a refusal. What is done with a batch of events is first planned, then
judged in one trip to the classifier, then performed in the order of the plan.
"""

from typing import Any

from marbury.errors import GuardError, ModelError
from marbury.guard import JudgedRequest, Released
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.messages.speech import Block, Op, Speech
from marbury.serve.protocols.messages.wire import (
    DROPPED,
    REFUSED,
    TEXTS,
    TOOL,
    Event,
    Part,
    ending,
    event,
    event_from,
    head,
    input_of,
)
from marbury.serve.protocols.plain import call_id, numbers
from marbury.serve.protocols.protocol import Asked

_SAID_IN = {"text": "text_delta", "thinking": "thinking_delta", TOOL: "input_json_delta"}
_FIELD = {"text": "text", "thinking": "thinking", TOOL: "partial_json"}
_UNREAD = ("signature_delta", "citations_delta")  # dropped


class MessageGate:
    """One streamed message: events of the upstream in, what may leave out."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._asked = asked
        self._request_id = request_id
        self._speech = Speech(judged, asked)
        # What the upstream has said
        self._begun = False
        self._open: Block | None = None
        self._index: int | None = None  # the upstream's number of the block that is open, read or not
        self._ending: dict[str, Any] | None = None
        self._usage: dict[str, Any] = {"output_tokens": 0}
        # What leaves
        self._out: list[bytes] = []
        self._waiting: list[Block] = []  # begun by the upstream, not ended here; the first may have left in part
        self._told = False  # the client has heard of the first of them
        self._count = 0  # blocks that have ended here
        self.stopped = False
        self.ended = False

    async def feed(self, events: list[bytes]) -> bytes:
        """What may leave after these events.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent an error, or what is no message.
        """
        for data in events:
            self._plan(data)
        ops, steps = self._speech.take()
        released = await self._judged.advance(steps) if steps else []
        self._perform(ops, released)
        out, self._out = b"".join(self._out), []
        return out

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every channel so far."""
        return self._speech.verdicts()

    # Planning: what is to be done, and which texts are to be judged for it

    def _plan(self, data: bytes) -> None:
        if data == b"[DONE]":  # some servers say it after the end
            return
        said = event_from(data)
        if said.type == "ping":
            self._speech.plan.append(Op("ping"))
        elif said.type == "message_start":
            self._plan_begin(said)
        elif not self._begun:
            raise ModelError("the upstream sent a message without its beginning")
        elif said.type == "message_delta":
            self._plan_ending(said)
        elif said.type == "message_stop":
            if self._ending is None:
                raise ModelError("the upstream ended a message that was not finished")
            self._speech.plan.append(Op("end"))
        elif self._ending is None:  # no content is heard after the end
            self._plan_content(said)

    def _plan_begin(self, said: Event) -> None:
        if self._begun or said.message is None:
            raise ModelError("the upstream sent a message that does not begin once")
        self._begun = True
        frame = head(self._asked, self._request_id, said.message)
        self._usage["output_tokens"] = frame["usage"]["output_tokens"]
        self._out.append(event("message_start", message=frame))

    def _plan_content(self, said: Event) -> None:
        if said.type == "content_block_start" and said.content_block is not None:
            self._plan_start(said.index, said.content_block)
        elif said.type == "content_block_delta" and said.delta is not None:
            self._plan_delta(said.index, said.delta)
        elif said.type == "content_block_stop":
            if said.index == self._index:
                self._plan_stop()
        else:
            raise ModelError("the upstream sent an event that cannot be read")

    def _plan_start(self, index: int, part: Part) -> None:
        self._plan_stop()  # servers that translate other protocols forget to
        self._index = index
        if part.type == DROPPED:
            return
        block = self._open = block_of(part, index)
        self._speech.start(block, part.name or "")
        if text := first_text(part):
            self._speech.say(block, text)

    def _plan_delta(self, index: int, part: Part) -> None:
        if index != self._index:
            raise ModelError("the upstream went on with a content block that is not open")
        if self._open is None or part.type in _UNREAD:
            return
        if part.type != _SAID_IN[self._open.kind]:
            raise ModelError("the upstream sent a delta that does not belong to its content block")
        if text := getattr(part, _FIELD[self._open.kind]):
            self._speech.say(self._open, text)

    def _plan_stop(self) -> None:
        if self._open is not None:
            self._speech.stop(self._open)
        self._open = self._index = None

    def _plan_ending(self, said: Event) -> None:
        if said.usage is not None:
            self._usage |= numbers(said.usage)
        if self._ending is None and said.delta is not None and said.delta.stop_reason is not None:
            self._plan_stop()
            self._speech.finish()
            self._ending = ending(said.delta.stop_reason, said.delta.stop_sequence, self._asked)
            self._speech.plan.append(Op("delta"))

    # Performing the plan with what was released

    def _perform(self, ops: list[Op], released: list[Released]) -> None:
        results = iter(released)
        for op in ops:
            if self.ended:
                return
            if op.channel is not None:
                self._released(op, next(results))
            elif op.kind == "start" and op.block is not None:
                self._waiting.append(op.block)
            elif op.kind == "stop" and op.block is not None:
                op.block.complete = True
            elif op.kind == "ping":
                self._out.append(event("ping"))
            elif op.kind == "delta":
                self._hand_out()
                if self._waiting:
                    raise GuardError("a part of a message was never released")
                self._end_message(self._ending or REFUSED)
            else:
                self._out.append(event("message_stop"))
                self.ended = True
        self._hand_out()

    def _released(self, op: Op, result: Released) -> None:
        assert op.channel is not None
        op.channel.take(result)
        if result.stopped:
            self.stopped = self.ended = True
            self._hand_out()
            if self._told:
                self._out.append(event("content_block_stop", index=self._count))
            self._end_message(REFUSED)
            self._out.append(event("message_stop"))
            self._speech.close()
        elif op.block is not None:
            op.block.named = True

    def _hand_out(self) -> None:
        """Send what was released, as far as nothing before it still waits."""
        while self._waiting:
            block = self._waiting[0]
            if not block.named and block.kind == TOOL:
                return
            if not self._told:
                self._told = True
                self._out.append(event("content_block_start", index=self._count, content_block=_empty(block)))
            if block.ready:
                delta = {"type": _SAID_IN[block.kind], _FIELD[block.kind]: block.ready}
                self._out.append(event("content_block_delta", index=self._count, delta=delta))
                block.ready = ""
            if not block.complete or block.owed:
                return
            self._out.append(event("content_block_stop", index=self._count))
            self._waiting.pop(0)
            self._told, self._count = False, self._count + 1

    def _end_message(self, how: dict[str, Any]) -> None:
        self._out.append(event("message_delta", delta=how, usage=self._usage))


def block_of(part: Part, number: int) -> Block:
    """A block as it begins.

    Raises:
        ModelError: nobody here can read what it holds.
    """
    if part.type not in (*TEXTS, TOOL):
        raise ModelError("the upstream sent a content block that cannot be read")
    return Block(part.type, call_id(part.id) or f"toolu_{number}")


def first_text(part: Part) -> str:
    """The text with which a block begins, or that is in it; an empty input is none."""
    if part.type == TOOL:
        given = input_of(part)
        return "" if "".join(given.split()) == "{}" else given
    return (part.text if part.type == "text" else part.thinking) or ""


def _empty(block: Block) -> dict[str, Any]:
    if block.kind == TOOL:
        return {"type": TOOL, "id": block.id, "name": block.name, "input": {}}
    return {"type": block.kind, block.kind: ""} | ({"signature": ""} if block.kind == "thinking" else {})
