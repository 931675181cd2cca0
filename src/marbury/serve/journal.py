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
    policy: str = ""  # version of the constitution
    classifier: str = ""  # hash of the weights
    input_mode: str = ""
    output_mode: str = ""
    fail_open: bool = False  # something passed unjudged because a setting allows it
    input: Verdict | None = None
    outputs: list[OutputVerdict] = []
    judging_failed: bool = False
    error: str | None = None
    steps: int = 0  # tokens of the reply that were scored
    seconds: float = 0.0
    judging_seconds: float = 0.0  # waiting for the classifier
    upstream_seconds: float | None = None  # until the upstream's headers
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
