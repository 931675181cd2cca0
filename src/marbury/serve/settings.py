"""What can be set about the proxy. No field of a request can change any of it."""

import os
from dataclasses import dataclass
from typing import Literal

from marbury.errors import SettingsError
from marbury.guard import Mode

_POSITIVE = (
    "threads",
    "timeout_s",
    "upstream_timeout_s",
    "max_streams",
    "max_seconds",
    "drain_s",
    "max_body_bytes",
    "max_messages",
    "max_reply_bytes",
)


@dataclass(frozen=True)
class ServeSettings:
    """The proxy's settings."""

    upstream: str = "http://127.0.0.1:8000/v1"  # base URL of the OpenAI-compatible endpoint behind the guard
    key_env: str = ""  # environment variable with the upstream's key; empty: each client's own key is passed on
    host: str = "127.0.0.1"  # address to listen on
    port: int = 8787  # port to listen on
    input: Mode = "enforce"  # enforce: block requests; shadow: only record what would be blocked; off
    output: Mode = "enforce"  # the same for replies
    block_status: Literal[200, 400] = 200  # a blocked request gets an empty answer, or OpenAI's error
    media: Literal["refuse", "allow"] = "refuse"  # images, audio and files in requests; allow: passed on unscored
    moderations: bool = False  # serve /v1/moderations, which tells scores and categories to whoever can reach it
    on_error: Literal["closed", "open"] = "closed"  # where the classifier fails: close, or let pass unread and say so
    candidate: str = ""  # run folder of another guard that judges the same in shadow
    candidate_percent: float = 0.0  # share of accounts for which the candidate decides, and this guard watches
    reload: bool = False  # load new classifiers and thresholds of the run folder when they change; no stream is dropped
    threads: int = 1  # of the classifier: a step is small, and more threads wait for each other on a busy machine
    engine: Literal["auto", "kernel", "torch"] = "auto"  # what computes; auto: the CPU kernel where it fits, else torch
    prefix_mb: int = 256  # MiB for what was read of conversations, for their next turn; 0 keeps nothing
    timeout_s: float = 10.0  # longest wait for the classifier before the guard closes
    upstream_timeout_s: float = 600.0  # longest silence of the upstream
    max_streams: int = 256  # most requests at once; more get 429 and a Retry-After
    max_seconds: float = 1800.0  # longest request, its reply included
    drain_s: float = 30.0  # how long replies under way may take to end after a stop signal
    max_body_bytes: int = 1_048_576  # longest request
    max_messages: int = 512  # most messages in a request
    max_reply_bytes: int = 16_777_216  # longest reply that is not streamed, and longest event of one that is

    def __post_init__(self) -> None:
        if not self.upstream.startswith(("http://", "https://")):
            raise ValueError(f"upstream {self.upstream!r} is not an http:// or https:// URL")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.prefix_mb < 0:
            raise ValueError("prefix_mb must not be negative")
        if not 0 <= self.candidate_percent <= 100:
            raise ValueError(f"candidate_percent is from 0 to 100, not {self.candidate_percent:g}")
        if self.candidate_percent and not self.candidate:
            raise ValueError("candidate_percent needs a candidate: name its run folder")
        if self.on_error not in ("closed", "open"):
            raise ValueError(f"on_error is closed or open, not {self.on_error!r}")
        modes = ("enforce", "shadow", "off")
        engines = ("auto", "kernel", "torch")
        choices = (("input", modes), ("output", modes), ("engine", engines), ("media", ("refuse", "allow")))
        for name, known in choices:
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.block_status not in (200, 400):
            raise ValueError(f"block_status is 200 or 400, not {self.block_status}")


def upstream_key(settings: ServeSettings) -> str | None:
    """The key that replaces the clients' own, if the settings name one.

    Raises:
        SettingsError: the environment variable is not set.
    """
    if not settings.key_env:
        return None
    key = os.environ.get(settings.key_env, "").strip()
    if not key:
        raise SettingsError(f"[serve] key_env: the environment variable {settings.key_env} is not set: export it")
    return key
