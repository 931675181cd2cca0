"""What the guard costs: a token of a stream by each engine, many streams at once, a second turn, memory, training.

    python benchmarks/cost.py runs/demo

CPU time of one thread, medians; what is compared was measured in turns in the same run. `re-encode` is what a guard
without a memory does: the whole text again for every token, or for every 32 tokens. The classifiers' words do not
matter here, so a run folder of any policy will do.
"""

import contextlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from transformers import DynamicCache

from marbury.classifier.kernel import KernelEngine
from marbury.classifier.reply import Part, StreamReply
from marbury.classifier.scorer import StreamScorer
from marbury.dataset import load
from marbury.records import Example, Message
from marbury.workspace import Workspace

PREFIX = 256  # tokens that a stream already has
STREAMS = 64
STEPS = 48
ENGINES: dict[str, dict[str, Any]] = {
    "kernel int8": {"engine": "kernel", "precision": "int8"},
    "kernel fp32": {"engine": "kernel", "precision": "fp32"},
    "torch": {"engine": "torch"},
}


def medians_ms(works: dict[str, Callable[[], object]], times: int, turn: int = 1) -> dict[str, float]:
    """Median CPU time of one call of each, in milliseconds. They take turns of some calls each."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(times):
        for name, work in works.items():
            for _ in range(turn):
                started = time.process_time()
                work()
                taken[name].append(1000 * (time.process_time() - started))
    return {name: statistics.median(values) for name, values in taken.items()}


def harmless_words(rows: list[Example]) -> list[str]:
    """The words of harmless replies, each with the space before it."""
    text = " ".join(row.reply or "" for row in rows if row.reply_harmful is False and row.language == "en")
    return [f" {word}" for word in text.split()]


def text_of(words: list[str], part: Part, tokens: int) -> str:
    """A text of about this many tokens."""
    count = 0
    for number, word in enumerate(words):
        count += len(part.encoder.tokens(word))
        if count >= tokens:
            return "".join(words[: number + 1])
    return "".join(words)


def single_tokens(words: list[str], part: Part) -> Iterator[str]:
    """Words of one token each, for ever."""
    return cycle(dict.fromkeys(word for word in words if len(part.encoder.tokens(word)) == 1))


def begun(scorer: StreamScorer, words: list[str], count: int) -> list[StreamReply]:
    """Replies that stand at about PREFIX tokens, each with a word held back."""
    request = [Message("user", text_of(words, scorer.part("output"), PREFIX))]
    reading = scorer.read(request)
    replies = [reading.reply() for _ in range(count)]
    for reply in replies:
        reply.push(" the gate")
    return replies


def reading_words_s() -> float:
    """Bytes a second that one thread reads from memory."""
    block = np.ones(1 << 27, np.float32)
    return block.nbytes / (medians_ms({"": lambda: block.sum()}, 5)[""] / 1000)


class Transformers:
    """One stream as transformers steps it: a growing cache, one forward pass a token."""

    def __init__(self, part: Part, ids: list[int]) -> None:
        self.model, self.cache = part.model, DynamicCache()
        with torch.inference_mode():
            self.model(torch.tensor([ids]), self.cache)

    def step(self) -> None:
        """One token more."""
        with torch.inference_mode():
            self.model.score(self.model(torch.tensor([[2000]]), self.cache), "output")


def token_rows(table: Table, scorers: dict[str, StreamScorer], words: list[str]) -> None:
    """One stream, and many at once."""
    part = scorers["torch"].part("output")
    ids = part.encoder.text(text_of(words, part, PREFIX + 8))[: PREFIX + 1]
    each = single_tokens(words, part)
    ones = {name: begun(scorer, words, 1)[0] for name, scorer in scorers.items()}
    many = {name: begun(scorer, words, STREAMS) for name, scorer in scorers.items()}

    def alone(reply: StreamReply) -> Callable[[], object]:
        return lambda: reply.push(next(each))

    def together(scorer: StreamScorer, replies: list[StreamReply]) -> Callable[[], object]:
        return lambda: scorer.push_all([(reply, next(each)) for reply in replies])

    plain = Transformers(part, ids[:PREFIX])
    with torch.inference_mode():
        works = {name: alone(reply) for name, reply in ones.items()} | {"transformers": plain.step}
        one = medians_ms(works, 4, turn=STEPS // 4)
        again = medians_ms({"": lambda: part.model(torch.tensor([ids]))}, 5)[""]
    batch = medians_ms({name: together(scorers[name], replies) for name, replies in many.items()}, 3, turn=3)
    bandwidth = reading_words_s()
    for name, ms in one.items():
        engine = scorers[name].part("output").engine if name in scorers else None
        row = f"{1000 * ms:.0f} µs; re-encoding every 32 tokens costs {again / 32 / ms:.2f} x"
        if isinstance(engine, KernelEngine):
            least = 1e6 * engine.token_bytes / bandwidth
            row += f", transformers {one['transformers'] / ms:.1f} x; {1000 * ms / least:.2f} x weights / bandwidth"
        table.add_row(f"a token of one stream, {name}", row)
    for name, ms in batch.items():
        row = (
            f"{1000 * ms / STREAMS:.0f} µs ({1000 * STREAMS / ms:.0f} tokens/s); alone {one[name] * STREAMS / ms:.1f} x"
        )
        table.add_row(f"a token of {STREAMS} streams at once, {name}", row)
    table.add_row("re-encode at every token", f"{1000 * again:.0f} µs")
    for name, replies in many.items():
        row = f"{replies[0].nbytes / 2**20:.1f} MB, and once more for its request"
        table.add_row(f"memory of a stream at {PREFIX} tokens, {name}", row)


def turn_rows(table: Table, folder: Path, words: list[str]) -> None:
    """The second turn of a conversation, with and without what was kept of the first."""
    for name, options in ENGINES.items():
        scorers = [StreamScorer.load(folder, 1, **options, prefix_mb=mb) for mb in (0, 64)]
        taken: list[list[float]] = [[], []]
        for number in range(7):
            for scorer, times in zip(scorers, taken, strict=True):
                ms, size = second_turn(scorer, words, number)
                times.append(ms)
        before, after = (statistics.median(times) for times in taken)
        row = f"{before:.1f} ms; with what was kept of the first turn {after:.1f} ms ({before / after:.1f} x)"
        table.add_row(f"reading a second turn, {size} tokens, {name}", row)


def second_turn(scorer: StreamScorer, words: list[str], number: int) -> tuple[float, int]:
    """Milliseconds to read the request of a second turn, and how many tokens it has."""
    part = scorer.part("output")
    answer = text_of(words[500:], part, PREFIX // 4)
    talk = [Message("system", text_of(words, part, PREFIX // 2)), Message("user", f"What about number {number}?")]
    reading = scorer.read(talk)
    reply = reading.reply()
    reply.push(answer)
    reply.finish()
    for closing in (reply, reading):
        closing.close()
    talk += [Message("assistant", answer), Message("user", "And then?")]
    return medians_ms({"": lambda: scorer.read(talk)}, 1)[""], len(part.encoder.request(talk)[0])


def serve_mb(ws: Workspace) -> float:
    """Resident memory of a proxy that is ready, from /proc; not a number where there is no /proc."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marbury.cli", "serve", str(ws.root), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
                    break
                time.sleep(0.1)
            status = Path(f"/proc/{server.pid}/status")
            lines = status.read_text().splitlines() if status.exists() else []
            return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), float("nan"))
        finally:
            server.terminate()


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/cost.py RUN (a finished run folder, such as runs/demo after `make demo`)")
    ws = Workspace(Path(sys.argv[1]))
    words = harmless_words(load(ws.need(ws.test, "dataset")))
    folder = ws.need(ws.classifier, "train")
    scorers = {name: StreamScorer.load(folder, 1, **options) for name, options in ENGINES.items()}
    model = scorers["torch"].part("output").model
    size = sum(p.numel() for p in model.parameters()) / 1e6
    table = Table("what", "value", title=f"{size:.1f} M parameters, one thread, {PREFIX} tokens before")
    token_rows(table, scorers, words)
    turn_rows(table, folder, words)
    table.add_row("memory of `marbury serve`, ready and idle", f"{serve_mb(ws):.0f} MB")
    trained = ws.rows()["train"]
    seen = sum(value for name, value in trained["counts"].items() if name.endswith("tokens"))
    passes = trained["settings"]["epochs"]
    speed = f"{trained['seconds']:.0f} s, {seen * passes / trained['seconds']:.0f} tokens/s"
    table.add_row("training, as it ran in this folder", speed)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
