"""Attention for the CPU kernel: what is remembered of a token, and what another takes from it. Compiled by numba.

A memory is a table of the addresses of slabs, 64 tokens each. In a slab every layer has the keys (head, step, slot, .),
their scales (head, slot), the values (head, panel, step, place, .) and their scales (head, slot), so that both are
panels for a tile: keys with slots as rows, values with places as rows.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from marbury.classifier.kernel_math import compiled, f32, input_limit, pack, shares
from marbury.classifier.kernel_tile import PANEL, VALUES, fetch, pointer, tile_one, tile_values, widest

_FLOATS = np.empty(0, np.float32)


class Kinds(NamedTuple):
    """Empty arrays whose types choose between int8 and fp32."""

    weights: NDArray[Any]  # int8 (0, 0, 0, 0, 2) or fp32 (0, 0, 0, 0, 1): how many columns a step takes
    inputs: NDArray[Any]  # int16 or fp32
    sums: NDArray[Any]  # int32 or fp32


class Shape(NamedTuple):
    """Sizes, and where the parts of one layer stand in a slab, in bytes."""

    heads: int
    head: int  # places of a head
    values: int  # the same, filled up to 32
    epsilon: float
    layer_bytes: int
    key_scales: int
    value_part: int
    value_scales: int


class Room(NamedTuple):
    """Scratch for one token."""

    packed: NDArray[Any]  # the queries (head, place) as inputs
    weights: NDArray[Any]  # (head, slot) as inputs
    sums: NDArray[Any]  # (64,)
    mixed: NDArray[Any]  # (head, place) as sums
    scores: NDArray[np.float32]  # (head, slot)
    scales: NDArray[np.float32]  # (head,)


@compiled
def part(kinds: Kinds, shape: Shape, slab: int, layer: int) -> Any:
    """The keys of one layer, their scales, its values, their scales."""
    like, floats = kinds.weights, _FLOATS
    group = like.shape[4]
    here = slab + layer * shape.layer_bytes
    keys = (shape.heads, shape.head // group, PANEL, group)
    values = (shape.heads, shape.values // VALUES, PANEL // group, VALUES, group)
    return (
        numba.carray(pointer(like, here), keys),
        numba.carray(pointer(floats, here + shape.key_scales), (shape.heads, PANEL)),
        numba.carray(pointer(like, here + shape.value_part), values),
        numba.carray(pointer(floats, here + shape.value_scales), (shape.heads, PANEL)),
    )


@compiled
def remember(kinds: Kinds, shape: Shape, slab: int, layer: int, slot: int, qkv: Any, buffer: Any) -> None:
    """Write a token's keys and values into a slot of a slab. `buffer` is scratch for one head, as weights."""
    width, size, group = shape.heads * shape.head, shape.head, kinds.weights.shape[4]
    keys, key_scales, values, value_scales = part(kinds, shape, slab, layer)
    for head in range(shape.heads):
        start = width + head * size
        key_scales[head, slot] = pack(qkv[start : start + size], buffer, f32(127))
        for step in range(keys.shape[1]):
            for i in range(group):
                keys[head, step, slot, i] = buffer[step * group + i]
        start += width
        value_scales[head, slot] = pack(qkv[start : start + size], buffer, f32(127))
        for i in range(size):
            values[head, i // VALUES, slot // group, i % VALUES, slot % group] = buffer[i]


@compiled
def steps_of(slots: int, group: int) -> int:
    """Steps that cover this many slots. Integers go by two, and what lies beyond counts nothing; floats one by one."""
    return slots if group == 1 else (slots + 3) // 4 * 2


@compiled
def score(kinds: Kinds, shape: Shape, slabs: Any, then: int, layer: int, count: int, room: Room) -> None:
    """The products of the packed queries with the keys of the first `count` tokens, into `room.scores`.

    Memory is slower than this arithmetic. So a slab is read from front to back for all heads, and while its keys are
    used, its values are fetched and the keys of the next slab, in the end those at `then`.
    """
    widest()
    inputs_at, inputs_bytes, sums_at = room.packed.ctypes.data, room.packed.strides[0], room.sums.ctypes.data
    for first in range(0, count, PANEL):
        keys, key_scales, values, _ = part(kinds, shape, slabs[first // PANEL], layer)
        coming = (slabs[first // PANEL + 1] if first + PANEL < count else then) + layer * shape.layer_bytes
        keys_at, values_at, steps = keys.ctypes.data, values.ctypes.data, keys.shape[1]
        for head in range(shape.heads):
            offset = head * keys.strides[0]
            fetch(coming + offset, keys.strides[0])
            fetch(values_at + head * values.strides[0], values.strides[0])
            tile_one(kinds.weights, keys_at + offset, inputs_at + head * inputs_bytes, 0, steps, sums_at, 0)
            scale = room.scales[head]
            for i in range(PANEL):
                room.scores[head, first + i] = f32(room.sums[i]) * key_scales[head, i] * scale


@compiled
def mix(kinds: Kinds, shape: Shape, slabs: Any, layer: int, count: int, room: Room) -> None:
    """The sums of the values of the first `count` tokens, weighted by `room.weights`, into `room.mixed`."""
    room.mixed[:] = 0
    inputs_at, inputs_bytes, mixed_at = room.weights.ctypes.data, room.weights.strides[0], room.mixed.ctypes.data
    for first in range(0, count, PANEL):
        _, _, values, _ = part(kinds, shape, slabs[first // PANEL], layer)
        values_at, steps = values.ctypes.data, steps_of(min(PANEL, count - first), values.shape[4])
        for head in range(shape.heads):
            inputs = inputs_at + head * inputs_bytes + first * room.weights.itemsize
            for number in range(values.shape[1]):
                place = values_at + head * values.strides[0] + number * values.strides[1]
                sums = mixed_at + head * room.mixed.strides[0] + number * VALUES * 4
                tile_values(kinds.weights, place, inputs, 0, steps, sums, 0)


@compiled
def attend(
    kinds: Kinds, shape: Shape, slabs: Any, then: int, layer: int, count: int, query: Any, mixed: Any, room: Room
) -> None:
    """What the heads of one token take from the first `count` tokens of a memory, into `mixed`. `then`: see `score`."""
    widest()
    size = (count + PANEL - 1) // PANEL * PANEL
    limit, by = input_limit(shape.head), f32(1) / np.sqrt(f32(shape.head))
    for head in range(shape.heads):
        start = head * shape.head
        room.scales[head] = pack(query[start : start + shape.head], room.packed[head], limit) * by
    score(kinds, shape, slabs, then, layer, count, room)
    for head in range(shape.heads):
        room.scales[head] = f32(1) / shares(room.scores[head, :size], count)
    for first in range(0, count, PANEL):
        _, _, _, value_scales = part(kinds, shape, slabs[first // PANEL], layer)
        for head in range(shape.heads):
            for i in range(min(PANEL, count - first)):
                room.scores[head, first + i] *= value_scales[head, i]
    limit = input_limit(size)
    for head in range(shape.heads):
        room.scales[head] *= pack(room.scores[head, :size], room.weights[head, :size], limit)
    mix(kinds, shape, slabs, layer, count, room)
    for head in range(shape.heads):
        for i in range(shape.head):
            mixed[head * shape.head + i] = f32(room.mixed[head, i]) * room.scales[head]


@compiled
def room_for(kinds: Kinds, shape: Shape, slots: int) -> Room:
    """Scratch for a memory of this many tokens."""
    return Room(
        np.empty((shape.heads, shape.head), kinds.inputs.dtype),
        np.empty((shape.heads, slots), kinds.inputs.dtype),
        np.empty(PANEL, kinds.sums.dtype),
        np.empty((shape.heads, shape.values), kinds.sums.dtype),
        np.empty((shape.heads, slots), np.float32),
        np.empty(shape.heads, np.float32),
    )
