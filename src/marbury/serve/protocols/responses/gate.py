"""Judges a streamed response on its way back: every text of every item has a watch of its own.

What leaves is written anew from the texts that were released: nothing of the upstream's events but their kind, their
order and ids passes. Events that are not known say nothing here; an item or a part that is not known breaks the reply.
When one text is stopped, the response ends. Planned, judged and performed as a chat completion is (`chat/gate.py`).
"""

from typing import Any, NamedTuple

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest, Released
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.escapes import Unescaping
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import Asked
from marbury.serve.protocols.responses.events import EventWriter
from marbury.serve.protocols.responses.items import Head, OpenItem, Slot, opened
from marbury.serve.protocols.responses.wire import KINDS, Body, Event, Item, Place, event_from, place, texts
from marbury.serve.protocols.watched import one_more

_DELTAS = {f"{kind.stem}.delta": name for name, kind in KINDS.items()}
_DONES = {f"{kind.stem}.done": name for name, kind in KINDS.items()}
_PARTS = {f"{kind.part}.added": kind.place for kind in KINDS.values() if kind.part}
_ENDS = ("response.completed", "response.incomplete")


class Op(NamedTuple):
    """One thing to do, in order: name, text and rest (with what a watch released), item, slot, close; begin and end."""

    kind: str
    item: OpenItem | None = None
    slot: Slot | None = None
    value: Any = None


