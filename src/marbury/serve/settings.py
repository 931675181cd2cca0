"""What can be set about the proxy. No field of a request can change any of it."""

import os
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from marbury.errors import SettingsError
from marbury.guard import Mode
from marbury.serve.accounts import Rules


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
    threads: int = 1  # of the classifier: a step is small, and more threads wait for each other on a busy machine
    engine: Literal["auto", "kernel", "torch"] = "auto"  # what computes; auto: the CPU kernel where it fits, else torch
    prefix_mb: int = 256  # MiB for what was read of conversations, for their next turn; 0 keeps nothing
    timeout_s: float = 10.0  # longest wait for the classifier before the guard closes
    upstream_timeout_s: float = 600.0  # longest silence of the upstream
    max_body_bytes: int = 1_048_576  # longest request
    max_messages: int = 512  # most messages in a request
    max_reply_bytes: int = 16_777_216  # longest reply that is not streamed, and longest event of one that is
    audit: str = "sqlite:///audit/audit.db"  # URL of the database of rows, its path in the run folder; empty: none
    audit_content: Literal["none", "hash", "redacted", "full"] = "none"  # what a row keeps of the conversation
    retention_days: int = 90  # rows older than that are deleted; 0 keeps them
    keys: str = ""  # keys of the guard's own: a file in the run folder, or "database"; empty: everybody may ask
    flags_before_cooldown: int = 20  # blocks of one account within the window until it has to wait; 0: never
    flag_window_s: float = 3600.0  # how long a block counts
    cooldown_s: float = 60.0  # first wait of an account; each further one is twice as long and comes twice as soon

    def __post_init__(self) -> None:
        if not self.upstream.startswith(("http://", "https://")):
            raise ValueError(f"upstream {self.upstream!r} is not an http:// or https:// URL")
        if "@" in urlsplit(self.upstream).netloc:
            raise ValueError(
                "upstream holds a user or password: leave it out, and name a variable with the key in key_env"
            )
        above = ("threads", "timeout_s", "upstream_timeout_s", "max_body_bytes", "max_messages", "max_reply_bytes")
        for name in (*above, "flag_window_s", "cooldown_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
        for name in ("prefix_mb", "retention_days", "flags_before_cooldown"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        modes = ("enforce", "shadow", "off")
        contents, engines = ("none", "hash", "redacted", "full"), ("auto", "kernel", "torch")
        for name, known in (("input", modes), ("output", modes), ("engine", engines), ("audit_content", contents)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.block_status not in (200, 400):
            raise ValueError(f"block_status is 200 or 400, not {self.block_status}")
        if self.keys == "database" and not self.audit:
            raise ValueError('keys = "database" needs one: set audit to its URL, or keys to a file')


def account_rules(settings: ServeSettings) -> Rules:
    """When an account has to cool down."""
    return Rules(settings.flags_before_cooldown, settings.flag_window_s, settings.cooldown_s)


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
