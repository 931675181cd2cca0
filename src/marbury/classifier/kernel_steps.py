"""The arithmetic of the CPU kernel: new tokens of many sequences through all layers of a BERT that reads forwards.

Compiled by numba, once for int8 and once for fp32: the types of the arrays choose. In int8 every matrix and every key
and value has 8 bits, with a scale a row or a head; inputs have up to 15 bits, with a scale a token. A token's result
does not depend on which other tokens are read in the same call. What is not a number stays so to the end.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from marbury.classifier.kernel_attention import Kinds, Shape, attend, remember, room_for
from marbury.classifier.kernel_math import add_and_norm, compiled, f32, gelu, input_limit, norm, pack, product
from marbury.classifier.kernel_tile import PANEL, TOKENS, tile_one, tile_wide, widest


class Matrix(NamedTuple):
    """One matrix of every layer, in panels of rows. Rows and columns are filled up to 64."""

    panels: NDArray[Any]  # (layer, panel, step, 64, 2) int8, or (layer, panel, step, 64, 1) fp32
    scales: NDArray[np.float32]  # (layer, row)
    bias: NDArray[np.float32]  # (layer, row)


class Weights(NamedTuple):
    """All that is read for a token after its embedding."""

    qkv: Matrix
    out: Matrix
    up: Matrix
    down: Matrix
    norms: NDArray[np.float32]  # (2 layers + 1, 2, width): the embedding's scale and shift, then two of every layer
    heads: NDArray[np.float32]  # (column, width + 1): the last is the bias


@compiled
def multiply(matrix: Matrix, layer: int, x: Any, packed: Any, sums: Any, y: Any) -> None:
    """y (token, row) = bias + matrix of this layer times x (token, column). `packed` and `sums` are scratch."""
    widest()
    panels, scales, bias = matrix.panels[layer], matrix.scales[layer], matrix.bias[layer]
    tokens, columns = x.shape
    limit = input_limit(columns)
    by = np.empty(tokens, np.float32)
    for t in range(tokens):
        by[t] = pack(x[t], packed[t, :columns], limit)
    steps = panels.shape[1]
    stride = packed.shape[1] * packed.itemsize
    panel_bytes = steps * PANEL * panels.shape[3] * panels.itemsize
    panels_at, packed_at, sums_at = panels.ctypes.data, packed.ctypes.data, sums.ctypes.data
    together = 1 if tokens == 1 else TOKENS
    for number in range(panels.shape[0]):
        place, row = panels_at + number * panel_bytes, number * PANEL
        for first in range(0, tokens, together):
            if together == 1:
                tile_one(panels, place, packed_at, stride, steps, sums_at, PANEL * 4)
            else:
                tile_wide(panels, place, packed_at + first * stride, stride, steps, sums_at, PANEL * 4)
            for t in range(min(together, tokens - first)):
                out, found, scale = y[first + t], sums[t], by[first + t]
                for i in range(PANEL):
                    out[row + i] = f32(found[i]) * scale * scales[row + i] + bias[row + i]


def _digest() -> int:
    """A number for the text of all files of the kernel."""
    files = sorted(Path(__file__).parent.glob("kernel*.py"))
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).digest()
    return int.from_bytes(digest[:7], "big")


def _reader(source: int) -> Any:
    """The function `read`, kept on disk where there is a place for it.

    numba looks for changes in this file alone, but also at what a function closes over: with `source` a change in any
    file of the kernel is a change of this function.
    """

    def read(
        x: Any, owner: Any, position: Any, slabs: Any, weights: Weights, kinds: Kinds, shape: Shape, logits: Any
    ) -> int:
        """Take tokens through all layers: their embeddings x (token, width filled up) become states, and logits.

        A token belongs to the sequence `owner` and stands at `position`; the tokens of a sequence come in order. What
        the sequences remember lies at the addresses `slabs` (owner, number), 64 positions each, and is added to.
        Gives `source`.
        """
        tokens, filled = x.shape
        width = shape.heads * shape.head
        wide = weights.up.scales.shape[1]
        rows = 1 if tokens == 1 else (tokens + TOKENS - 1) // TOKENS * TOKENS
        packed = np.empty((rows, max(filled, wide)), kinds.inputs.dtype)
        sums = np.empty((TOKENS, PANEL), kinds.sums.dtype)
        qkv = np.empty((tokens, weights.qkv.scales.shape[1]), np.float32)
        mixed = np.zeros((tokens, filled), np.float32)
        y = np.empty((tokens, filled), np.float32)
        inner = np.empty((tokens, wide), np.float32)
        buffer = np.empty(shape.head, kinds.weights.dtype)
        room = room_for(kinds, shape, slabs.shape[1] * PANEL)
        for t in range(tokens):
            norm(x[t, :width], weights.norms[0], shape.epsilon)
        for layer in range(weights.qkv.panels.shape[0]):
            multiply(weights.qkv, layer, x, packed, sums, qkv)
            for t in range(tokens):
                slab = slabs[owner[t], position[t] // PANEL]
                remember(kinds, shape, slab, layer, position[t] % PANEL, qkv[t], buffer)
            for t in range(tokens):
                then = slabs[owner[t + 1], 0] if t + 1 < tokens else slabs[owner[0], 0] + shape.layer_bytes
                attend(kinds, shape, slabs[owner[t]], then, layer, position[t] + 1, qkv[t], mixed[t], room)
            multiply(weights.out, layer, mixed, packed, sums, y)
            add_and_norm(x, y, width, weights.norms[1 + 2 * layer], shape.epsilon)
            multiply(weights.up, layer, x, packed, sums, inner)
            for t in range(tokens):
                gelu(inner[t])
            multiply(weights.down, layer, inner, packed, sums, y)
            add_and_norm(x, y, width, weights.norms[2 + 2 * layer], shape.epsilon)
        for t in range(tokens):
            for column in range(logits.shape[1]):
                logits[t, column] = product(x[t, :width], weights.heads[column])
        return source

    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(read)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return compiled(read)


SOURCE = _digest()
read = _reader(SOURCE)
