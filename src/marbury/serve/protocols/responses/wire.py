"""Responses and their events as the upstream sends them. What has no field here is dropped while decoding."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from marbury.errors import ModelError


class Part(msgspec.Struct):
    """A part of a message, a reasoning or its summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None


class Item(msgspec.Struct):
    """An item of the output."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    status: str | None = None
    phase: str | None = None
    name: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None


class Details(msgspec.Struct):
    """Why a response is not complete."""

    reason: str | None = None


class Body(msgspec.Struct):
    """A response."""

    id: str | None = None
    created_at: int | float | None = None
    model: str | None = None
    status: str | None = None
    service_tier: str | None = None
    incomplete_details: Details | None = None
    output: list[Item] | None = None
    usage: Any = None
    error: Any = None


class Event(msgspec.Struct):
    """An event of a streamed response."""

    type: str = ""
    response: Body | None = None
    item: Item | None = None
    part: Part | None = None
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: str | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    error: Any = None


class Kind(NamedTuple):
    """One kind of text: the item it belongs to, and how its events are called."""

    item: str
    stem: str  # of `.delta` and `.done`
    field: str  # with the text when it is done
    place: str = ""  # the field that numbers its parts
    part: str = ""  # stem of the events that open and close a part


_CONTENT, _SUMMARY = "response.content_part", "response.reasoning_summary_part"
KINDS: dict[str, Kind] = {
    "output_text": Kind("message", "response.output_text", "text", "content_index", _CONTENT),
    "refusal": Kind("message", "response.refusal", "refusal", "content_index", _CONTENT),
    "reasoning_text": Kind("reasoning", "response.reasoning_text", "text", "content_index", _CONTENT),
    "summary_text": Kind("reasoning", "response.reasoning_summary_text", "text", "summary_index", _SUMMARY),
    "arguments": Kind("function_call", "response.function_call_arguments", "arguments"),
    "input": Kind("custom_tool_call", "response.custom_tool_call_input", "input"),
}
ITEMS = frozenset(kind.item for kind in KINDS.values())
Place = tuple[str, int]  # a kind of text, and the number of its part


def body_from(data: bytes) -> Body:
    """A response that came whole.

    Raises:
        ModelError: it is an error, or no response.
    """
    return checked(_decoded(data, _BODY))


def event_from(data: bytes) -> Event:
    """An event.

    Raises:
        ModelError: it is an error, or no event.
    """
    event: Event = _decoded(data, _EVENT)
    if event.error is not None or event.type in ("error", "response.failed"):
        raise ModelError("the upstream sent an error in place of a reply")
    if event.response is not None:
        checked(event.response)
    return event


def checked(body: Body) -> Body:
    """A response that has not failed. Raises ModelError."""
    if body.error is not None or body.status in ("failed", "cancelled"):
        raise ModelError("the upstream sent a response that failed")
    return body


def texts(item: Item) -> Iterator[tuple[Place, str]]:
    """The texts of an item, in the order in which they are judged.

    Raises:
        ModelError: a part of it is of a kind that cannot be judged.
    """
    for number, part in enumerate(item.summary or ()):
        yield place(part, number, item.type), part.text or ""
    for number, part in enumerate(item.content or ()):
        yield place(part, number, item.type), (part.refusal if part.type == "refusal" else part.text) or ""
    for kind in ("arguments", "input"):
        text = getattr(item, kind)
        if text is not None and KINDS[kind].item == item.type:
            yield (kind, 0), text


def place(part: Part, number: int, item: str) -> Place:
    """Where the text of a part stands.

    Raises:
        ModelError: it is of a kind that cannot be judged, or belongs to another item.
    """
    if part.type not in KINDS or KINDS[part.type].item != item or number < 0:
        raise ModelError("the upstream sent a part of a kind that cannot be judged")
    return part.type, number


_BODY = msgspec.json.Decoder(Body).decode
_EVENT = msgspec.json.Decoder(Event).decode


def _decoded(data: bytes, decode: Any) -> Any:
    try:
        return decode(data)
    except (ValueError, RecursionError) as error:  # malformed JSON or UTF-8, or another shape
        raise ModelError(f"the upstream sent what is no response: {type(error).__name__}") from error
