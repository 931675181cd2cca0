"""What the CPU kernel costs: time per token of one stream and of 64, against the simple ways; reading; memory; error.

    python benchmarks/kernel.py [BASE]

BASE is `marbury-base`, `minilm` or a folder with such a model; its heads are random, no run folder is needed. One
thread, its own CPU time; every figure is a median over rounds in which all are measured in turn, so that ratios hold on
a busy machine.
`re-encode` is what a guard without a cache does: the whole text again every 32 tokens, in fp32. On a CPU with AVX-512
the figures of one with AVX2 come out under

    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+sse4.2 ATEN_CPU_CAPABILITY=avx2 \
    ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python benchmarks/kernel.py
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from transformers import DynamicCache

from marbury.classifier.base import load_base
from marbury.classifier.engine import Job
from marbury.classifier.kernel import KernelEngine
from marbury.classifier.kernel_memory import KernelMemory
from marbury.classifier.model import Classifier, build

PREFIX = 256  # tokens that a stream already has
EVERY = 32  # tokens after which a guard without a cache reads again
STREAMS = 64
ROUNDS = 9
STEPS = 32  # of one stream in a round


def classifier(base: str) -> tuple[Classifier, list[int]]:
    """A classifier with random heads, and tokens of real text: the project's own pages."""
    loaded, tokenizer = load_base(base)
    model = build(loaded, ("input", "output"), ("first", "second", "third"), 1, 512, "benchmark")
    torch.manual_seed(0)
    for head in model.heads.values():
        torch.nn.init.normal_(head.weight, std=0.05)  # type: ignore[arg-type]
    pages = sorted(Path(__file__).resolve().parents[1].glob("*.md"))
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    return model.eval(), tokenizer(text, verbose=False)["input_ids"]


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def total(numbers: Any) -> int:
    """The sum: reads everything once."""
    result = 0
    for i in range(numbers.shape[0]):
        result += numbers[i]
    return result


