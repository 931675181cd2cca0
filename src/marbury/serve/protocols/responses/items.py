"""The output of a response as it leaves here: items made of the texts that were released."""

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from marbury.errors import ModelError
from marbury.guard import AsyncWatch
from marbury.serve.protocols.escapes import Unescaping
from marbury.serve.protocols.flagged import MODERATION
from marbury.serve.protocols.plain import call_id, numbers, word
from marbury.serve.protocols.protocol import Asked
from marbury.serve.protocols.responses.wire import ITEMS, Body, Item, Place

FILTERED = "content_filter"
NO_USAGE: dict[str, Any] = {
    "input_tokens": 0,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 0,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 0,
}
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


@dataclass(eq=False)
class Slot:
    """One text of an item."""

    place: Place
    watch: AsyncWatch | None = None  # None where there is nothing to watch: in the answer to a blocked request
    arrived: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)  # pieces, for a text that is put together anew with each is slow
    closed: bool = False  # the upstream has ended it
    told: bool = False  # the client has heard of it
    done: bool = False  # and of its end
    escapes: Unescaping | None = None  # of arguments, which are judged decoded

    @property
    def text(self) -> str:
        """What was released."""
        return "".join(self.released)

    def part(self) -> dict[str, Any]:
        """The text as a part."""
        kind = self.place[0]
        if kind == "output_text":
            return {"type": kind, "text": self.text, "annotations": [], "logprobs": []}
        return {"type": kind, "refusal" if kind == "refusal" else "text": self.text}


@dataclass(eq=False)
class OpenItem:
    """One item of the output."""

    index: int
    kind: str
    id: str
    call_id: str
    phase: str | None
    name: AsyncWatch | None = None  # the watch over its name
    called: str = ""  # the name that was released
    slots: dict[Place, Slot] = field(default_factory=dict)
    closed: bool = False  # the upstream has ended it
    told: bool = False  # the client has heard of it
    done: bool = False  # and of its end
    status: str = "in_progress"

    def shape(self, *, empty: bool = False) -> dict[str, Any]:
        """The item as it stands, or as it began."""
        slots = [] if empty else [self.slots[place] for place in sorted(self.slots, key=lambda place: place[1])]
        shape: dict[str, Any] = {"id": self.id, "type": self.kind, "status": self.status}
        if self.kind == "message":
            shape |= {"role": "assistant", "content": [slot.part() for slot in slots]}
            return shape | ({"phase": self.phase} if self.phase else {})
        if self.kind == "reasoning":
            summary = [slot.part() for slot in slots if slot.place[0] == "summary_text"]
            content = [slot.part() for slot in slots if slot.place[0] == "reasoning_text"]
            return shape | {"summary": summary} | ({"content": content} if content else {})
        said = "arguments" if self.kind == "function_call" else "input"
        return shape | {"call_id": self.call_id, "name": self.called, said: "".join(slot.text for slot in slots)}


def opened(item: Item, index: int) -> OpenItem:
    """An item without its texts.

    Raises:
        ModelError: it is of a kind that cannot be judged.
    """
    if item.type not in ITEMS:
        raise ModelError("the upstream sent an item of a kind that cannot be judged")
    return OpenItem(
        index,
        item.type,
        call_id(item.id) or f"{_PREFIXES[item.type]}_{index}",
        call_id(item.call_id) or f"call_{index}",
        word(item.phase, "") or None,
    )


def withheld(request_id: str) -> OpenItem:
    """The empty message of a blocked request or a reply that was withheld."""
    place = ("output_text", 0)
    return OpenItem(0, "message", f"msg_{request_id}", "", None, slots={place: Slot(place)})


class Head:
    """What all events of one response have in common."""

    def __init__(self, request_id: str, asked: Asked) -> None:
        self._id, self._model = f"resp_{request_id}", asked.model
        self._created: float = int(time.time())
        self._tier: str | None = None
        self._asked: dict[str, Any] = msgspec.json.decode(asked.payload)

    def take(self, body: Body) -> None:
        """Take over what the upstream says."""
        self._id = word(body.id, self._id)
        self._model = word(body.model, self._model)
        self._created = self._created if body.created_at is None else body.created_at
        self._tier = word(body.service_tier, "") or None

    def shape(
        self, status: str, output: list[dict[str, Any]], usage: Any = None, reason: str = "", *, flagged: bool = False
    ) -> dict[str, Any]:
        """The response; what it repeats of the request comes from the request, not from the upstream."""
        shape: dict[str, Any] = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "model": self._model,
            "output": output,
            "usage": None if usage is None else numbers(usage),
            "store": False,
        }
        shape |= {name: self._asked.get(name, default) for name, default in _REPEATED.items()}
        if self._tier:
            shape["service_tier"] = self._tier
        return shape | ({"moderation": MODERATION} if flagged else {})


_REPEATED: dict[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "reasoning": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
}
