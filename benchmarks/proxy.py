"""What standing between a client and a model costs: a bare pass-through, Marbury without and with its classifiers.

    python benchmarks/proxy.py [RUN] [--streams 1 16 64] [--tokens 200 1600] [--delays 0 10 20] [--others NAME=URL ...]

`benchmarks/rival_proxies.py` starts other guards and measures them with this.

Everything runs on loopback, each server in a process of its own; the endpoint says the same words to everybody, one
event each, at once or at so many milliseconds a token. `pass-through` is a raw ASGI application with aiohttp that
parses every event as JSON and hands the bytes on: what a proxy that only looks must cost. `null` is Marbury with a
scorer that answers at once, so the rest is the classifiers' (of RUN, with views). `nginx` hands on without looking,
where it is installed. Other proxies in front of the endpoint (give it a `--port`) can be measured beside:
`--others litellm=http://127.0.0.1:4000/v1`. Their process is the one that listens there; where the system does not
tell, name it: `NAME=URL,PID`.

CPU is that of the proxy's process and its children. Rounds go through all servers in turn; medians over the rounds. The
first text is what a client waits for; `end` is the time to the last byte over that of the direct way, which is 1.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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

ASKED = "Tell me of the harbour: {} words, {} ms each."  # in the text, for some proxies pass no other field on
READ = re.compile(rb"harbour: (\d+) words, (\d+) ms")
LINUX = sys.platform == "linux"  # where each process has a clock of its own, and not only hundredths of a second
LEAST = 6400  # tokens of a round
ENOUGH_S = 1.0  # or so much CPU time, for a slow one
NGINX = """
daemon off; worker_processes 1; pid nginx.pid;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  server {
    listen 127.0.0.1:PORT;
    location /v1/ { proxy_pass UPSTREAM/; proxy_buffering off; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
"""
NOWHERE = 1e9  # a limit that nothing reaches


class Way(NamedTuple):
    """A server to measure: its base URL, its process where it is here, and the key that it wants."""

    url: str
    process: psutil.Process | None = None
    key: str = "none"


class Point(NamedTuple):
    """What one server did in one round."""

    cpu_ms: float  # per token
    first_ms: float
    seconds: float  # until the last stream ended
    tokens_s: float


Points = dict[str, list[Point]]


# The servers


async def endpoint(scope: Any, receive: Any, send: Any) -> None:
    """An OpenAI-compatible endpoint that says as many words, so many milliseconds apart, as it is asked for."""
    if scope["type"] != "http":
        return
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    asked = READ.search(body + message["body"])
    words, delay_ms = (int(number) for number in asked.groups()) if asked else (5, 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    began = time.perf_counter()
    for number in range(words):
        if delay_ms:
            await asyncio.sleep(max(0.0, began + number * delay_ms / 1000 - time.perf_counter()))
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
def server(kind: str, upstream: str = "", run: Path | None = None, port: int = 0) -> Iterator[Way]:
    """A server in a process of its own."""
    with socket.create_server(("127.0.0.1", port), backlog=256) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        started = multiprocessing.get_context("fork").Process(target=run_server, args=(kind, listener, upstream, run))
        started.start()
        try:
            yield Way(url, psutil.Process(started.pid))
        finally:
            started.terminate()
            started.join(10)


@contextmanager
def nginx(upstream: str) -> Iterator[Way]:
    """An nginx that only hands on, one worker, in a folder of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free, tempfile.TemporaryDirectory() as folder:
        port = free.getsockname()[1]
        free.close()
        file = Path(folder) / "nginx.conf"
        file.write_text(NGINX.replace("PORT", str(port)).replace("UPSTREAM", upstream), encoding="utf-8")
        started = subprocess.Popen(["nginx", "-p", folder, "-c", str(file), "-e", "error.log"])
        try:
            yield Way(f"http://127.0.0.1:{port}/v1", psutil.Process(started.pid))
        finally:
            started.terminate()
            started.wait(10)


# The client


async def stream(session: aiohttp.ClientSession, way: Way, tokens: int, delay_ms: int) -> float:
    """Seconds until the first text of one stream, which is read to its end."""
    asked = [{"role": "user", "content": ASKED.format(tokens, delay_ms)}]
    body = {"model": "m", "messages": asked, "stream": True, "max_tokens": tokens}
    began, first, events, tail = time.perf_counter(), 0.0, 0, b""
    headers = {"authorization": f"Bearer {way.key}"}
    async with session.post(f"{way.url}/chat/completions", json=body, headers=headers) as response:
        response.raise_for_status()
        async for data in response.content.iter_any():
            first = first or time.perf_counter() - began
            events += data.count(b"data: ")
            tail = (tail + data)[-64:]
    if b"[DONE]" not in tail:
        raise SystemExit(f"{way.url}: a stream broke off after {events} events: {tail!r}")
    return first


async def round_of(way: Way, streams: int, tokens: int, delay_ms: int) -> Point:
    """So many streams at once through one server, again and again until its CPU time can be told."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:
        before, seconds, firsts = used(way.process), 0.0, list[float]()
        while True:
            began = time.perf_counter()
            firsts += await asyncio.gather(*(stream(session, way, tokens, delay_ms) for _ in range(streams)))
            seconds += time.perf_counter() - began
            cpu, count = used(way.process) - before, len(firsts) * tokens
            if delay_ms or count >= LEAST or cpu >= ENOUGH_S:
                break
    again = len(firsts) / streams
    return Point(1000 * cpu / count, 1000 * statistics.median(firsts), seconds / again, count / seconds)


def used(process: psutil.Process | None) -> float:
    """CPU seconds of a process and its children so far, those that have ended among them."""
    if process is None:
        return 0.0
    seconds = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
            own = time.clock_gettime(~one.pid << 3 | 2) if LINUX else times.user + times.system
            seconds += own + times.children_user + times.children_system
        except (psutil.NoSuchProcess, OSError):
            pass  # it has just ended, and its parent has its time
    return seconds


def listening(port: int) -> psutil.Process | None:
    """The process that listens on a port of this machine: the parent, where several share it."""
    found = {one.pid for one in psutil.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}
    processes = [psutil.Process(pid) for pid in found if pid]
    return next((one for one in processes if one.ppid() not in found), None)


def other(said: str, key: str) -> tuple[str, Way]:
    """A server that runs already, from NAME=URL or NAME=URL,PID."""
    name, _, place = said.partition("=")
    url, _, pid = place.partition(",")
    process = psutil.Process(int(pid)) if pid else listening(urlsplit(url).port or 80)
    return name, Way(url, process, key)


async def warm(way: Way) -> None:
    """Wait until a server answers with a whole stream."""
    for _ in range(600):
        try:
            async with aiohttp.ClientSession() as session:
                await stream(session, way, 5, 0)
                return
        except (aiohttp.ClientError, ConnectionError):
            await asyncio.sleep(0.2)
    raise SystemExit(f"{way.url} does not answer")


# The tables


def table(heading: str, points: Points) -> Table:
    """Medians by server, beside the direct way and the bare pass-through."""
    shown = Table("", "CPU ms a token", "of pass-through", "first text, ms", "tokens/s", "end", title=heading)
    medians = {name: median(those) for name, those in points.items()}
    bare, direct = medians["pass-through"], medians["direct"]
    for name, point in medians.items():
        costs = (
            [f"{point.cpu_ms:.3f}", f"{point.cpu_ms / bare.cpu_ms:.2f}"] if point.cpu_ms and bare.cpu_ms else ["", ""]
        )
        waits = [f"{point.first_ms:.1f}", f"{point.tokens_s:,.0f}", f"{point.seconds / direct.seconds:.3f}"]
        shown.add_row(name, *costs, *waits)
    return shown


def title(streams: int, tokens: int, delay_ms: int, points: Points) -> str:
    """What was measured, and how often."""
    pace = f"{delay_ms} ms a token" if delay_ms else "as fast as it goes"
    return f"{streams} stream{'s' * (streams > 1)} of {tokens} tokens, {pace}; rounds: {len(points['direct'])}"


def median(points: list[Point]) -> Point:
    """Of each figure by itself."""
    return Point(*(statistics.median(values) for values in zip(*points, strict=True)))


def measured(ways: dict[str, Way], streams: int, tokens: int, delay_ms: int, rounds: int, limit_s: float) -> Points:
    """The rounds of every server, in turn; at least one, and no further one that would not fit into the time."""
    points: Points = defaultdict(list)
    began = time.perf_counter()
    for done in range(rounds):
        took = time.perf_counter() - began
        if done and took + took / done > limit_s:
            break
        for name, way in ways.items():
            points[name].append(asyncio.run(round_of(way, streams, tokens, delay_ms)))
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run folder with classifiers")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--tokens", type=int, nargs="+", default=[200, 1600], help="1,600 only where nothing waits")
    parser.add_argument("--delays", type=int, nargs="+", default=[0, 10, 20], help="milliseconds a token")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=0, help="of the endpoint, for others that stand in front of it")
    parser.add_argument("--others", nargs="*", default=[], metavar="NAME=URL[,PID]")
    parser.add_argument("--key-env", default="", help="environment variable with the key that the others want")
    options = parser.parse_args()
    console = Console(width=120)
    with ExitStack() as running:
        upstream = running.enter_context(server("endpoint", port=options.port)).url
        console.print(f"the endpoint is {upstream}")
        ways = {"direct": Way(upstream)}
        for kind in ("pass-through", "null", *(["classifiers"] if options.run else [])):
            run = options.run if kind == "classifiers" else None
            ways[kind] = running.enter_context(server(kind, upstream, run))
        if shutil.which("nginx"):
            ways["nginx"] = running.enter_context(nginx(upstream))
        ways |= dict(other(said, os.environ.get(options.key_env, "none")) for said in options.others)
        for way in ways.values():
            asyncio.run(warm(way))
        for delay in options.delays:
            for tokens in options.tokens[: None if delay == 0 else 1]:
                for streams in options.streams:
                    points = measured(ways, streams, tokens, delay, options.rounds, NOWHERE)
                    console.print(table(title(streams, tokens, delay, points), points))


if __name__ == "__main__":
    main()
