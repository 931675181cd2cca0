"""Events of a streamed response, made of the texts that were released and numbered without a gap."""

from typing import Any

import msgspec

from marbury.serve.protocols.responses.items import FILTERED, NO_USAGE, Head, OpenItem, Slot
from marbury.serve.protocols.responses.wire import KINDS

_encode = msgspec.json.Encoder().encode


class EventWriter:
    """Writes what a client hears, each thing once and in the order of the protocol."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._out: list[bytes] = []
        self._number = 0

    def take(self) -> bytes:
        """All that was written since the last time."""
        out, self._out = b"".join(self._out), []
        return out

    def begin(self) -> None:
        """The beginning of the response."""
        for name in ("created", "in_progress"):
            self._event(f"response.{name}", response=self._head.shape("in_progress", []))

    def open_item(self, item: OpenItem) -> None:
        """An item begins."""
        item.told = True
        self._event("response.output_item.added", output_index=item.index, item=item.shape(empty=True))

    def open_slot(self, item: OpenItem, slot: Slot) -> None:
        """A text begins."""
        slot.told = True
        if part := KINDS[slot.place[0]].part:
            self._at(f"{part}.added", item, slot, part=slot.part())

    def text(self, item: OpenItem, slot: Slot, text: str) -> None:
        """Text that was released."""
        if text:
            slot.text += text
            self._at(f"{KINDS[slot.place[0]].stem}.delta", item, slot, delta=text, **_logprobs(slot))

    def close_slot(self, item: OpenItem, slot: Slot) -> None:
        """A text has ended."""
        slot.done, kind = True, KINDS[slot.place[0]]
        self._at(f"{kind.stem}.done", item, slot, **{kind.field: slot.text}, **_logprobs(slot))
        if kind.part:
            self._at(f"{kind.part}.done", item, slot, part=slot.part())

    def close_item(self, item: OpenItem, status: str) -> None:
        """An item has ended."""
        item.done, item.status = True, status
        self._event("response.output_item.done", output_index=item.index, item=item.shape())

    def end(self, items: list[OpenItem], status: str, usage: Any, reason: str) -> None:
        """The end of the response."""
        shape = self._head.shape(status, [item.shape() for item in items if item.told], usage, reason)
        self._event(f"response.{status}", response=shape)

    def stop(self, items: list[OpenItem]) -> None:
        """The guard ends the response: what is open is closed as incomplete.

        A call's arguments are not said to be done: what has no end must not be carried out.
        """
        for item in items:
            if item.told and not item.done:
                for slot in item.slots.values():
                    if slot.told and not slot.done and KINDS[slot.place[0]].part:
                        self.close_slot(item, slot)
                self.close_item(item, "incomplete")
        output = [item.shape() for item in items if item.told]
        shape = self._head.shape("incomplete", output, NO_USAGE, FILTERED, flagged=True)
        self._event("response.incomplete", response=shape)

    def _at(self, name: str, item: OpenItem, slot: Slot, **values: Any) -> None:
        place = KINDS[slot.place[0]].place
        where = {place: slot.place[1]} if place else {}
        self._event(name, item_id=item.id, output_index=item.index, **where, **values)

    def _event(self, name: str, **values: Any) -> None:
        data = _encode({"type": name, "sequence_number": self._number, **values})
        self._number += 1
        self._out.append(b"event: " + name.encode() + b"\ndata: " + data + b"\n\n")


def _logprobs(slot: Slot) -> dict[str, Any]:
    return {"logprobs": []} if slot.place[0] == "output_text" else {}
