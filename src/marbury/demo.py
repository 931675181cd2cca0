"""The demonstration: a toy upstream, the guard in front of it, and a real OpenAI client that asks.

Everything runs on loopback. The conversations are the first fitting rows of the held-out split, whatever the guard
makes of them.
"""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec
import uvicorn
from openai import OpenAI
from rich.console import Console
from rich.text import Text
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from marbury.dataset import load
from marbury.errors import DataError, GuardError
from marbury.guard import Judge, Mode
from marbury.pipeline import load_guard
from marbury.records import Example
from marbury.scoring import Score, Scorer, Thresholds
from marbury.serve import ServeSettings, create_app
from marbury.workspace import Workspace

TOKEN_S = 0.012  # how long the toy model takes for a word
START_S = 60.0  # longest wait for a server on loopback
REFUSED = "[bold white on red] content_filter [/]"


def play(ws: Workspace, out: Console) -> None:
    """Show one harmless and one harmful exchange through the guard of a finished run.

    Raises:
        WorkspaceError: the run is not finished. DataError: the held-out split has no fitting row.
    """
    rows = load(ws.need(ws.test, "dataset"))
    good, bad = pick(rows, "treatment-and-safety", harmful=False), pick(rows, "preparation", harmful=True)
    scorer, calibration = load_guard(ws)
    thresholds = calibration.thresholds
    upstream = ToyUpstream([good, bad])
    with serving(upstream.app) as behind:
        acts: tuple[tuple[str, Example, Mode], ...] = (
            ("1. a harmless question, both classifiers on", good, "enforce"),
            ("2. a harmful question, both classifiers on", bad, "enforce"),
            ("3. the same with the input classifier off: only the output classifier can stop the reply", bad, "off"),
        )
        for title, row, mode in acts:
            out.print(f"\n[bold]{title}[/]", highlight=False)
            exchange(out, row, scorer, thresholds, mode, behind, upstream)
    out.print(
        f"\nServe this guard yourself: [bold]marbury serve {ws.root} --upstream http://HOST/v1[/]", highlight=False
    )


def pick(rows: Sequence[Example], category: str, *, harmful: bool) -> Example:
    """The first plain English exchange of a category, with a harmful or a harmless reply.

    Raises:
        DataError: there is none.
    """
    for row in rows:
        plain = not row.chain and row.language == "en" and len(row.messages) == 2
        if plain and row.category == category and row.reply_harmful is harmful:
            return row
    raise DataError(f"the test split has no plain English row of {category}: run the demonstration on a fresh folder")


class ToyUpstream:
    """An OpenAI-compatible server that knows a few replies by heart and counts how often it was asked."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self.asked = 0
        self._replies = {row.request[-1].content: row.reply or "" for row in rows}
        self.app = Starlette(routes=[Route("/v1/chat/completions", self._answer, methods=["POST"])])

    async def _answer(self, request: Request) -> StreamingResponse:
        self.asked += 1
        body = msgspec.json.decode(await request.body())
        text = self._replies.get(body["messages"][-1]["content"], "I do not know that one.")
        return StreamingResponse(self._events(text), media_type="text/event-stream")

    async def _events(self, text: str) -> AsyncIterator[bytes]:
        chunk = {"id": "toy", "object": "chat.completion.chunk", "created": int(time.time()), "model": "toy"}
        for word in re.findall(r"\s*\S+", text):
            yield _event({**chunk, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]})
            await asyncio.sleep(TOKEN_S)
        yield _event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        yield b"data: [DONE]\n\n"


def _event(value: object) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


@contextlib.contextmanager
def serving(app: Starlette) -> Iterator[str]:
    """Serve an app on a free port of loopback while the context is open; gives its base URL.

    Raises:
        GuardError: it did not start.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        deadline = time.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise GuardError("a server of the demonstration did not start: is loopback (127.0.0.1) usable?")
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.should_exit = True
            thread.join()


def exchange(
    out: Console,
    row: Example,
    scorer: Scorer,
    thresholds: Thresholds,
    input_mode: Mode,
    behind: str,
    upstream: ToyUpstream,
) -> None:
    """Ask one question through a guard of its own, and show what came of it."""
    judge = Judge(scorer, thresholds, input_mode=input_mode)
    asked = upstream.asked
    app = create_app(judge, ServeSettings(upstream=behind, input=input_mode))
    with serving(app) as base_url:
        _wait_until_ready(app)
        released, finish = _ask(out, OpenAI(base_url=base_url, api_key="none", max_retries=0), row)
    out.print(
        f"  finish_reason {REFUSED if finish == 'content_filter' else finish}, {len(released)} of "
        f"{len(row.reply or '')} characters reached the client, upstream asked {upstream.asked - asked} times",
        highlight=False,
    )
    if upstream.asked > asked:
        _scores(out, row, scorer, thresholds.output_single, len(released), finish)


def _wait_until_ready(app: Starlette) -> None:
    deadline = time.monotonic() + START_S
    while app.state.service.judge is None and time.monotonic() < deadline:
        time.sleep(0.02)


def _ask(out: Console, client: OpenAI, row: Example) -> tuple[str, str]:
    """Stream the reply as any client would, printing it while it comes."""
    out.print("  [dim]user:[/] ", end="")
    out.print(Text(row.request[-1].content))
    out.print("  [dim]reply:[/] ", end="")
    released, finish = "", ""
    stream = client.chat.completions.create(
        model="toy", messages=[{"role": "user", "content": row.request[-1].content}], stream=True
    )
    for chunk in stream:
        for choice in chunk.choices:
            text = choice.delta.content or ""
            released += text
            finish = choice.finish_reason or finish
            out.print(Text(text), end="")
    out.print()
    return released, finish


def _scores(out: Console, row: Example, scorer: Scorer, limit: float, released: int, finish: str) -> None:
    """The reply once more, each token on the colour of its score; what never left the guard stays covered."""
    reading = scorer.read(row.request)
    stream = reading.reply()
    text = row.reply or ""
    line, start = Text("  "), 0
    for score in stream.push(text) + stream.finish():
        if score.end > start:
            line.append(_shown(text[start : score.end], start, released, finish), style=_colour(score, limit))
            start = score.end
    out.print(f"  [dim]score per token (green: harmless, red: at or above the limit {limit:.2f})[/]", highlight=False)
    out.print(line)


def _shown(piece: str, start: int, released: int, finish: str) -> str:
    if finish != "content_filter" or start < released:
        return piece
    return "".join(" " if letter.isspace() else "░" for letter in piece)


def _colour(score: Score, limit: float) -> str:
    """From green, eight logits below the limit, through yellow to red at the limit."""
    heat = min(1.0, max(0.0, 1 - (limit - score.harm) / 8))
    red, green = round(255 * min(1.0, 2 * heat)), round(170 * min(1.0, 2 - 2 * heat))
    return f"white on rgb({min(red, 190)},{green},40)" if score.harm < limit else "bold white on rgb(190,0,40)"
