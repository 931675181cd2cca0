"""What the CPU kernel remembers of a sequence: keys and values in slabs of 64 tokens, which forks share.

It knows the order of bytes in a slab, not what is done with them.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from marbury.classifier.engine import Block
from marbury.classifier.kernel_attention import Kinds, Shape
from marbury.classifier.kernel_tile import LINE, PANEL, VALUES

PARTS = ("keys", "key_scales", "values", "value_scales")


@dataclass(frozen=True, eq=False)
class Layout:
    """The order of the bytes in a slab, and what the kernel must know of it."""

    layer: np.dtype[Any]
    layers: int
    kinds: Kinds
    shape: Shape

    @classmethod
    def of(cls, layers: int, heads: int, head: int, epsilon: float, kinds: Kinds) -> Self:
        """The layout for a model of these sizes."""
        kind, group = kinds.weights.dtype, kinds.weights.shape[4]
        filled = -(-head // VALUES) * VALUES
        layer = np.dtype(
            [
                ("keys", kind, (heads, head // group, PANEL, group)),
                ("key_scales", np.float32, (heads, PANEL)),
                ("values", kind, (heads, filled // VALUES, PANEL // group, VALUES, group)),
                ("value_scales", np.float32, (heads, PANEL)),
            ]
        )
        fields: Any = layer.fields
        offsets = [fields[part][1] for part in PARTS[1:]]
        return cls(layer, layers, kinds, Shape(heads, head, filled, epsilon, layer.itemsize, *offsets))

    @property
    def nbytes(self) -> int:
        """Bytes of a slab."""
        return self.layers * self.layer.itemsize

    def new(self) -> "Slab":
        """An empty slab, which begins at a cache line."""
        room = np.zeros(self.nbytes + LINE, np.uint8)
        start = -room.ctypes.data % LINE
        data = room[start : start + self.nbytes].view(self.layer)
        return Slab(data, data.ctypes.data)


class Slab(NamedTuple):
    """What is remembered of 64 tokens."""

    data: NDArray[Any]  # (layer,)
    address: int


@dataclass(frozen=True, eq=False)
class KernelBlock:
    """A copy of what is remembered of some tokens: arrays (token, ...) in the order of `PARTS`."""

    layout: Layout
    start: int
    parts: tuple[NDArray[Any], ...] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return sum(part.nbytes for part in self.parts)

    def __len__(self) -> int:
        """How many tokens it covers."""
        return len(self.parts[0])


class KernelMemory:
    """What the kernel remembers of one token sequence. Not for two threads at once; forks are independent."""

    def __init__(self, layout: Layout, positions: int) -> None:
        self.layout = layout
        self._positions = positions
        self._length = 0
        self._slabs: list[Slab] = []
        self._shared = 0  # so many first slabs may also be held by others: they are copied before a change
        self._closed = False

    @property
    def nbytes(self) -> int:
        """Bytes of its slabs; one that it shares with others counts in full."""
        return len(self._slabs) * self.layout.nbytes

    def __len__(self) -> int:
        """How many tokens it covers."""
        return self._length

    def fork(self) -> "KernelMemory":
        """A memory of its own with the same past."""
        self.check_room(0)
        twin = KernelMemory(self.layout, self._positions)
        self._shared = twin._shared = len(self._slabs)
        twin._slabs, twin._length = list(self._slabs), self._length
        return twin

    def crop(self, length: int) -> None:
        """Forget the tokens from this position on."""
        if length < 0:
            raise ValueError(f"cannot crop a memory to {length} tokens: give 0 or more")
        self._length = min(length, self._length)
        kept = -(-self._length // PANEL)
        del self._slabs[kept:]
        self._shared = min(self._shared, kept)

    def cut(self, start: int, stop: int) -> KernelBlock:
        """A copy of what is remembered of the tokens from `start` up to `stop`."""
        if not 0 <= start < stop <= self._length:
            raise ValueError(f"cannot cut tokens {start} to {stop} out of a memory of {self._length}")
        pieces = [
            [view[index] for view, index in _views(self._slabs[number], slots)] for number, slots in _slots(start, stop)
        ]
        return KernelBlock(self.layout, start, tuple(np.concatenate(parts) for parts in zip(*pieces, strict=True)))

    def paste(self, block: Block) -> None:
        """Go on with what another memory remembered of tokens at exactly these positions, after the same past."""
        if not isinstance(block, KernelBlock) or block.layout is not self.layout:
            raise ValueError("this block was not cut from a memory of this engine")
        if block.start != self._length:
            raise ValueError(f"a block of tokens from {block.start} on cannot follow on {self._length} tokens")
        self.check_room(len(block))
        self.reserve(len(block))
        done = 0
        for number, slots in _slots(block.start, block.start + len(block)):
            for (view, index), part in zip(_views(self._slabs[number], slots), block.parts, strict=True):
                view[index] = part[done : done + len(slots)]
            done += len(slots)
        self._length += done

    def close(self) -> None:
        """Free it. May be called twice."""
        self.crop(0)
        self._closed = True

    def check_room(self, count: int) -> None:
        """Raises ValueError if it is closed, or if this many tokens more are more than the model's positions."""
        if self._closed:
            raise ValueError("this memory is closed")
        if self._length + count > self._positions:
            raise ValueError(
                f"{self._length} and {count} tokens are more than the {self._positions} positions of the model: "
                "begin again with a part of them"
            )

    def reserve(self, count: int) -> list[Slab]:
        """Make room for this many tokens more; gives all slabs, which live as long as they are held."""
        if count and self._length % PANEL and self._shared == len(self._slabs):
            old, own = self._slabs.pop(), self.layout.new()
            own.data[:] = old.data
            self._slabs.append(own)
            self._shared -= 1
        while len(self._slabs) * PANEL < self._length + count:
            self._slabs.append(self.layout.new())
        return list(self._slabs)

    def advance(self, count: int) -> None:
        """The reserved room now holds this many tokens more."""
        self._length += count


def _slots(start: int, stop: int) -> list[tuple[int, NDArray[np.int64]]]:
    """The slabs that hold these positions, and their slots in each."""
    edges = [start, *range(start - start % PANEL + PANEL, stop, PANEL), stop]
    return [(first // PANEL, np.arange(first, last) % PANEL) for first, last in zip(edges, edges[1:], strict=False)]


def _views(slab: Slab, slots: NDArray[np.int64]) -> list[tuple[NDArray[Any], Any]]:
    """The parts of a slab with the tokens in front, and how to index some of them."""
    keys, key_scales, values, value_scales = (slab.data[part] for part in PARTS)
    group = values.shape[-1]
    return [
        (np.moveaxis(keys, 3, 0), slots),
        (np.moveaxis(key_scales, 2, 0), slots),
        (values.transpose(3, 5, 0, 1, 2, 4), (slots // group, slots % group)),
        (np.moveaxis(value_scales, 2, 0), slots),
    ]
