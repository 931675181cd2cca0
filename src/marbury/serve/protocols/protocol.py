"""What an endpoint has to offer, so that an `Exchange` can run it without knowing how it speaks."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any
from typing import Protocol as Shape

import msgspec

from marbury.guard import Judge, JudgedRequest
from marbury.records import Message
from marbury.serve.failures import Failure
from marbury.serve.journal import Entry, OutputVerdict
from marbury.serve.settings import ServeSettings


class Asked(msgspec.Struct, frozen=True):
    """A request as far as the proxy needs it. `payload` is what the upstream gets.

    `others`: conversations beside the first that do not know of it; `choices` counts those of all of them.
    `unread`: where parts stand that are no text; what is text in them is among the messages.
    """

    messages: tuple[Message, ...]
    model: str
    stream: bool
    include_usage: bool
    choices: int
    payload: bytes
    others: tuple[tuple[Message, ...], ...] = ()
    unread: tuple[str, ...] = ()


class Gate(Shape):
    """Judges one streamed reply: data of the upstream's events in, what may leave out."""

    stopped: bool  # at least one channel
    ended: bool  # all has been said; the upstream may be closed

    async def feed(self, events: list[bytes]) -> bytes:
        """What may leave after these events. Raises GuardError and ModelError."""
        ...

    def verdicts(self) -> Sequence[OutputVerdict]:
        """The verdict of every channel so far."""
        ...


class Whole(Shape):
    """Judges one reply that came whole."""

    stopped: bool

    async def judge(self, body: bytes) -> bytes:
        """The reply as it may leave. Raises GuardError and ModelError."""
        ...

    def verdicts(self) -> Sequence[OutputVerdict]:
        """The verdict of every channel."""
        ...


@dataclass(frozen=True)
class Protocol:
    """One endpoint. `path` lies below the upstream's base URL as it does below `/v1` here."""

    route: str  # what journal and metrics call it
    path: str
    read: Callable[[bytes, int], Asked]  # body, most messages; raises RequestError
    gate: Callable[[JudgedRequest, Asked, str], Gate]  # the last one is the request's id
    whole: Callable[[JudgedRequest, Asked, str], Whole]
    blocked: Callable[[Asked, str], bytes]  # the ordinary empty answer to a blocked request, whole or streamed
    body: Callable[[Failure], bytes]  # a failure as a body of its own
    event: Callable[[Failure], bytes]  # a failure that breaks a stream off
    key_header: str = "authorization"  # where the upstream looks for the proxy's own key


@dataclass(frozen=True)
class RatingProtocol:
    """An endpoint that says what the classifiers think and asks no model. `path` is the whole path."""

    route: str  # what journal and metrics call it
    path: str
    answer: Callable[[bytes, Judge, ServeSettings, Entry], Awaitable[Any]]  # raises RequestError and GuardError
    body: Callable[[Failure], bytes] = Failure.body
    event: Callable[[Failure], bytes] = Failure.event
