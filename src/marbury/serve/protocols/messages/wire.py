"""Messages as the upstream sends them and as they leave here.

The structs hold all that is looked at: what has no field here is dropped while decoding (signatures, citations,
containers and whatever comes next). Of what is kept, texts are judged; the rest is a number or one word.
"""

from typing import Any

import msgspec

from marbury.errors import ModelError
from marbury.serve.protocols.plain import numbers, word
from marbury.serve.protocols.protocol import Asked

TEXTS = ("text", "thinking")  # blocks that are one text
TOOL = "tool_use"
# A block that nobody here can read. It is left out: encrypted thoughts are of use to their writer alone.
DROPPED = "redacted_thinking"
REASONS = (
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
)
# Why it was refused is the same for every refusal, the upstream's own included: an attacker would steer by it.
REFUSED: dict[str, Any] = {
    "stop_reason": "refusal",
    "stop_sequence": None,
    "stop_details": {"type": "refusal", "category": None, "explanation": None},
}
NO_USAGE = {"input_tokens": 0, "output_tokens": 0}


class Part(msgspec.Struct):
    """A content block, or the delta of one, or of the message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None
    stop_sequence: str | None = None


class Arrived(msgspec.Struct):
    """A message, whole or at its beginning."""

    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: list[Part] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: Any = None


class Event(msgspec.Struct):
    """An event of a streamed message."""

    type: str
    index: int = 0
    message: Arrived | None = None
    content_block: Part | None = None
    delta: Part | None = None
    usage: Any = None


class _Stops(msgspec.Struct):
    """What is looked up in a request when the upstream names a stop sequence."""

    stop_sequences: list[str] | None = None


_event = msgspec.json.Decoder(Event).decode
_message = msgspec.json.Decoder(Arrived).decode
_encode = msgspec.json.Encoder().encode


def event_from(data: bytes) -> Event:
    """An event of a stream.

    Raises:
        ModelError: it is none, or an error.
    """
    try:
        event = _event(data)
    except (ValueError, RecursionError) as error:  # malformed JSON or UTF-8, or another shape
        raise ModelError(f"the upstream sent what is no event of a message: {type(error).__name__}") from error
    if event.type == "error":
        raise ModelError("the upstream sent an error in place of a reply")
    return event


def message_from(body: bytes) -> Arrived:
    """A whole message.

    Raises:
        ModelError: it is none.
    """
    try:
        arrived = _message(body)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"the upstream sent what is no message: {type(error).__name__}") from error
    if arrived.type != "message" or arrived.content is None:
        raise ModelError("the upstream sent what is no message")
    return arrived


def input_of(part: Part) -> str:
    """A tool's input as the upstream wrote it; empty where there is none.

    Raises:
        ModelError: it is no object.
    """
    try:
        text = bytes(part.input).decode().strip()
    except UnicodeDecodeError as error:
        raise ModelError("the upstream sent a tool's input that is no UTF-8") from error
    if text in ("", "null"):
        return ""
    if not text.startswith("{"):
        raise ModelError("the upstream sent a tool's input that is no object")
    return text


def ending(reason: str | None, sequence: str | None, asked: Asked) -> dict[str, Any]:
    """Why a message ended; a stop sequence passes if it is one that was asked for, for those were judged."""
    if reason == "refusal":
        return REFUSED
    known = None
    if sequence is not None and sequence in (msgspec.json.decode(asked.payload, type=_Stops).stop_sequences or ()):
        known = sequence
    return {"stop_reason": reason if reason in REASONS else "end_turn", "stop_sequence": known}


def event(kind: str, **fields: Any) -> bytes:
    """An event that leaves."""
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode({"type": kind, **fields}))


def whole(body: dict[str, Any]) -> bytes:
    """A message that leaves whole."""
    return _encode(body)


def head(asked: Asked, request_id: str, arrived: Arrived | None = None) -> dict[str, Any]:
    """The frame of a message without content, still without an end."""
    arrived = arrived or Arrived()
    return {
        "id": word(arrived.id, f"msg_{request_id}"),
        "type": "message",
        "role": "assistant",
        "model": word(arrived.model, asked.model),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": NO_USAGE | numbers(arrived.usage),
    }
