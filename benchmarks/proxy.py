"""What standing between a client and a model costs: a bare pass-through, Marbury without and with its classifiers.

    python benchmarks/proxy.py [RUN] [--streams 1 16 64] [--tokens 200 1600] [--delays 0 10 20] [--others NAME=URL ...]

Everything runs on loopback, each server in a process of its own; the endpoint says the same words to everybody, one
event each, at once or at so many milliseconds a token. `pass-through` is a raw ASGI application with aiohttp that
parses every event as JSON and hands the bytes on: what a proxy that only looks must cost. `null` is Marbury with a
scorer that answers at once, so the rest is the classifiers' (of RUN, with views). Other proxies that already run in
front of the endpoint (its port is printed) can be measured beside: `--others litellm=http://127.0.0.1:4000/v1`.

CPU is that of the proxy's process alone. Rounds go through all servers in turn; medians over the rounds. The first text
is what a client waits for; `end` is the time to the last byte over that of the direct way, which is 1.
"""

import argparse
import asyncio
import json
import multiprocessing
import socket
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import psutil
import uvicorn
from rich.console import Console
from rich.table import Table

from marbury.guard import Judge
from marbury.pipeline import load_guard
from marbury.records import Message
from marbury.scoring import Score, Thresholds
from marbury.serve import ServeSettings, create_app
from marbury.serve.sse import EventParser
from marbury.workspace import Workspace

WORDS = "the keeper of the light walks down to the harbour and counts the boats that come home before the rain".split()

ASK = [{"role": "user", "content": "Tell me of the harbour."}]
Ways = dict[str, tuple[str, psutil.Process | None]]  # by name: base URL, and the process where it is ours
LEAST = 6400  # tokens of a round: the system counts CPU time in hundredths of a second
NOWHERE = 1e9  # a limit that nothing reaches


class Timing(NamedTuple):
    """One stream: seconds to its first text and to its end, and how many events it had."""

    first: float
    end: float
    events: int


class Point(NamedTuple):
    """What one server did in one round."""

    cpu_ms: float  # per token
    first_ms: float
    seconds: float  # until the last stream ended
    tokens_s: float


# The servers


async def endpoint(scope: Any, receive: Any, send: Any) -> None:
    """An OpenAI-compatible endpoint that says `max_tokens` words, `seed` milliseconds apart."""
    if scope["type"] != "http":
        return
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    asked = msgspec.json.decode(body + message["body"])
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    began = time.perf_counter()
    for number in range(asked["max_tokens"]):
        if asked["seed"]:
            await asyncio.sleep(max(0.0, began + number * asked["seed"] / 1000 - time.perf_counter()))
        said = chunk({"content": f" {WORDS[number % len(WORDS)]}"})
        await send({"type": "http.response.body", "body": said, "more_body": True})
    await send({"type": "http.response.body", "body": chunk({}, "stop") + b"data: [DONE]\n\n"})


def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    """One event of a chat completion."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "m"}
    return b"data: " + json.dumps(head | {"choices": [choice]}).encode() + b"\n\n"


class PassThrough:
    """Looks at every event and hands the bytes on."""

    def __init__(self, upstream: str) -> None:
        self._upstream = upstream
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        parser = EventParser(1 << 20)
        async with self._session.post(f"{self._upstream}/chat/completions", data=body) as response:
            async for data in response.content.iter_any():
                for event in parser.feed(data):
                    if event != b"[DONE]":
                        msgspec.json.decode(event)
                await send({"type": "http.response.body", "body": data, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class NullScorer:
    """Scores everything at once and finds nothing."""

    categories = ("nothing",)
    score = Score(0, -10.0, (-10.0,))

    def __init__(self) -> None:
        self.end = 0

    def read(self, messages: Sequence[Message]) -> "NullScorer":
        """A request that was read."""
        return self

    def reply(self) -> "NullScorer":
        """A reply that begins."""
        return NullScorer()

    def push(self, text: str) -> list[Score]:
        """All of it, scored."""
        self.end += len(text)
        return [Score(self.end, -10.0, (-10.0,))]

    def finish(self) -> list[Score]:
        """Nothing was held."""
        return []

    def close(self) -> None:
        """Nothing is kept."""


def run_server(kind: str, listener: socket.socket, upstream: str, run: Path | None) -> None:
    """One server, until its process is ended."""
    app: Any = endpoint
    if kind == "pass-through":
        app = PassThrough(upstream)
    elif kind != "endpoint":
        scorer: Any = load_guard(Workspace(run), threads=1)[0] if run else NullScorer()
        judge = Judge(scorer, Thresholds(*[NOWHERE] * 4), timeout_s=60)
        app = create_app(judge, ServeSettings(upstream=upstream, timeout_s=60), journal=lambda row: None)
    config = uvicorn.Config(app, access_log=False, log_level="warning", ws="none")
    uvicorn.Server(config).run([listener])


@contextmanager
def server(kind: str, upstream: str = "", run: Path | None = None) -> Iterator[tuple[str, psutil.Process]]:
    """A server in a process of its own: its base URL and its process."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        started = multiprocessing.get_context("fork").Process(target=run_server, args=(kind, listener, upstream, run))
        started.start()
        try:
            yield url, psutil.Process(started.pid)
        finally:
            started.terminate()
            started.join(10)


