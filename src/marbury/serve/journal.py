"""One row per request: what was decided, from which numbers, and how it ended.

A text of the conversation is in a row only where `audit_content` asks for it, and never in the log.
"""

import logging
from collections.abc import Callable
from typing import Protocol

import msgspec

from marbury.records import Message
from marbury.scoring import Verdict

log = logging.getLogger("marbury.serve")


class OutputVerdict(msgspec.Struct, frozen=True):
    """The verdict on one channel of one choice."""

    choice: int
    channel: str
    verdict: Verdict


class Content(msgspec.Struct, frozen=True):
    """The texts of an exchange as they were judged: each channel of the reply as far as it was heard."""

    request: tuple[Message, ...]
    reply: tuple[str, ...]


class Beside(msgspec.Struct, frozen=True):
    """What the guard said that only watched."""

    policy: str
    input: Verdict | None
    outputs: list[OutputVerdict]
    error: str | None = None


class Entry(msgspec.Struct, kw_only=True):
    """What happened to one request.

    `outcome`: passed, input_blocked, output_blocked, refused, unauthorized, cooling_down, guard_error, upstream_error
    or disconnected. A shadow's would-be block is a flagged verdict beside the outcome `passed`.
    """

    id: str
    time: float  # seconds since 1970
    route: str
    model: str = ""
    stream: bool = False
    outcome: str = "passed"
    status: int = 0  # 0: nothing was sent
    key: str = ""  # the name of the guard's key; where it has none, a mark of the client's own
    user: str = ""  # pseudonyms of who the client says is asking
    safety_identifier: str = ""
    policy: str = ""  # version of the constitution that decided
    classifier: str = ""  # hash of the weights
    input_mode: str = ""
    output_mode: str = ""
    fail_open: bool = False  # whether text passes unread where the classifier fails: a setting
    input: Verdict | None = None
    outputs: list[OutputVerdict] = []
    candidate: bool = False  # whether the candidate decided
    beside: Beside | None = None
    judging_failed: bool = False
    passed_unread: bool = False  # judging failed, and the settings say that it fails open
    error: str | None = None
    media: int = 0  # images, audio and files of the request, which nobody scored
    steps: int = 0  # tokens of the reply that were scored
    seconds: float = 0.0
    judging_seconds: float = 0.0  # waiting for the classifier
    reading_seconds: float = 0.0  # of these, before the request was let through
    upstream_seconds: float | None = None  # until the upstream's headers
    first_seconds: float | None = None  # until the first part of a stream left
    drill: str | None = None  # a drill's word: no classifier was asked
    content: Content | None = None


Journal = Callable[[Entry], None]


class StoreState(msgspec.Struct, frozen=True):
    """How a store of rows fares, as `/readyz` and the metrics tell it."""

    up: bool  # the database takes rows
    waiting: int = 0  # rows that are not in the database yet
    written: int = 0
    lost: int = 0  # neither spooled nor written, because the disk is full or too slow; they are in the log
    damaged: int = 0  # put aside, because no database would take them


class Store(Protocol):
    """What keeps rows outside the process. Both calls may take a while; they are made in a thread."""

    def start(self) -> None:
        """Begin to take rows."""
        ...

    def stop(self) -> None:
        """Write what there is, or leave it where the next start finds it."""
        ...

    def state(self) -> StoreState:
        """How it fares; at once."""
        ...


def log_entry(entry: Entry) -> None:
    """Write the row as one line of JSON to the log, without content."""
    log.info("%s", msgspec.json.encode(msgspec.structs.replace(entry, content=None)).decode())