def reads(size: int) -> Callable[[], object]:
    """Reads this many bytes."""
    numbers = np.ones(size // 8, np.int64)
    total(numbers)
    return lambda: total(numbers)


def filled(engine: KernelEngine, ids: list[int], count: int, length: int) -> list[KernelMemory]:
    """Memories that hold different texts of this length."""
    memories = [engine.memory() for _ in range(count)]
    engine.extend([Job(memory, ids[i : i + length]) for i, memory in enumerate(memories)])
    return memories


def steps(
    engine: KernelEngine, memories: list[KernelMemory], length: int, times: int, piece: int = 1
) -> Callable[[], object]:
    """Pieces of single tokens for all memories, this many times, after so many tokens."""

    def run() -> None:
        for memory in memories:
            memory.crop(length)
        for token in range(times):
            engine.extend([Job(memory, [1000 + token] * piece) for memory in memories])

    return run


@torch.inference_mode()
def cached(model: Classifier, ids: list[int]) -> Callable[[], object]:
    """Single tokens through transformers with its cache."""
    cache = DynamicCache(config=model.backbone.config)
    model(torch.tensor([ids[:PREFIX]]), cache)

    @torch.inference_mode()
    def run() -> None:
        for i in range(STEPS):
            model.score(model(torch.tensor([[ids[PREFIX + i]]]), cache), "output")
        cache.crop(-STEPS)

    return run


@torch.inference_mode()
def by_torch(model: Classifier, ids: list[int]) -> NDArray[np.float32]:
    states = model(torch.tensor([ids]))
    logits: NDArray[np.float32] = torch.cat([model.score(states, side) for side in model.config.sides], -1)[0].numpy()
    return logits


def at_once(engine: KernelEngine, ids: list[int]) -> Callable[[], object]:
    """A prompt in one pass, with a new memory."""
    return lambda: engine.extend([Job(engine.memory(), ids[:PREFIX])])


def medians(works: dict[str, tuple[int, Callable[[], object]]]) -> dict[str, float]:
    """Microseconds a token of each piece of work, which says how many tokens it is."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(ROUNDS + 1):
        for name, (tokens, work) in works.items():
            started = time.thread_time()
            work()
            if number:  # the first round warms up
                taken[name].append(1e6 * (time.thread_time() - started) / tokens)
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    if len(sys.argv) > 2:
        sys.exit("usage: python benchmarks/kernel.py [marbury-base | minilm | FOLDER]")
    torch.set_num_threads(1)
    base = sys.argv[1] if len(sys.argv) == 2 else "marbury-base"
    model, ids = classifier(base)
    engines = {"int8": KernelEngine.of(model, "int8"), "fp32": KernelEngine.of(model, "fp32")}
    big, near = 2**28, engines["int8"].token_bytes
    works: dict[str, tuple[int, Callable[[], object]]] = {"memory": (big, reads(big)), "cache": (near, reads(near))}
    for name, engine in engines.items():
        works[f"{name} one"] = (STEPS, steps(engine, filled(engine, ids, 1, PREFIX), PREFIX, STEPS))
        works[f"{name} four"] = (STEPS, steps(engine, filled(engine, ids, 1, PREFIX), PREFIX, STEPS // 4, 4))
        works[f"{name} prompt"] = (PREFIX, at_once(engine, ids))
        works[f"{name} many"] = (STREAMS, steps(engine, filled(engine, ids, STREAMS, PREFIX + 1), PREFIX + 1, 1))
    engine = engines["int8"]
    for length in (32, 64, 128):
        works[f"one {length}"] = (STEPS, steps(engine, filled(engine, ids, 1, length), length, STEPS))
        works[f"many {length}"] = (STREAMS, steps(engine, filled(engine, ids, STREAMS, length + 1), length + 1, 1))
    works["transformers"] = (STEPS, cached(model, ids))
    works["torch prompt"] = (PREFIX, lambda: by_torch(model, ids[:PREFIX]))
    works["re-encode"] = (EVERY, lambda: by_torch(model, ids[: PREFIX + EVERY]))
    found = medians(works)
    show(base, found, engines)
    show_error(model, ids, engines)


def show(base: str, found: dict[str, float], engines: dict[str, KernelEngine]) -> None:
    table = Table("", "int8", "fp32", "mark", title=f"{base}, one thread, microseconds a token, prefix {PREFIX}")
    both = list(engines)

    def row(title: str, values: list[float], mark: str = "", digits: int = 2) -> None:
        table.add_row(title, *[f"{value:.{digits}f}" for value in values], *[""] * (2 - len(values)), mark)

    one = [found[f"{name} one"] for name in both]
    floors = [engine.token_bytes * found["memory"] for engine in engines.values()]
    row("one stream", one, digits=0)
    row("... to the bytes of its weights over the bandwidth", [a / b for a, b in zip(one, floors, strict=True)], "<= 2")
    row("... to transformers with its cache", [a / found["transformers"] for a in one], "<= 0.125", 3)
    row(f"... to re-encoding every {EVERY} tokens", [a / found["re-encode"] for a in one], "<= 0.2", 3)
    four = [found[f"{name} four"] for name in both]
    row("one stream, four tokens at a time", four, digits=0)
    row(f"... to re-encoding every {EVERY} tokens", [a / found["re-encode"] for a in four], "", 3)
    many = [found[f"{name} many"] for name in both]
    row(f"{STREAMS} streams together", many, digits=0)
    row(f"... {STREAMS} times one stream to that", [a / b for a, b in zip(one, many, strict=True)], ">= 4")
    for length in (128, 64, 32):
        row(f"the same at prefix {length}", [found[f"one {length}"] / found[f"many {length}"]], ">= 4")
    row("a prompt of that length, read at once", [found[f"{name} prompt"] for name in both], digits=0)
    row("... torch to that", [found["torch prompt"] / found[f"{name} prompt"] for name in both])
    row("weights read for a token, MB", [engine.token_bytes / 1e6 for engine in engines.values()])
    memories = filled_sizes(engines)
    row("memory of a stream, bytes a token", memories, digits=0)
    Console(width=120).print(table)
    print(
        f"transformers with its cache {found['transformers']:.0f} us a token, re-encoding {found['re-encode']:.0f}, "
        f"torch on the prompt {found['torch prompt']:.0f}; reading 256 MB {1e-3 / found['memory']:.1f} GB/s, "
        f"as many bytes as the int8 weights {1e-3 / found['cache']:.1f} GB/s"
    )


def filled_sizes(engines: dict[str, KernelEngine]) -> list[float]:
    return [filled(engine, [1] * PREFIX, 1, PREFIX)[0].nbytes / PREFIX for engine in engines.values()]


def show_error(model: Classifier, ids: list[int], engines: dict[str, KernelEngine]) -> None:
    """How far the logits of the kernel lie from torch's, on four texts as long as the model can read."""
    length = min(512, len(ids) // 4)
    texts = [ids[i * length : (i + 1) * length] for i in range(4)]
    expected = np.concatenate([by_torch(model, text) for text in texts])
    for name, engine in engines.items():
        found = np.concatenate(engine.extend([Job(engine.memory(), text) for text in texts]))
        off = np.abs(found - expected)
        print(
            f"{name} to torch on {len(expected)} tokens: largest difference {off.max():.2g}, typical "
            f"{np.sqrt((off**2).mean()):.2g}; the logits' standard deviation is {expected.std():.2g}"
        )


if __name__ == "__main__":
    main()
