"""One request to the guard, with the time of every byte of its answer."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from marbury.drill import text as texts

_MOST_BYTES = 16 * 1024 * 1024
_FIRST = (texts.FIRST.encode(), b"\\u2767")


@dataclass
class Seen:
    """An answer as it arrived. `broken`: the connection ended before the answer did, or never began."""

    status: int = 0
    streamed: bool = False
    body: bytes = b""
    broken: str = ""
    timed_out: bool = False
    left: bool = False  # the client itself went away
    began: float = 0.0
    arrivals: list[tuple[float, int]] = field(default_factory=list)  # seconds, bytes so far

    @property
    def first_ms(self) -> float | None:
        """Milliseconds until the reply's first character was here; None if it never was."""
        found = [at for mark in _FIRST if (at := self.body.find(mark)) >= 0]
        if not found:
            return None
        return next(round((when - self.began) * 1000, 2) for when, size in self.arrivals if size > min(found))


class Client:
    """Asks the guard. Open it inside the event loop that uses it."""

    def __init__(self, url: str, key: str, timeout_s: float) -> None:
        self._url = url
        self._headers = {"authorization": f"Bearer {key}", "x-api-key": key, "anthropic-version": "2023-06-01"}
        self._timeout_s = timeout_s

    async def ask(self, path: str, body: dict[str, Any], leave_after: int | None = None) -> Seen:
        """The answer to a request; `leave_after`: hang up after so many bytes."""
        seen = Seen(began=time.perf_counter())
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._ask(path, body, seen, leave_after)
        except TimeoutError:
            seen.timed_out = True
        except (aiohttp.ClientError, OSError) as error:
            seen.broken = type(error).__name__
        return seen

    async def _ask(self, path: str, body: dict[str, Any], seen: Seen, leave_after: int | None) -> None:
        # A session for each request: a connection that one case has broken is no other case's business.
        async with (
            aiohttp.ClientSession(headers=self._headers, trust_env=False) as session,
            session.post(self._url + path, json=body, allow_redirects=False) as response,
        ):
            seen.status = response.status
            seen.streamed = response.content_type == "text/event-stream"
            async for data in response.content.iter_any():
                seen.body += data
                seen.arrivals.append((time.perf_counter(), len(seen.body)))
                if leave_after is not None and len(seen.body) >= leave_after:
                    seen.left = True
                    response.close()
                    return
                if len(seen.body) > _MOST_BYTES:
                    seen.broken = "too long"
                    response.close()
                    return
