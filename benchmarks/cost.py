"""What the guard costs: time per token of a stream, against the simple ways; reading a prompt; memory; training.

    python benchmarks/cost.py runs/demo

One thread, medians. `step` is the guard as it serves: one step with a cache per token. `re-encode` is what a guard
without a cache does: the whole text again for every token, or for every 32 tokens.
"""

import contextlib
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from marbury.classifier.scorer import StreamScorer
from marbury.dataset import load
from marbury.records import Example, Message
from marbury.workspace import Workspace

PREFIX = 256  # tokens that the stream already has
STEPS = 64


def median_ms(work: Callable[[], object], times: int) -> float:
    """Median wall time of some calls, in milliseconds."""
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


def words_of(rows: list[Example], count: int) -> list[str]:
    """This many words of harmless replies."""
    text = " ".join(row.reply or "" for row in rows if row.reply_harmful is False and row.language == "en")
    words = [f"{word} " for word in text.split()]
    return words[:count]


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
    torch.set_num_threads(1)
    ws = Workspace(Path(sys.argv[1]))
    rows = load(ws.need(ws.test, "dataset"))
    scorer = StreamScorer.load(ws.need(ws.classifier, "train"))
    model, encoder = scorer.part("output")
    ids = encoder.text(" ".join(words_of(rows, 600)))
    request = [Message("user", "Tell me about the museum of the Lamplight War.")]

    stream = scorer.read(request).reply()
    stream.push(" ".join(words_of(rows, 180)))
    words = iter(words_of(rows, 600)[180:])
    tokens = []

    def step() -> None:
        tokens.append(len(stream.push(next(words))))

    with torch.inference_mode():
        prompt_ms = median_ms(lambda: model(torch.tensor([ids[:PREFIX]])), 9)
        step_ms = median_ms(step, 2 * STEPS) * len(tokens) / max(1, sum(tokens))
        again_ms = median_ms(lambda: model(torch.tensor([ids[: PREFIX + 1]])), 9)
    table = Table(
        "what", "value", title=f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters, one thread"
    )
    table.add_row("one step of a stream at about 256 tokens", f"{1000 * step_ms:.0f} µs a token")
    table.add_row("re-encode at every token", f"{1000 * again_ms:.0f} µs a token ({again_ms / step_ms:.1f} x)")
    table.add_row(
        "re-encode every 32 tokens", f"{1000 * again_ms / 32:.0f} µs a token ({again_ms / 32 / step_ms:.2f} x)"
    )
    table.add_row("reading a prompt of 256 tokens", f"{prompt_ms:.0f} ms ({PREFIX / prompt_ms * 1000:.0f} tokens/s)")
    table.add_row("memory of `marbury serve`, ready and idle", f"{serve_mb(ws):.0f} MB")
    trained = ws.rows()["train"]
    seen = sum(value for name, value in trained["counts"].items() if name.endswith("tokens"))
    passes = trained["settings"]["epochs"]
    table.add_row(
        "training, as it ran in this folder",
        f"{trained['seconds']:.0f} s, {seen * passes / trained['seconds']:.0f} tokens/s",
    )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
