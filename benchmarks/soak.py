"""Mixed traffic against a served guard for half an hour: does its memory stay flat, does it lose a file descriptor?

    python benchmarks/soak.py RUN [--minutes 30] [--clients 8]
    python benchmarks/soak.py --drill [--minutes 2]

The guard is `marbury serve` in a process of its own (of RUN, or the drill's scripted one), the endpoint behind it is
here: it says a tale, breaks off, says a word that is to be stopped, or refuses. Clients ask every endpoint, streamed
and whole, send prompts that are blocked and bodies that cannot be read, and hang up in the middle.

Every ten seconds resident memory and open file descriptors are noted. After the warm-up (the first third) a line is
laid through them: flat is a slope whose 95 % interval holds 0, or that stays below 1 % of the memory an hour.
Neighbours in time are alike, so the interval comes from blocks of a minute, resampled.
"""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import psutil
from aiohttp import web
from rich.console import Console
from rich.table import Table

WORD = "quillstone"
TALE = "the keeper of the light walks down to the harbour and counts the boats that come home before the rain".split()
SERVE = "from marbury.cli import main; main()"
EVERY_S = 10.0
BLOCK = 6  # notes of a minute
KINDS = {"passes": 8, "dies": 1, "refuses": 1, "says the word": 2, "asks the word": 2, "no request": 1, "hangs up": 2}
FLAT = 0.01  # of the memory, an hour


class Note(NamedTuple):
    """What the process had at a moment."""

    seconds: float
    mib: float
    files: int


def said(kind: str, seed: int) -> list[str]:
    """The words of a reply."""
    chosen = random.Random(seed)
    words = [chosen.choice(TALE) for _ in range(chosen.randint(20, 200))]
    if kind == "says the word":
        words[len(words) // 2] = WORD
    return words


async def upstream(request: web.Request) -> web.StreamResponse:
    """The endpoint: the kind of its answer stands in the request's model."""
    asked = await request.json()
    kind, seed = asked["model"].rsplit("-", 1)
    kind, words = kind.replace("_", " "), said(kind.replace("_", " "), int(seed))
    if kind == "refuses":
        return web.json_response({"error": {"message": "not now", "code": "busy"}}, status=429)
    if not asked.get("stream"):
        return web.json_response(whole(request.path, " ".join(words)))
    answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):  # the guard hangs up at a stop
        await speak(request, answer, words, dies=kind == "dies")
    return answer


async def speak(request: web.Request, answer: web.StreamResponse, words: list[str], *, dies: bool) -> None:
    """Say the words one by one, or break off in the middle."""
    for number, word in enumerate(words):
        if dies and number == len(words) // 2 and request.transport is not None:
            request.transport.abort()
            return
        await answer.write(event(piece(request.path, word + " ", None)))
        await asyncio.sleep(0.01)
    await answer.write(event(piece(request.path, "", "stop")) + b"data: [DONE]\n\n")


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def piece(path: str, text: str, finish: str | None) -> dict[str, Any]:
    """A chunk of a streamed reply, as the path has it."""
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
    choice |= {"delta": {"content": text}} if path.endswith("/chat/completions") else {"text": text}
    name = "chat.completion.chunk" if path.endswith("/chat/completions") else "text_completion"
    return {"id": "c1", "object": name, "created": 1, "model": "m", "choices": [choice]}


