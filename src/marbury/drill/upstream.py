"""The drill's own upstream: says the script of each case, and remembers what the guard did meanwhile.

A case is known by its mark in the request, wherever the guard has put it. Listens where it is told to, and answers
nobody but the cases of this drill.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from aiohttp import web

from marbury.drill.endpoints.endpoint import Endpoint
from marbury.drill.endpoints.table import endpoint_at
from marbury.drill.script import Script, Write, writes
from marbury.errors import SettingsError

_MARK = re.compile(rb"drill-case-(\d+)\b")
_MOST_BYTES = 64 * 1024 * 1024


def mark(case: int) -> str:
    """How a case is named in its request."""
    return f"drill-case-{case}"


@dataclass
class Played:
    """What happened to one case at the upstream."""

    script: Script
    asked: int = 0  # how often the guard came with it
    sent: int = 0  # events
    after: int = 0  # events after the one that completes the word
    left: bool = False  # the guard hung up before the end
    over: asyncio.Event = field(default_factory=asyncio.Event)  # nothing is being sent


class Upstream:
    """The scripted upstream while it listens."""

    def __init__(self) -> None:
        self.url = ""
        self._cases: dict[int, Played] = {}

    def expect(self, case: int, script: Script) -> Played:
        """Know the script of a case, until `forget`."""
        played = self._cases[case] = Played(script)
        played.over.set()
        return played

    def forget(self, case: int) -> None:
        """Answer this case no more: a guard that comes again is told so."""
        self._cases.pop(case, None)

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator["Upstream"]:
        """Listen within the block.

        Raises:
            SettingsError: the port is taken.
        """
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            try:
                await site.start()
            except OSError as error:
                raise SettingsError(
                    f"the drill's upstream cannot listen on {host}:{port} ({error.strerror}): "
                    "choose another --upstream-port"
                ) from error
            port = runner.addresses[0][1]
            self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "drill-1", "object": "model"}]})
        endpoint, body = endpoint_at(request.path), await request.read()
        found = _MARK.search(body)
        played = self._cases.get(int(found[1])) if found else None
        if endpoint is None or played is None:
            error = {"message": "no case of this drill", "type": "invalid_request_error", "code": "no_case"}
            return web.json_response({"error": error}, status=404)
        played.asked += 1
        played.over.clear()
        try:
            if _wants_stream(body):
                return await _stream(request, endpoint, played)
            return await _whole(request, endpoint, played)
        finally:
            played.over.set()


def _wants_stream(body: bytes) -> bool:
    with contextlib.suppress(ValueError, RecursionError, AttributeError):
        return bool(json.loads(body).get("stream"))
    return False


async def _stream(request: web.Request, endpoint: Endpoint, played: Played) -> web.StreamResponse:
    script = played.script
    events = endpoint.events(script)
    flag = _flag(script, [event.piece for event in events])
    response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8", "connection": "close"})
    await response.prepare(request)
    for write in writes(events, script.wire):
        if not await _wrote(request, response, write, script.delay_s):
            played.left = True
            return response
        played.sent = write.ends
        if flag is not None:
            played.after = max(0, write.ends - flag - 1)
    await _end(request, response, script)
    return response


def _flag(script: Script, pieces: list[int | None]) -> int | None:
    """The event in which the word completes."""
    return pieces.index(script.flag) if script.flag is not None and script.flag in pieces else None


async def _wrote(request: web.Request, response: web.StreamResponse, write: Write, delay_s: float) -> bool:
    """Write, unless the guard has gone."""
    await asyncio.sleep(delay_s)
    if request.transport is None or request.transport.is_closing():
        return False
    try:
        await response.write(write.data)
    except ConnectionError:
        return False
    return True


async def _end(request: web.Request, response: web.StreamResponse, script: Script) -> None:
    if script.dies and request.transport is not None:
        request.transport.close()
        return
    with contextlib.suppress(ConnectionError):
        await response.write_eof()


async def _whole(request: web.Request, endpoint: Endpoint, played: Played) -> web.StreamResponse:
    body = json.dumps(endpoint.whole(played.script), ensure_ascii=False).encode()
    if not played.script.dies:
        return web.Response(body=body, content_type="application/json", headers={"connection": "close"})
    response = web.StreamResponse(headers={"content-type": "application/json", "content-length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) * 3 // 4])
    await _end(request, response, played.script)
    return response