class ResponseGate:
    """One streamed reply: events of the upstream in, what may leave out."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._head = Head(request_id, asked)
        self._writer = EventWriter(self._head)
        self._begun = False
        self._over = False  # the upstream has said its end
        self._items: dict[int, OpenItem] = {}
        self._ops: list[Op] = []
        self._steps: list[tuple[AsyncWatch, str | None]] = []
        self.stopped = False
        self.ended = False  # all has been said; the upstream may be closed

    async def feed(self, events: list[bytes]) -> bytes:
        """What may leave after these events.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent an error, or what is no response.
        """
        for event in events:
            self._plan(event)
        steps, self._steps = self._steps, []
        released = await self._judged.advance(steps) if steps else []
        ops, self._ops = self._ops, []
        self._perform(ops, released)
        return self._writer.take()

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every text so far."""
        return verdicts(list(self._items.values()))

    # Planning: what is to be done, and which texts are to be judged for it

    def _plan(self, data: bytes) -> None:
        if self._over or self.ended:
            return  # nothing is heard after the end
        if data == b"[DONE]":
            raise ModelError("the upstream ended a reply that was not finished")
        event = event_from(data)
        if not self._begun:
            self._begun = True
            if event.response is not None:
                self._head.take(event.response)
            self._ops.append(Op("begin"))
        self._plan_event(event)

    def _plan_event(self, event: Event) -> None:
        if event.type == "response.output_item.added":
            self._plan_item(event.item or Item(), event.output_index)
        elif event.type in _PARTS:
            self._plan_part(event, _PARTS[event.type])
        elif event.type in _DELTAS:
            item, where = self._at(event, _DELTAS[event.type])
            self._plan_text(item, where, event.delta or "")
        elif event.type in _DONES:
            item, where = self._at(event, kind := _DONES[event.type])
            self._plan_done(item, where, getattr(event, KINDS[kind].field) or "")
        elif event.type == "response.output_item.done":
            self._plan_item_done(event.item or Item(), event.output_index)
        elif event.type in _ENDS:
            self._plan_end(event.response or Body(), event.type.removeprefix("response."))

    def _at(self, event: Event, kind: str) -> tuple[OpenItem, Place]:
        item = self._items.get(event.output_index)
        if item is None or item.closed or item.kind != KINDS[kind].item:
            raise ModelError("the upstream sent a text that belongs to no open item")
        number: int = getattr(event, KINDS[kind].place) if KINDS[kind].place else 0
        return item, (kind, number)

    def _plan_item(self, said: Item, index: int) -> OpenItem:
        if index in self._items or index < 0:
            raise ModelError("the upstream began an item twice")
        item = self._items[index] = opened(said, index)
        if item.kind in ("function_call", "custom_tool_call"):
            item.name = one_more(self._judged)
            self._step(item.name, said.name or "", Op("name", item))
            self._step(item.name, None, Op("name", item))
        self._ops.append(Op("item", item))
        for where, text in texts(said):
            self._plan_text(item, where, text)
        return item

    def _plan_part(self, event: Event, number: str) -> None:
        item, part = self._items.get(event.output_index), event.part
        if item is None or item.closed or part is None:
            raise ModelError("the upstream began a part that belongs to no open item")
        where = place(part, getattr(event, number), item.kind)
        self._plan_text(item, where, (part.refusal if part.type == "refusal" else part.text) or "")

    def _plan_text(self, item: OpenItem, where: Place, text: str) -> None:
        slot = self._slot(item, where)
        if slot.closed:
            raise ModelError("the upstream went on with a text that it had ended")
        slot.arrived.append(text)
        self._plan_read(item, slot, slot.escapes.feed(text) if slot.escapes else text)

    def _plan_read(self, item: OpenItem, slot: Slot, text: str) -> None:
        if text:
            self._step(slot.watch, text, Op("text", item, slot))

    def _plan_done(self, item: OpenItem, where: Place, full: str) -> None:
        """What a text's end adds to it is judged; where it says something else, what was judged stands."""
        slot = self._slot(item, where)
        if slot.closed:
            return
        if full.startswith(arrived := "".join(slot.arrived)):
            self._plan_text(item, where, full[len(arrived) :])
        slot.closed = True
        if slot.escapes:
            self._plan_read(item, slot, slot.escapes.feed("", last=True))
        self._step(slot.watch, None, Op("rest", item, slot))

    def _plan_item_done(self, said: Item, index: int) -> None:
        item = self._items.get(index) or self._plan_item(said, index)
        if item.closed:
            return
        if said.type != item.kind:
            raise ModelError("the upstream ended another item than it had begun")
        for where, text in texts(said):
            self._plan_done(item, where, text)
        self._plan_close(item, "incomplete" if said.status == "incomplete" else "completed")

    def _plan_close(self, item: OpenItem, status: str) -> None:
        for slot in list(item.slots.values()):
            self._plan_done(item, slot.place, "")
        item.closed = True
        self._ops.append(Op("close", item, None, status))

    def _plan_end(self, body: Body, kind: str) -> None:
        known = {item.id: item for item in self._items.values()}
        for index, said in enumerate(body.output or ()):
            item = known.get(said.id or "") or self._items.get(index)
            if item is None or not item.closed:
                self._plan_item_done(said, item.index if item else index)
        for item in self._items.values():
            if not item.closed:
                self._plan_close(item, "incomplete")
        reason = word(body.incomplete_details.reason if body.incomplete_details else None, "")
        self._over = True
        self._ops.append(Op("end", None, None, (kind, body.usage, reason)))

    def _slot(self, item: OpenItem, where: Place) -> Slot:
        slot = item.slots.get(where)
        if where[1] < 0:
            raise ModelError("the upstream sent a part of a number below zero")
        if slot is None:
            escapes = Unescaping() if where[0] == "arguments" else None
            slot = item.slots[where] = Slot(where, watch=one_more(self._judged), escapes=escapes)
            self._ops.append(Op("slot", item, slot))
        return slot

    def _step(self, watch: AsyncWatch | None, text: str | None, op: Op) -> None:
        assert watch is not None
        self._steps.append((watch, text))
        self._ops.append(op)

    # Performing the plan with what was released

    def _perform(self, ops: list[Op], released: list[Released]) -> None:
        results = iter(released)
        for op in ops:
            result = next(results) if op.kind in ("name", "text", "rest") else None
            if self.ended:
                return
            if op.item is None:
                self._perform_common(op)
            elif result is not None:
                self._perform_text(op.item, op.slot, result, last=op.kind == "rest")
            elif op.kind == "item":
                self._writer.open_item(op.item)
            elif op.slot is not None:
                self._writer.open_slot(op.item, op.slot)
            else:
                self._writer.close_item(op.item, op.value)

    def _perform_text(self, item: OpenItem, slot: Slot | None, result: Released, *, last: bool) -> None:
        if slot is None:
            item.called += result.text
        else:
            text = slot.escapes.release(len(result.text)) if slot.escapes else result.text
            self._writer.text(item, slot, text)
        if result.stopped:
            self._stop()
        elif last and slot is not None:
            self._writer.close_slot(item, slot)

    def _perform_common(self, op: Op) -> None:
        if op.kind == "begin":
            self._writer.begin()
        else:
            self._writer.end(self._told(), *op.value)
            self.ended = True

    def _stop(self) -> None:
        self.stopped = self.ended = True
        self._writer.stop(self._told())

    def _told(self) -> list[OpenItem]:
        return [self._items[index] for index in sorted(self._items)]


def verdicts(items: list[OpenItem]) -> list[OutputVerdict]:
    """The verdict of every text of some items."""
    named = [(f"output[{item.index}].name", item.name) for item in items]
    named += [
        (f"output[{item.index}].{slot.place[0]}[{slot.place[1]}]", slot.watch)
        for item in items
        for slot in item.slots.values()
    ]
    return [OutputVerdict(0, name, watch.verdict) for name, watch in named if watch and watch.verdict]
