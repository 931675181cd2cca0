"""Responses that are not streamed, and the ordinary empty answer that a blocked request gets."""

from typing import Any

import msgspec

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.escapes import unescaped
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import Asked
from marbury.serve.protocols.responses.events import EventWriter
from marbury.serve.protocols.responses.gate import verdicts
from marbury.serve.protocols.responses.items import FILTERED, NO_USAGE, Head, OpenItem, Slot, opened, withheld
from marbury.serve.protocols.responses.wire import Item, body_from, texts

_encode = msgspec.json.Encoder().encode


class WholeResponse:
    """One reply that came whole: it passes whole or not at all."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._request_id = request_id
        self._head = Head(request_id, asked)
        self._items: list[OpenItem] = []
        self.stopped = False

    async def judge(self, body: bytes) -> bytes:
        """The reply as it may leave.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent what is no response, or holds an item that cannot be judged.
        """
        arrived = body_from(body)
        if arrived.status not in ("completed", "incomplete"):
            raise ModelError("the upstream sent a response that is not finished")
        self._head.take(arrived)
        steps = [step for item in arrived.output or () for step in self._steps(item)]
        self.stopped = any(result.stopped for result in await self._judged.advance(steps))
        if self.stopped:
            return _empty(self._head, self._request_id, arrived.usage or NO_USAGE)
        reason = word(arrived.incomplete_details.reason if arrived.incomplete_details else None, "")
        output = [item.shape() for item in self._items]
        return _encode(self._head.shape(arrived.status, output, arrived.usage or {}, reason))

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every text."""
        return verdicts(self._items)

    def _steps(self, said: Item) -> list[tuple[AsyncWatch, str | None]]:
        """The item as it passes if none of these steps is stopped."""
        item = opened(said, len(self._items))
        item.status = "incomplete" if said.status == "incomplete" else "completed"
        self._items.append(item)
        steps: list[tuple[AsyncWatch, str | None]] = []
        if item.kind in ("function_call", "custom_tool_call"):
            item.name, item.called = self._judged.watch(), said.name or ""
            steps += [(item.name, item.called), (item.name, None)]
        for place, text in texts(said):
            watch = self._judged.watch()
            item.slots[place] = Slot(place, watch, released=[text])
            steps += [(watch, unescaped(text) if place[0] == "arguments" else text), (watch, None)]
        return steps


def blocked(asked: Asked, request_id: str) -> bytes:
    """The answer to a blocked request: an empty message and the status `incomplete`, streamed if that was asked."""
    head = Head(request_id, asked)
    if not asked.stream:
        return _empty(head, request_id, NO_USAGE)
    writer, item = EventWriter(head), withheld(request_id)
    writer.begin()
    writer.open_item(item)
    for slot in item.slots.values():
        writer.open_slot(item, slot)
    writer.stop([item])
    return writer.take()


def _empty(head: Head, request_id: str, usage: Any) -> bytes:
    item = withheld(request_id)
    item.status = "incomplete"
    return _encode(head.shape("incomplete", [item.shape()], usage, FILTERED, flagged=True))
