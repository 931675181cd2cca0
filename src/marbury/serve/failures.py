"""How a failure looks to a client: OpenAI's error shape. Never a score, a category or another's text."""

from typing import Any, NamedTuple

import msgspec

from marbury.errors import GuardError, MarburyError, RequestError

RETRY_AFTER = {"retry-after": "1"}


class Failure(NamedTuple):
    """An HTTP status and the error that goes with it; `outcome` is what journal and metrics call it."""

    status: int
    code: str
    message: str
    outcome: str
    param: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Whether to come again."""
        return RETRY_AFTER if self.status in (429, 502, 503) else {}

    def about(self, field: str) -> "Failure":
        """The same, where a blocked request is called `messages` and this endpoint has them in another field."""
        return self._replace(param=field) if self.outcome == "input_blocked" else self

    def body(self) -> bytes:
        """The JSON body."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        error: dict[str, Any] = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return msgspec.json.encode({"error": error})

    def event(self) -> bytes:
        """The event that breaks a stream; `[DONE]` does not follow, so that clients see it as broken."""
        return b"data: " + self.body() + b"\n\n"


NOT_READY = Failure(503, "guard_unavailable", "The guard is not ready.", "guard_error")
BUSY = Failure(429, "overloaded", "Too many requests are under way: try again later.", "overloaded")
TOO_LONG = Failure(504, "timeout", "The request took too long.", "timeout")
BROKEN = Failure(503, "guard_unavailable", "The guard could not judge the request or its reply.", "guard_error")
BLOCKED = Failure(400, "content_filter", "The request was blocked by the content policy.", "input_blocked", "messages")


def failure_of(error: MarburyError) -> Failure:
    """What a client is told about an error. Details are for the log: they could quote what must not be quoted."""
    if isinstance(error, RequestError):
        return Failure(error.status, error.code or "not_guarded", str(error), "refused", error.param)
    if isinstance(error, GuardError):
        return BROKEN
    return Failure(502, "upstream_error", "The upstream failed.", "upstream_error")
