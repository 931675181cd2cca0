"""What a base model on torch remembers of a sequence: keys and values of every token, in every layer.

A memory is a row of `Rows`. It begins in rows of its own; memories that are read side by side on a GPU move into
common ones and stay there as long as they go on together, so that nothing is copied from step to step.
"""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from marbury.classifier.engine import Block

Shape = tuple[int, int]  # heads, width
GRAIN = 64  # tokens by which the room of a memory grows


@dataclass(frozen=True)
class Shapes:
    """What is kept of each token: heads and width of keys and of values, per layer."""

    layers: tuple[tuple[Shape, Shape], ...]
    dtype: torch.dtype
    device: torch.device


class Rows:
    """Room for the keys and values of some memories: per layer (memory, head, position, width)."""

    def __init__(self, shapes: Shapes, size: int, room: int) -> None:
        self.size, self.room = size, room
        self.members: weakref.WeakSet[TorchMemory] = weakref.WeakSet()
        self.layers: list[tuple[Tensor, Tensor]] = [
            (self._empty(shapes, keys), self._empty(shapes, values)) for keys, values in shapes.layers
        ]

    def _empty(self, shapes: Shapes, shape: Shape) -> Tensor:
        heads, width = shape
        # Zeros: what was never written is masked, but a number that is none would come through the mask.
        return torch.zeros(self.size, heads, self.room, width, dtype=shapes.dtype, device=shapes.device)

    @property
    def row_bytes(self) -> int:
        """Bytes of one memory."""
        return sum(t.nbytes for pair in self.layers for t in pair) // self.size


class TorchBlock:
    """Keys and values of some tokens, per layer (head, token, width)."""

    def __init__(self, layers: list[tuple[Tensor, Tensor]]) -> None:
        self.layers = layers

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(t.nbytes for pair in self.layers for t in pair)

    def __len__(self) -> int:
        return int(self.layers[0][0].shape[1])


class TorchMemory:
    """Keys and values of one sequence. It takes room for at most a quarter more tokens than it has, and 2 GRAIN."""

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes
        self.length = 0
        self.rows: Rows | None = None
        self.row = 0

    def __len__(self) -> int:
        return self.length

    @property
    def nbytes(self) -> int:
        """Bytes that it takes now."""
        return self.rows.row_bytes if self.rows else 0

    def past(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys and values (head, token, width) of the tokens so far, layer by layer."""
        if self.rows is not None:
            for keys, values in self.rows.layers:
                yield keys[self.row, :, : self.length], values[self.row, :, : self.length]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put the new tokens' keys and values (head, token, width) behind the past; past and new together."""
        assert self.rows is not None
        all_keys, all_values = self.rows.layers[layer]
        end = self.length + keys.shape[1]
        all_keys[self.row, :, self.length : end] = keys
        all_values[self.row, :, self.length : end] = values
        return all_keys[self.row, :, :end], all_values[self.row, :, :end]

    def make_room(self, length: int) -> None:
        """See that this many tokens have room."""
        if self.rows is None or self.rows.room < length:
            self._move(Rows(self.shapes, 1, _room(length)), 0)

    def fork(self) -> "TorchMemory":
        """A memory of its own with the same past."""
        twin = TorchMemory(self.shapes)
        if self.length:
            twin.make_room(self.length)
            twin.length = self.length
            _copy(self, twin)
        return twin

    def crop(self, length: int) -> None:
        """Forget the tokens from this position on."""
        self.length = min(self.length, length)

    def cut(self, start: int, stop: int) -> TorchBlock:
        """A copy of what is remembered of the tokens from `start` up to `stop`."""
        if not 0 <= start < stop <= self.length:
            raise ValueError(f"tokens {start} to {stop} of {self.length}")
        return TorchBlock([(k[:, start:stop].clone(), v[:, start:stop].clone()) for k, v in self.past()])

    def paste(self, block: Block) -> None:
        """Go on with what another memory remembered of tokens at exactly these positions, after the same past."""
        assert isinstance(block, TorchBlock)
        self.make_room(self.length + len(block))
        for number, (keys, values) in enumerate(block.layers):
            self.write(number, keys, values)
        self.length += len(block)

    def close(self) -> None:
        """Free it. May be called twice."""
        self.length = 0
        rows, self.rows = self.rows, None
        if rows is not None:
            rows.members.discard(self)
            _spread(rows)

    def _move(self, rows: Rows, row: int) -> None:
        """Into a row that is empty."""
        old, old_row = self.rows, self.row
        if old is not None:
            for (k_old, v_old), (k_new, v_new) in zip(old.layers, rows.layers, strict=True):
                k_new[row, :, : self.length] = k_old[old_row, :, : self.length]
                v_new[row, :, : self.length] = v_old[old_row, :, : self.length]
            old.members.discard(self)
        self.rows, self.row = rows, row
        rows.members.add(self)


def gather(memories: Sequence[TorchMemory], news: Sequence[int]) -> Rows:
    """Common rows for these memories and so many new tokens of each; those that they share already if possible."""
    need = max(memory.length + new for memory, new in zip(memories, news, strict=True))
    rows = memories[0].rows
    if rows and rows.room >= need and 2 * len(memories) >= rows.size and all(m.rows is rows for m in memories):
        return rows
    common = Rows(memories[0].shapes, len(memories), _room(need))
    left = {id(memory.rows): memory.rows for memory in memories}
    for row, memory in enumerate(memories):
        memory._move(common, row)
    for rows in left.values():
        if rows is not None:
            _spread(rows)
    return common


def _spread(rows: Rows) -> None:
    """Those that are left in common rows get rows of their own when they would hold on to twice what they need."""
    if 2 * len(rows.members) < rows.size:
        for memory in list(rows.members):
            memory._move(Rows(memory.shapes, 1, _room(memory.length)), 0)


def _room(length: int) -> int:
    return -(-(length + length // 4 + 1) // GRAIN) * GRAIN


def _copy(source: TorchMemory, target: TorchMemory) -> None:
    for (keys, values), (to_keys, to_values) in zip(source.past(), target.past(), strict=True):
        to_keys.copy_(keys)
        to_values.copy_(values)
