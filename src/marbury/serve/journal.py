"""One row per request: what was decided, from which numbers, and how it ended. Never a text of the conversation."""

import logging
from collections.abc import Callable

import msgspec

from marbury.scoring import Verdict

log = logging.getLogger("marbury.serve")


class OutputVerdict(msgspec.Struct, frozen=True):
    """The verdict on one channel of one choice."""

    choice: int
    channel: str
    verdict: Verdict


class Beside(msgspec.Struct, frozen=True):
    """What the guard said that only watched."""

    policy: str
    input: Verdict | None
    outputs: list[OutputVerdict]
    error: str | None = None


class Entry(msgspec.Struct, kw_only=True):
    """What happened to one request.

    `outcome`: passed, input_blocked, output_blocked, refused, guard_error, upstream_error or disconnected.
    A shadow's would-be block is a flagged verdict beside the outcome `passed`.
    """

    id: str
    time: float  # seconds since 1970
    route: str
    model: str = ""
    stream: bool = False
    outcome: str = "passed"
    status: int = 0  # 0: nothing was sent
    input: Verdict | None = None
    outputs: list[OutputVerdict] = []
    policy: str = ""  # version of the constitution that decided
    candidate: bool = False  # whether the candidate decided
    beside: Beside | None = None
    judging_failed: bool = False
    passed_unread: bool = False  # judging failed, and the settings say that it fails open
    error: str | None = None
    media: int = 0  # images, audio and files of the request, which nobody scored
    steps: int = 0  # tokens of the reply that were scored
    seconds: float = 0.0
    judging_seconds: float = 0.0  # waiting for the classifier
    upstream_seconds: float | None = None  # until the upstream's headers
    first_seconds: float | None = None  # until the first part of a stream left
    drill: str | None = None  # a drill's word: no classifier was asked


Journal = Callable[[Entry], None]


def log_entry(entry: Entry) -> None:
    """Write the row as one line of JSON to the log."""
    log.info("%s", msgspec.json.encode(entry).decode())
