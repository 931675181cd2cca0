"""A real upstream and a real proxy on loopback ports, each in a thread of its own."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

import aiohttp
import uvicorn
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from starlette.applications import Starlette

from marbury.guard import Judge, Mode, ScriptedScorer
from marbury.scoring import Thresholds
from marbury.serve import ServeSettings, create_app
from marbury.serve.door import Door
from marbury.serve.journal import Entry, Store
from marbury.serve.policies import Policies
from marbury.serve.run import config
from marbury.serve.service import Service

LIMITS = Thresholds(0.0, 0.0, 0.0, 0.0)
TRIGGER = "forbidden"
ASK: Any = [{"role": "user", "content": "Tell me a tale."}]
DONE = b"data: [DONE]\n\n"


def event(delta: dict[str, Any], index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a streamed completion."""
    choices = [{"index": index, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps(chunk_of(choices) | more, ensure_ascii=False).encode() + b"\n\n"


def chunk_of(choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": "tale-1",
        "choices": choices,
    }


def usage_event() -> bytes:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return b"data: " + json.dumps(chunk_of([]) | {"usage": usage}).encode() + b"\n\n"


def tale(text: str, channel: str = "content", finish: str = "stop") -> list[bytes]:
    """A streamed completion that says the text word by word."""
    events = [event({"role": "assistant", "content": ""})]
    events += [event(in_channel(channel, word, first=i == 0)) for i, word in enumerate(words(text))]
    return [*events, event({}, finish=finish), DONE]


def words(text: str) -> list[str]:
    return [word if i == 0 else " " + word for i, word in enumerate(text.split(" "))]


def in_channel(channel: str, text: str, *, first: bool = True) -> dict[str, Any]:
    """A delta or message that says the text in a channel."""
    if channel == "tool":
        head = {"id": "call_1", "type": "function"} if first else {}
        name = {"name": "tell"} if first else {}
        return {"tool_calls": [{"index": 0, **head, "function": {**name, "arguments": text}}]}
    if channel == "tool name":
        return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": text}}]}
    if channel == "function_call":
        return {"function_call": {**({"name": "tell"} if first else {}), "arguments": text}}
    return {channel: text}


CHANNELS = ["content", "reasoning_content", "reasoning", "refusal", "tool", "tool name", "function_call"]


def whole(message: dict[str, Any], *others: dict[str, Any], **more: Any) -> bytes:
    """A completion that is not streamed."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": None} | said, "finish_reason": "stop"}
        for i, said in enumerate([message, *others])
    ]
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    return json.dumps(chunk_of(choices) | {"object": "chat.completion", "usage": usage} | more).encode()


@dataclass
class ScriptedUpstream:
    """Says `pieces` to every request, one write each; `dies` breaks the connection before the end."""

    pieces: list[bytes] = field(default_factory=list)
    status: int = 200
    kind: str = "text/event-stream"
    delay_s: float = 0.0
    pauses: dict[int, float] = field(default_factory=dict)  # seconds before single pieces
    dies: bool = False
    headers: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    asked_headers: list[dict[str, str]] = field(default_factory=list)
    sent: int = 0
    left: threading.Event = field(default_factory=threading.Event)  # a client has gone before the end
    url: str = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head.split("\r\n")[1:]) if k}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.asked.append(json.loads(body or b"{}") | {"path": head.split(" ")[1]})
            self.asked_headers.append(headers)
            await self.speak(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = asyncio.ensure_future(reader.read(1))
        gone.add_done_callback(lambda read: read.cancelled() or read.exception())  # a broken pipe is no surprise
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-type: {self.kind}\r\nconnection: close\r\n".encode())
        writer.write(f"{self.headers}transfer-encoding: chunked\r\n\r\n".encode())
        for number, piece in enumerate(self.pieces):
            if pause := self.pauses.get(number, self.delay_s):
                await asyncio.wait((gone,), timeout=pause)
            if gone.done():
                break
            if piece:
                writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.sent += 1
                await writer.drain()
        else:
            if not self.dies:
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        if gone.done():
            self.left.set()
        gone.cancel()

    async def serve(self, ready: Callable[[Callable[[], object]], None]) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self.answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        ready(lambda: loop.call_soon_threadsafe(stop.set))
        await stop.wait()
        server.close()


@contextlib.contextmanager
def upstream(**script: Any) -> Iterator[ScriptedUpstream]:
    scripted, stops = ScriptedUpstream(**script), SimpleQueue[Callable[[], object]]()
    thread = threading.Thread(target=lambda: asyncio.run(scripted.serve(stops.put)))
    thread.start()
    stop = stops.get(timeout=5)
    try:
        yield scripted
    finally:
        stop()
        thread.join(5)


@contextlib.contextmanager
def served(app: Starlette, settings: ServeSettings) -> Iterator[str]:
    """The app on a port of its own; gives its base URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(config(app, settings))
        thread = threading.Thread(target=lambda: server.run([listener]))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.005)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


@dataclass
class Proxy:
    url: str
    upstream: ScriptedUpstream
    scorer: ScriptedScorer
    service: Service
    journal: list[Entry]

    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key="client-key", max_retries=0)

    def anthropic(self) -> AsyncAnthropic:
        return AsyncAnthropic(base_url=self.url, api_key="client-key", max_retries=0)

    def rows(self, count: int = 1) -> list[Entry]:
        """The journal once it has this many rows."""
        eventually(lambda: len(self.journal) >= count)
        return self.journal


def eventually(true: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


@contextlib.contextmanager
def proxy(
    pieces: list[bytes],
    *,
    scorer: ScriptedScorer | None = None,
    modes: tuple[Mode, Mode] = ("enforce", "enforce"),
    timeout_s: float = 5.0,
    serve: dict[str, Any] | None = None,
    door: Door | None = None,
    store: Store | None = None,
    fail_open: bool = False,
    candidate: tuple[ScriptedScorer, float] | None = None,
    **script: Any,
) -> Iterator[Proxy]:
    """A proxy that is ready, in front of an upstream that says these pieces."""
    scorer, journal = scorer or ScriptedScorer(TRIGGER), list[Entry]()
    with upstream(pieces=pieces, **script) as behind:
        settings = ServeSettings(upstream=behind.url, timeout_s=timeout_s, **(serve or {}))

        def make(scores: ScriptedScorer = scorer, version: str = "abc123") -> Judge:
            return Judge(
                scores,
                LIMITS,
                input_mode=modes[0],
                output_mode=modes[1],
                timeout_s=timeout_s,
                version=version,
                fail_open=fail_open,
            )

        if candidate is None:
            policies = Policies(make)
        else:
            other, percent = candidate
            policies = Policies(make, lambda: make(other, "new456"), percent)
        app = create_app(policies, settings, journal=journal.append, door=door, store=store)
        service: Service = app.state.service
        with served(app, settings) as url:
            eventually(lambda: service.judge is not None or service.failure is not None)
            scorer.steps = 0
            yield Proxy(url, behind, scorer, service, journal)


async def http(method: str, url: str, **how: Any) -> tuple[int, dict[str, str], bytes]:
    async with aiohttp.ClientSession() as session, session.request(method, url, **how) as response:
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()