def whole(path: str, text: str) -> dict[str, Any]:
    """A reply that is not streamed, as the path has it."""
    if path.endswith("/responses"):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": content}
        head = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed"}
        return {**head, "output": [item], "usage": None}
    choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
    chat = path.endswith("/chat/completions")
    choice |= {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    name = "chat.completion" if chat else "text_completion"
    return {"id": "c1", "object": name, "created": 1, "model": "m", "choices": [choice]}


def request_of(kind: str, chosen: random.Random) -> tuple[str, dict[str, Any]]:
    """A path and a body; `/v1/responses` is asked whole, for its events are many."""
    prompt = " ".join(chosen.choice(TALE) for _ in range(chosen.randint(5, 300)))
    prompt += f" {WORD}" if kind == "asks the word" else ""
    model = f"{kind.replace(' ', '_')}-{chosen.randrange(1000)}"
    path = chosen.choice(["/v1/chat/completions"] * 4 + ["/v1/completions", "/v1/responses", "/v1/moderations"])
    if kind == "no request":
        return path, {"model": model, "messages": 3, "input": 3, "prompt": {}}
    if path == "/v1/moderations":
        return path, {"input": prompt}
    if path == "/v1/responses":
        return path, {"model": model, "input": prompt}
    body = {"prompt": prompt} if path == "/v1/completions" else {"messages": [{"role": "user", "content": prompt}]}
    return path, {"model": model, "stream": chosen.random() < 0.7 or kind in ("dies", "hangs up"), **body}


async def client(url: str, number: int, until: float, ends: Counter[str]) -> None:
    """Asks one thing after the other; counts how each ended."""
    chosen = random.Random(number)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        while time.monotonic() < until:
            kind = chosen.choices(list(KINDS), list(KINDS.values()))[0]
            path, body = request_of(kind, chosen)
            try:
                async with session.post(url + path, json=body) as response:
                    if kind == "hangs up" and response.status == 200:
                        await response.content.readany()
                        response.close()
                        ends[f"{kind}: hung up"] += 1
                        continue
                    answer = await response.read()
                ends[f"{kind}: {response.status} {ending(answer)}"] += 1
            except (aiohttp.ClientError, TimeoutError) as error:
                ends[f"{kind}: {type(error).__name__}"] += 1


def ending(answer: bytes) -> str:
    """How an answer ended, in a word."""
    if b"content_filter" in answer or b'"flagged":true' in answer:
        return "stopped"
    return "error" if b'"error":{' in answer else "text"


async def noted(process: psutil.Process, began: float, until: float) -> list[Note]:
    """Memory and files every ten seconds, those of child processes included."""
    notes = []
    while time.monotonic() < until:
        family = [process, *process.children(recursive=True)]
        rss = sum(each.memory_info().rss for each in family)
        notes.append(Note(time.monotonic() - began, rss / 2**20, sum(each.num_fds() for each in family)))
        await asyncio.sleep(EVERY_S)
    return notes


def slope(seconds: Sequence[float], values: Sequence[float], rounds: int = 2000) -> tuple[float, float, float]:
    """Change an hour, and its 95 % interval: the line's residuals are drawn again in blocks of a minute."""
    x, y = np.asarray(seconds) / 3600, np.asarray(values)
    line = np.polyfit(x, y, 1)
    rest, drawn, chosen = y - np.polyval(line, x), [], np.random.default_rng(0)
    block = min(BLOCK, len(x))
    for _ in range(rounds):
        starts = chosen.integers(0, len(x) - block + 1, -(-len(x) // block))
        again = np.concatenate([rest[start : start + block] for start in starts])[: len(x)]
        drawn.append(np.polyfit(x, np.polyval(line, x) + again, 1)[0])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(line[0]), float(low), float(high)


def verdict(name: str, now: float, found: tuple[float, float, float], hours: float) -> str:
    """In words whether it is flat, which a run of less than a quarter of an hour cannot tell."""
    value, low, high = found
    flat = low <= 0 <= high or abs(value) < FLAT * now
    said = "too short a run to tell" if hours < 0.25 else "flat" if flat else "NOT FLAT"
    return f"{name}: {value:+.2f} an hour [{low:+.2f}, {high:+.2f}] at {now:.0f}: {said}"


async def soak(asked: argparse.Namespace, console: Console) -> None:
    """Start all, wait, tell."""
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/{path:.*}", upstream)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0)) as behind, socket.create_server(("127.0.0.1", 0)) as free:
        await web.SockSite(runner, behind).start()
        port, at = free.getsockname()[1], behind.getsockname()[1]
        free.close()
        what = ["--drill", WORD] if asked.drill else [asked.run]
        options = ["--upstream", f"http://127.0.0.1:{at}/v1", "--port", str(port), "--set", "serve.moderations=true"]
        command = [sys.executable, "-c", SERVE, "serve", *what, *options]
        guard = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            await tell(asked, console, f"http://127.0.0.1:{port}", psutil.Process(guard.pid))
        finally:
            guard.terminate()
            guard.wait(60)
            await runner.cleanup()


async def tell(asked: argparse.Namespace, console: Console, url: str, guard: psutil.Process) -> None:
    """The traffic, then the tables."""
    await ready(url)
    ends, began = Counter[str](), time.monotonic()
    until = began + asked.minutes * 60
    watching = asyncio.create_task(noted(guard, began, until))
    await asyncio.gather(*(client(url, number, until, ends) for number in range(asked.clients)))
    notes = await watching
    console.print(table("requests", ("how they ended", "number"), [(k, str(n)) for k, n in sorted(ends.items())]))
    rows = [(f"{n.seconds / 60:.1f}", f"{n.mib:.1f}", str(n.files)) for n in notes[:: max(1, len(notes) // 12)]]
    console.print(table("the guard's process", ("minute", "RSS MiB", "files"), rows))
    after = [note for note in notes if note.seconds >= asked.minutes * 20]
    seconds, hours = [note.seconds for note in after], asked.minutes / 60
    for name, values in (("RSS in MiB", [n.mib for n in after]), ("open files", [float(n.files) for n in after])):
        console.print(verdict(name, values[-1], slope(seconds, values), hours), highlight=False)


async def ready(url: str) -> None:
    """Wait until the guard is loaded, two minutes at most."""
    async with aiohttp.ClientSession() as session:
        for _ in range(240):
            try:
                async with session.get(f"{url}/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.5)
    raise SystemExit(f"{url} is not ready after two minutes: run `marbury serve` by hand and read what it says")


def table(title: str, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Table:
    shown = Table(*heads, title=title, title_justify="left")
    for row in rows:
        shown.add_row(*row)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="run folder whose guard is served")
    parser.add_argument("--drill", action="store_true", help="serve the scripted scorer in place of a guard")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    asked = parser.parse_args()
    if not asked.drill and not asked.run:
        parser.error("give a run folder, or --drill")
    asyncio.run(soak(asked, Console()))


if __name__ == "__main__":
    main()
