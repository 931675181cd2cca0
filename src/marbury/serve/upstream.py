"""The endpoint behind the guard. One connection pool; nothing of a reply is read ahead of need."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp

from marbury.errors import ModelError
from marbury.serve.settings import ServeSettings, upstream_key

# What of a client's request goes on to the upstream; the key is one of them unless the settings have their own.
_KEYS = ("authorization", "api-key", "x-api-key")
_PASSED = ("openai-organization", "openai-project", "anthropic-version", "anthropic-beta")


class Upstream:
    """An OpenAI-compatible endpoint. Open it inside the event loop that uses it."""

    def __init__(self, settings: ServeSettings) -> None:
        self._base = settings.upstream.rstrip("/")
        self._key = upstream_key(settings)
        self._max_reply = settings.max_reply_bytes
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=settings.upstream_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the pool. Reads no proxy, cookie or password file."""
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=0),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        client: Mapping[str, str],
        body: bytes | None = None,
        trace: Mapping[str, str] | None = None,
        *,
        key_header: str = "authorization",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A reply of the upstream; `trace`: headers that hand a trace on.

        At the end of the block its connection is closed unless it was read to the end.

        Raises:
            ModelError: the upstream cannot be reached, fails, or breaks off, also within the block.
        """
        assert self._session is not None, "the upstream is not open"
        try:
            async with self._session.request(
                method,
                self._base + path,
                data=body,
                headers={**self._headers(client, key_header), **(trace or {})},
                allow_redirects=False,
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ModelError(f"{self._base}{path}: {type(error).__name__}") from error

    async def whole(self, response: aiohttp.ClientResponse) -> bytes:
        """A body that is not streamed.

        Raises:
            ModelError: it is longer than it may be.
        """
        parts, size = [], 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > self._max_reply:
                raise ModelError(f"the upstream's reply is longer than {self._max_reply} bytes")
            parts.append(part)
        return b"".join(parts)

    @property
    def has_key(self) -> bool:
        """Whether it is asked with the guard's own key, and not with each client's."""
        return self._key is not None

    def concealed(self, data: bytes) -> bytes:
        """What the upstream said, without that key: an error may quote it."""
        return data.replace(self._key.encode(), b"[key]") if self._key else data

    def _headers(self, client: Mapping[str, str], key_header: str) -> dict[str, str]:
        names = _PASSED if self._key else (*_KEYS, *_PASSED)
        headers = {name: client[name] for name in names if name in client}
        if self._key:
            headers[key_header] = f"Bearer {self._key}" if key_header == "authorization" else self._key
        return headers | {"content-type": "application/json", "accept-encoding": "identity"}
