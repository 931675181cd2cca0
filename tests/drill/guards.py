"""Small guards to be drilled: an open one, honest ones, and some that leak in ways that real ones do."""

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import aiohttp
from aiohttp import web

from marbury.drill import Report, Target, Upstream, drill
from marbury.drill.endpoints.chat import CHAT
from marbury.drill.endpoints.endpoint import Endpoint

WORD = "quillstone"
STOP = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m"}
Judge = Callable[[dict[str, Any]], str]  # an event's value -> the text of it that is looked at


class PassOn:
    """Passes everything on. What a guard does is in what it overrides."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream.removesuffix("/v1")

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if (refusal := self.refuse(request, json.loads(body))) is not None:
            return refusal
        async with (
            aiohttp.ClientSession() as session,
            session.post(self._upstream + request.path, data=body) as behind,
        ):
            response = web.StreamResponse(status=behind.status, headers={"content-type": behind.content_type})
            await response.prepare(request)
            with contextlib.suppress(ConnectionError, aiohttp.ClientPayloadError):
                async for part in self.let_out(behind):
                    await response.write(part)
            if behind.content.exception() is None:
                await response.write_eof()
            elif request.transport is not None:
                request.transport.close()
            return response

    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        return None

    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        async for part in behind.content.iter_any():
            yield part


def values(event: bytes) -> dict[str, Any]:
    """The value of an event, empty where it has none."""
    data = b"".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
    try:
        value: dict[str, Any] = json.loads(data)
    except ValueError:
        return {}
    return value


async def events(behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole events, with their blank line."""
    rest = b""
    async for part in behind.content.iter_any():
        rest = (rest + part).replace(b"\r\n", b"\n")
        *whole, rest = rest.split(b"\n\n")
        for event in whole:
            yield event + b"\n\n"
    if rest:
        yield rest


def content(value: dict[str, Any]) -> str:
    """What a delta says as content, and nothing else."""
    return "".join(choice.get("delta", {}).get("content") or "" for choice in value.get("choices", []))


def ending(reason: str = "content_filter") -> bytes:
    """A clean stop."""
    last = STOP | {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}
    return b"data: " + json.dumps(last).encode() + b"\n\ndata: [DONE]\n\n"


async def drilled(
    make: type[PassOn], *endpoints: Endpoint, word: str = WORD, limit_s: float = 60.0, **more: Any
) -> Report:
    """The report on a guard of this kind."""
    async with Upstream().listening("127.0.0.1", 0) as upstream:
        guard = make(upstream.url)
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/{path:.*}", guard.answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            target = Target(f"http://127.0.0.1:{runner.addresses[0][1]}", word, limit_s=limit_s, wait_s=5.0)
            return await drill(replace(target, **more), upstream, endpoints=endpoints or (CHAT,))
        finally:
            await runner.cleanup()


def leaks(report: Report, **fields: Any) -> list[int]:
    """How many letters came through in the rows with these fields, a number for each."""
    return [row.characters for row in rows(report, **fields)]


def rows(report: Report, **fields: Any) -> list[Any]:
    found = [row for row in report.rows if all(getattr(row, name) == value for name, value in fields.items())]
    assert found, f"no row has {fields}"
    return found


def strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)
