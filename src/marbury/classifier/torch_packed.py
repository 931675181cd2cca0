"""Attention over tokens of several sequences that stand in one row: each reads the memory of its own sequence.

Knows of queries, keys, values and positions only. Two ways give the same: one attention per sequence, without any
padding or copy (best where a call is cheap: a CPU), and one for all short reads side by side (best on a GPU).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from marbury.classifier.torch_memory import Rows, TorchMemory, gather

SHORT = 8  # new tokens of a sequence that is read side by side with others


class Span(NamedTuple):
    """Where the new tokens of a memory stand in the row."""

    memory: TorchMemory
    start: int
    stop: int


class Packed:
    """One forward pass: which tokens belong to which memory. The memories have room for them already."""

    def __init__(self, reads: Sequence[tuple[TorchMemory, int]], side_by_side: bool) -> None:
        spans, at = [], 0
        for memory, count in reads:
            spans.append(Span(memory, at, at + count))
            at += count
        short = [span for span in spans if span.stop - span.start <= SHORT]
        together = side_by_side and len(short) > 1
        self._beside = Beside(short) if together else None
        self._spans = [span for span in spans if not together or span.stop - span.start > SHORT]
        self._masks: dict[tuple[int, int, int], Tensor] = {}

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None
    ) -> Tensor:
        """Outputs (1, token, head, width) for queries, keys and values (1, head, token, width)."""
        size = (query.shape[2], query.shape[1], value.shape[3])
        out_NHD = torch.empty(size, dtype=query.dtype, device=query.device)
        if self._beside is not None:
            self._beside.attend(layer, query[0], key[0], value[0], scale, window, out_NHD)
        for span in self._spans:
            part = slice(span.start, span.stop)
            out = self._alone(layer, span, query[0, :, part], key[0, :, part], value[0, :, part], scale, window)
            out_NHD[part] = out.transpose(0, 1)
        return out_NHD[None]

    def _alone(
        self, layer: int, span: Span, query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None
    ) -> Tensor:
        past, count = span.memory.length, span.stop - span.start
        keys, values = span.memory.write(layer, key, value)
        first = max(0, past + 1 - window) if window else 0  # what the first of the new tokens sees
        heads, kept = query.shape[0], keys.shape[0]
        groups = heads // kept  # heads that share keys: their queries stand below each other
        mask = self._mask(past, count, window or 0)[:, first:].repeat(groups, 1) if count > 1 else None
        out = scaled_dot_product_attention(
            query.reshape(1, kept, groups * count, -1),
            keys[None, :, first:],
            values[None, :, first:],
            mask,
            scale=scale,
        )
        return out.reshape(heads, count, -1)

    def _mask(self, past: int, count: int, window: int) -> Tensor:
        """What each new token may see (new token, position)."""
        known = self._masks.get((past, count, window))
        if known is None:
            device = self._spans[0].memory.shapes.device
            distance = torch.arange(past, past + count, device=device)[:, None] - torch.arange(
                past + count, device=device
            )
            known = (distance >= 0) & (distance < window) if window else distance >= 0
            self._masks[past, count, window] = known
        return known


class Beside:
    """Short reads in one attention: memories in common rows, new tokens padded to the longest read."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._rows: Rows = gather([span.memory for span in spans], [span.stop - span.start for span in spans])
        places = [
            (number, span.memory.row, column, span.memory.length + column)
            for span in spans
            for column, number in enumerate(range(span.start, span.stop))
        ]
        device = spans[0].memory.shapes.device
        self._token, self._row, self._column, self._position = torch.tensor(places, device=device).unbind(1)
        self._count = max(span.stop - span.start for span in spans)
        self._most = max(span.memory.length + span.stop - span.start for span in spans)
        position = torch.zeros(self._rows.size, self._count, dtype=torch.long, device=device)
        position[self._row, self._column] = self._position  # padding sees the first position; nobody reads it
        self._distance = position[:, :, None] - torch.arange(self._most, device=device)

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None,
        window: int | None,
        out: Tensor,
    ) -> None:
        """Fill in the outputs (token, head, width) of these reads."""
        keys, values = self._rows.layers[layer]
        keys[self._row, :, self._position] = key[:, self._token].transpose(0, 1)
        values[self._row, :, self._position] = value[:, self._token].transpose(0, 1)
        padded = query.new_zeros(self._rows.size, self._count, query.shape[0], query.shape[2])
        padded[self._row, self._column] = query[:, self._token].transpose(0, 1)
        seen = (self._distance >= 0) & (self._distance < window) if window else self._distance >= 0
        found = scaled_dot_product_attention(
            padded.transpose(1, 2), keys[:, :, : self._most], values[:, :, : self._most], seen[:, None],
            scale=scale, enable_gqa=query.shape[0] != keys.shape[1],
        )  # fmt: skip
        out[self._token] = found.transpose(1, 2)[self._row, self._column]
