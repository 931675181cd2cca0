"""Chat completions as the upstream sends them and as they leave here.

The structs hold all that may pass: what has no field here is dropped while decoding (logprobs, audio, annotations and
whatever comes next). Texts of the model are in `Said`; everything else that passes is a number or one word.
"""

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from marbury.errors import ModelError
from marbury.serve.protocols.flagged import CHAT_MODERATION
from marbury.serve.protocols.plain import word

Channel = tuple[str, int]  # a field of the reply, and the tool call it belongs to
LEGACY = -1  # the place of `function_call` among the tool calls
_TEXTS = ("reasoning_content", "reasoning", "content", "refusal")


class Function(msgspec.Struct, omit_defaults=True):
    """A call's name and arguments."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct, omit_defaults=True):
    """A tool call, or the part of it in a delta."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None


class Said(msgspec.Struct, omit_defaults=True):
    """A message or a delta: all that the model says."""

    role: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None


class Choice(msgspec.Struct):
    """One choice, streamed or whole."""

    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None


class Arrived(msgspec.Struct):
    """A chunk or a whole reply of the upstream."""

    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class OutChoice(msgspec.Struct):
    """A choice of a chunk that leaves."""

    index: int
    delta: Said
    finish_reason: str | None


class OutChunk(msgspec.Struct, omit_defaults=True):
    """A chunk that leaves."""

    id: str
    object: str
    created: int
    model: str
    choices: list[OutChoice]
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    moderation: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Arrived).decode
_encode = msgspec.json.Encoder().encode


def arrived_from(data: bytes) -> Arrived:
    """A chunk or a whole reply.

    Raises:
        ModelError: it is an error, or no chat completion.
    """
    try:
        arrived = _decode(data)
    except (ValueError, RecursionError) as error:  # malformed JSON or UTF-8, or another shape
        raise ModelError(f"the upstream sent what is no chat completion: {type(error).__name__}") from error
    if arrived.error is not None:
        raise ModelError("the upstream sent an error in place of a reply")
    return arrived


def texts(said: Said) -> Iterator[tuple[Channel, str]]:
    """The texts of a message or delta by channel, in the order in which they are judged."""
    for field in _TEXTS:
        text = getattr(said, field)
        if text:
            yield (field, 0), text
    calls = [(call_place(call, i), call.function) for i, call in enumerate(said.tool_calls or ())]
    if said.function_call is not None:
        calls.append((LEGACY, said.function_call))
    for place, function in calls:
        if function is not None:
            if function.name:
                yield ("name", place), function.name
            if function.arguments:
                yield ("arguments", place), function.arguments


def call_place(call: ToolCall, position: int) -> int:
    """Which tool call a part belongs to."""
    return position if call.index is None else call.index


def channel_name(channel: Channel) -> str:
    """How the journal calls a channel: as the field is called in a message."""
    kind, place = channel
    if kind not in ("name", "arguments"):
        return kind
    return f"function_call.{kind}" if place == LEGACY else f"tool_calls[{place}].{kind}"


NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Head:
    """What all chunks of one reply have in common."""

    def __init__(self, id: str, model: str, created: int | None = None) -> None:
        self.id, self.model = id, model
        self.created = int(time.time()) if created is None else created
        self.fingerprint: str | None = None
        self.tier: str | None = None

    def take(self, arrived: Arrived) -> None:
        """Take over what the upstream says."""
        self.id = word(arrived.id, self.id)
        self.model = word(arrived.model, self.model)
        self.created = self.created if arrived.created is None else int(arrived.created)
        self.fingerprint = word(arrived.system_fingerprint, "") or None
        self.tier = word(arrived.service_tier, "") or None

    def chunk(self, choices: list[OutChoice], usage: dict[str, Any] | None = None, *, flagged: bool = False) -> bytes:
        """The event of a chunk; `flagged` says that the guard ended the choice."""
        out = OutChunk(
            self.id,
            "chat.completion.chunk",
            self.created,
            self.model,
            choices,
            usage,
            self.fingerprint,
            self.tier,
            CHAT_MODERATION if flagged else None,
        )
        return b"data: " + _encode(out) + b"\n\n"

    def whole(self, choices: list[dict[str, Any]], usage: dict[str, Any], *, flagged: bool = False) -> bytes:
        """The body of a reply that is not streamed."""
        body: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "usage": usage,
        }
        extra: dict[str, Any] = {"system_fingerprint": self.fingerprint, "service_tier": self.tier}
        if flagged:
            extra["moderation"] = CHAT_MODERATION
        return _encode(body | {key: value for key, value in extra.items() if value})