# The client


async def stream(session: aiohttp.ClientSession, url: str, tokens: int, delay_ms: int) -> Timing:
    """One stream, read to its end."""
    body = {"model": "m", "messages": ASK, "stream": True, "max_tokens": tokens, "seed": delay_ms}
    began, first, events, tail = time.perf_counter(), 0.0, 0, b""
    async with session.post(f"{url}/chat/completions", json=body) as response:
        response.raise_for_status()
        async for data in response.content.iter_any():
            first = first or time.perf_counter() - began
            events += data.count(b"data: ")
            tail = (tail + data)[-64:]
    if b"[DONE]" not in tail:
        raise SystemExit(f"{url}: a stream broke off after {events} events")
    return Timing(first, time.perf_counter() - began, events)


async def round_of(url: str, process: psutil.Process | None, streams: int, tokens: int, delay_ms: int) -> Point:
    """So many streams at once through one server, again and again until its CPU time can be told."""
    again = 1 if delay_ms else max(1, LEAST // (streams * tokens))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
        before, began, timings = used(process), time.perf_counter(), list[Timing]()
        for _ in range(again):
            timings += await asyncio.gather(*(stream(session, url, tokens, delay_ms) for _ in range(streams)))
        seconds = time.perf_counter() - began
    count = again * streams * tokens
    cpu = 1000 * (used(process) - before) / count
    return Point(cpu, 1000 * statistics.median(t.first for t in timings), seconds, count / seconds)


def used(process: psutil.Process | None) -> float:
    """CPU seconds of a process so far."""
    if process is None:
        return 0.0
    times = process.cpu_times()
    return float(times.user + times.system)


async def warm(url: str) -> None:
    """Wait until a server answers with a whole stream."""
    for _ in range(600):
        try:
            async with aiohttp.ClientSession() as session:
                await stream(session, url, 5, 0)
                return
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(0.2)
    raise SystemExit(f"{url} does not answer")


# The tables


def table(title: str, points: dict[str, list[Point]]) -> Table:
    """Medians by server, beside the direct way and the bare pass-through."""
    shown = Table("", "CPU ms a token", "of pass-through", "first text, ms", "tokens/s", "end", title=title)
    medians = {
        name: Point(*(statistics.median(values) for values in zip(*those, strict=True)))
        for name, those in points.items()
    }
    bare, direct = medians["pass-through"], medians["direct"]
    for name, point in medians.items():
        costs = (
            [f"{point.cpu_ms:.3f}", f"{point.cpu_ms / bare.cpu_ms:.2f}"] if point.cpu_ms and bare.cpu_ms else ["", ""]
        )
        waits = [f"{point.first_ms:.1f}", f"{point.tokens_s:,.0f}", f"{point.seconds / direct.seconds:.3f}"]
        shown.add_row(name, *costs, *waits)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run folder with classifiers")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--tokens", type=int, nargs="+", default=[200, 1600], help="1,600 only where nothing waits")
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 10, 20], help="milliseconds a token")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--others", nargs="*", default=[], metavar="NAME=URL")
    options = parser.parse_args()
    console = Console(width=120)
    with ExitStack() as running:
        upstream, _ = running.enter_context(server("endpoint"))
        console.print(f"the endpoint is {upstream}")
        ways: Ways = {"direct": (upstream, None)}
        for kind in ("pass-through", "null", *(["classifiers"] if options.run else [])):
            run = options.run if kind == "classifiers" else None
            ways[kind] = running.enter_context(server(kind, upstream, run))
        ways |= {name: (url, None) for name, _, url in (other.partition("=") for other in options.others)}
        for url, _ in ways.values():
            asyncio.run(warm(url))
        for delay in options.delays:
            pace = f"{delay} ms a token" if delay else "as fast as it goes"
            for tokens in options.tokens[: None if delay == 0 else 1]:
                for streams in options.streams:
                    title = f"{streams} streams of {tokens} tokens, {pace}"
                    console.print(table(title, measured(ways, streams, tokens, delay, options.rounds)))


def measured(ways: Ways, streams: int, tokens: int, delay_ms: int, rounds: int) -> dict[str, list[Point]]:
    """The rounds of every server, in turn."""
    points: dict[str, list[Point]] = defaultdict(list)
    for _ in range(rounds):
        for name, (url, process) in ways.items():
            points[name].append(asyncio.run(round_of(url, process, streams, tokens, delay_ms)))
    return points


if __name__ == "__main__":
    main()
