"""Text completions as the upstream sends them and as they leave here. What has no field here is dropped."""

import time
from typing import Any

import msgspec

from marbury.errors import ModelError
from marbury.serve.protocols.plain import numbers, word

FILTERED = "content_filter"
DONE = b"data: [DONE]\n\n"
NO_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


class Choice(msgspec.Struct):
    """One choice, streamed or whole."""

    index: int = 0
    text: str | None = None
    finish_reason: str | None = None


class Arrived(msgspec.Struct):
    """A chunk or a whole reply of the upstream."""

    id: str | None = None
    created: int | float | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


class OutChoice(msgspec.Struct):
    """A choice that leaves."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: None = None


class Out(msgspec.Struct, omit_defaults=True):
    """A chunk or a whole reply that leaves."""

    id: str
    object: str
    created: int
    model: str
    choices: list[OutChoice]
    usage: dict[str, Any] | None = None
    system_fingerprint: str | None = None


_decode = msgspec.json.Decoder(Arrived).decode
_encode = msgspec.json.Encoder().encode


def arrived_from(data: bytes) -> Arrived:
    """A chunk or a whole reply.

    Raises:
        ModelError: it is an error, or no completion.
    """
    try:
        arrived = _decode(data)
    except (ValueError, RecursionError) as error:  # malformed JSON or UTF-8, or another shape
        raise ModelError(f"the upstream sent what is no completion: {type(error).__name__}") from error
    if arrived.error is not None:
        raise ModelError("the upstream sent an error in place of a reply")
    return arrived


class Head:
    """What all chunks of one reply have in common."""

    def __init__(self, id: str, model: str) -> None:
        self._id, self._model = id, model
        self._created = int(time.time())
        self._fingerprint: str | None = None

    def take(self, arrived: Arrived) -> None:
        """Take over what the upstream says."""
        self._id = word(arrived.id, self._id)
        self._model = word(arrived.model, self._model)
        self._created = self._created if arrived.created is None else int(arrived.created)
        self._fingerprint = word(arrived.system_fingerprint, "") or None

    def whole(self, choices: list[OutChoice], usage: Any) -> bytes:
        """The body of a reply, or the data of a chunk."""
        counts = None if usage is None else numbers(usage)
        return _encode(Out(self._id, "text_completion", self._created, self._model, choices, counts, self._fingerprint))

    def chunk(self, choices: list[OutChoice], usage: Any = None) -> bytes:
        """The event of a chunk."""
        return b"data: " + self.whole(choices, usage) + b"\n\n"
