"""Shards of the examples: each is read, made and written alone, so memory is bounded and a kill costs little."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

from marbury.progress import track
from marbury.records import Example, to_jsonl
from marbury.split import is_held_out
from marbury.workspace import write_atomic

SHARD_ROWS = 2000

Make = Callable[[Example], Iterable[Example | None]]


@dataclass(frozen=True)
class Shard:
    """A piece of the examples: its number, and the bytes of the file that it covers."""

    number: int
    start: int
    end: int


def shards_of(path: Path, rows: int = SHARD_ROWS) -> list[Shard]:
    """The file cut after every so many lines."""
    cuts, at = [0], 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            at += len(line)
            if number % rows == 0:
                cuts.append(at)
    if cuts[-1] != at:
        cuts.append(at)
    return [Shard(number, *ends) for number, ends in enumerate(zip(cuts, cuts[1:], strict=False))]


def _make(shard: Shard, source: Path, folder: Path, make: Make) -> dict[str, int]:
    """Write a shard's variants, then the counts that mean "done"."""
    with source.open("rb") as file:
        file.seek(shard.start)
        lines = file.read(shard.end - shard.start).split(b"\n")
    decode = msgspec.json.Decoder(Example).decode
    examples = [decode(line) for line in lines if line.strip()]
    made = [row for example in examples for row in make(example)]
    rows = [row for row in made if row is not None]
    held_out = sum(is_held_out(row.chain[0]) for row in rows)
    counts = {"examples": len(examples), "variants": len(rows), "held_out": held_out}
    counts["not_fitting"] = len(made) - len(rows)
    write_atomic(folder / f"{shard.number:06}.jsonl", to_jsonl(rows))
    write_atomic(folder / f"{shard.number:06}.json", json.dumps(counts).encode())
    return counts


_state: list[Any] = []  # what a worker process was started with: source, folder, make


def _start(source: Path, folder: Path, maker: Callable[..., Make], arguments: tuple[Any, ...]) -> None:
    _state[:] = [source, folder, maker(*arguments)]


def _work(shard: Shard) -> dict[str, int]:
    return _make(shard, *_state)


def make_all(
    source: Path, folder: Path, make: Make, maker: Callable[..., Make], arguments: tuple[Any, ...], processes: int
) -> Iterator[dict[str, int]]:
    """Make the shards that are not there yet; give the counts of all. `maker(*arguments)` is `make` elsewhere."""
    shards = shards_of(source)
    marks = {shard: folder / f"{shard.number:06}.json" for shard in shards}
    left = [shard for shard in shards if not marks[shard].exists()]
    yield from (json.loads(marks[shard].read_bytes()) for shard in shards if shard not in left)
    if processes == 1 or len(left) < 2:
        yield from (_make(shard, source, folder, make) for shard in track(left, "augment, shards"))
        return
    state = (source, folder, maker, arguments)
    with ProcessPoolExecutor(processes, get_context("spawn"), initializer=_start, initargs=state) as pool:
        yield from track(pool.map(_work, left), "augment, shards", len(left))


def join(folder: Path, target: Path) -> None:
    """The shards one after another, in one file that appears whole or not at all."""
    part = target.with_name(target.name + ".part")
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("wb") as file:
        for path in sorted(folder.glob("*.jsonl")):
            file.write(path.read_bytes())
        file.flush()
        os.fsync(file.fileno())
    part.replace(target)
