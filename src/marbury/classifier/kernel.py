"""The CPU kernel: classifiers whose base is a BERT that reads forwards, in int8 or fp32, many sequences in one call.

It keeps to the contract of `engine.py`. The arithmetic stands in `kernel_steps.py`; here weights are brought into its
order, and what is remembered of a sequence is kept in slabs of 64 tokens. Forks share slabs and copy one when they
write to it. What one token costs depends on its own past alone, and so does its result: the same bits come out
whether a text is read token by token or at once, alone or with others.
"""

import itertools
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from marbury.classifier.engine import Job
from marbury.classifier.kernel_attention import Kinds
from marbury.classifier.kernel_memory import KernelMemory, Layout, Slab
from marbury.classifier.kernel_steps import Matrix, Weights, read
from marbury.classifier.kernel_tile import PANEL
from marbury.classifier.model import Classifier
from marbury.scoring import Side

Precision = Literal["int8", "fp32"]
MODEL_TYPES = {"bert", "marbury-base"}
PASS = 96  # tokens that go through the layers together: their inputs stay in the second cache

KINDS = {
    "int8": Kinds(np.empty((0, 0, 0, 0, 2), np.int8), np.empty(0, np.int16), np.empty(0, np.int32)),
    "fp32": Kinds(np.empty((0, 0, 0, 0, 1), np.float32), np.empty(0, np.float32), np.empty(0, np.float32)),
}


class KernelEngine:
    """A classifier that is ready to read on a CPU. It may be used by several threads, each with its own memories."""

    def __init__(
        self,
        weights: Weights,
        words: NDArray[Any],
        positions: NDArray[np.float32],
        layout: Layout,
        sides: dict[Side, slice],
    ) -> None:
        self.weights, self._words, self._positions, self._layout = weights, words, positions, layout
        self._columns = sides

    @staticmethod
    def fits(model: Classifier) -> bool:
        """Whether the kernel can compute this classifier."""
        config = model.config.base_config()
        if model.config.reads != "last":
            return False
        if config.model_type not in MODEL_TYPES or not config.is_decoder or config.hidden_act != "gelu":
            return False
        linear = [module for module in model.backbone.base_model.encoder.modules() if hasattr(module, "in_features")]
        plain = all(type(module) is nn.Linear for module in linear)  # an adapter would be left out
        return plain and not config.add_cross_attention and config.hidden_size // config.num_attention_heads % 4 == 0

    @classmethod
    def of(cls, model: Classifier, precision: Precision = "int8") -> Self:
        """The kernel with the weights of a classifier.

        Raises:
            ValueError: it cannot compute this classifier.
        """
        if not cls.fits(model):
            raise ValueError(f"the CPU kernel cannot compute a base of type {model.config.base.get('model_type')!r}")
        bert = model.backbone.base_model
        embeddings = bert.embeddings
        positions: Any = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        words = _numpy(embeddings.word_embeddings.weight)
        return cls(
            _weights(model, KINDS[precision]),
            _wide(_half(words) if precision == "int8" else words),
            _wide(_numpy(positions)),
            _layout(bert.config, KINDS[precision]),
            model.config.columns(),
        )

    @property
    def columns(self) -> dict[Side, slice]:
        """Where the logits of each side stand: harm first, then one per category."""
        return dict(self._columns)

    @property
    def token_bytes(self) -> int:
        """Bytes of weights that are read for one token."""
        matrices = [self.weights.qkv, self.weights.out, self.weights.up, self.weights.down]
        arrays = [array for matrix in matrices for array in matrix] + [self.weights.norms, self.weights.heads]
        return sum(int(array.nbytes) for array in arrays)

    def memory(self) -> KernelMemory:
        """An empty memory."""
        return KernelMemory(self._layout, len(self._positions))

    def extend(self, jobs: Sequence[Job]) -> list[NDArray[np.float32]]:
        """Read the new tokens of every job; the logits (new token, column) of each. No memory occurs twice.

        Raises:
            ValueError: a sequence would become longer than the model's positions, a token is none of the model's, or a
                memory is another engine's, closed, or given twice.
        """
        memories = [self._own(job) for job in jobs]
        if len(set(map(id, memories))) != len(memories):
            raise ValueError("a memory is given twice in one call")
        ids = [token for job in jobs for token in job.ids]
        if ids and not 0 <= min(ids) <= max(ids) < len(self._words):
            raise ValueError(f"a token is not in 0..{len(self._words) - 1}, the model's vocabulary")
        counts = [len(job.ids) for job in jobs]
        starts = [len(memory) for memory in memories]
        slabs = [memory.reserve(count) for memory, count in zip(memories, counts, strict=True)]
        owner = [number for number, count in enumerate(counts) for _ in range(count)]
        position = [start + i for start, count in zip(starts, counts, strict=True) for i in range(count)]
        logits = self._read(ids, owner, position, _table(slabs))
        for memory, count in zip(memories, counts, strict=True):
            memory.advance(count)
        ends = list(itertools.accumulate(counts))
        return [logits[end - count : end] for end, count in zip(ends, counts, strict=True)]

    def _own(self, job: Job) -> KernelMemory:
        memory = job.memory
        if not isinstance(memory, KernelMemory) or memory.layout is not self._layout:
            raise ValueError("this memory was not made by this engine")
        memory.check_room(len(job.ids))
        return memory

    def _read(
        self, ids: list[int], owner: list[int], position: list[int], slabs: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        places = np.array([ids, owner, position], np.int64)
        kinds, shape = self._layout.kinds, self._layout.shape
        logits = np.empty((len(ids), len(self.weights.heads)), np.float32)
        for start in range(0, len(ids), PASS):
            words, owners, positions = places[:, start : start + PASS]
            x = self._words[words] + self._positions[positions]
            read(x, owners, positions, slabs, self.weights, kinds, shape, logits[start : start + PASS])
        return logits


def _table(rows: list[list[Slab]]) -> NDArray[np.int64]:
    """The addresses (memory, number), filled up with zeros."""
    table = np.zeros((len(rows), max(map(len, rows), default=0)), np.int64)
    for number, row in enumerate(rows):
        table[number, : len(row)] = [slab.address for slab in row]
    return table


def _numpy(weight: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = weight.detach().to("cpu", torch.float32).numpy()
    return array


def _half(rows: NDArray[np.float32]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):  # becomes infinite, and then not a number
        return rows.astype(np.float16)


def _filled(count: int) -> int:
    return -(-count // PANEL) * PANEL


def _wide(rows: NDArray[Any]) -> NDArray[Any]:
    """Rows filled up with zeros; the same array if nothing is missing."""
    missing = _filled(rows.shape[1]) - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, missing))) if missing else rows


def _layout(config: Any, kinds: Kinds) -> Layout:
    head = config.hidden_size // config.num_attention_heads
    return Layout.of(config.num_hidden_layers, config.num_attention_heads, head, config.layer_norm_eps, kinds)


def _weights(model: Classifier, kinds: Kinds) -> Weights:
    bert = model.backbone.base_model
    layers = list(bert.encoder.layer)
    attention = [layer.attention for layer in layers]
    norms = [bert.embeddings.LayerNorm]
    norms += [norm for layer in layers for norm in (layer.attention.output.LayerNorm, layer.output.LayerNorm)]
    heads: list[Any] = [model.heads[side] for side in model.config.sides]
    return Weights(
        qkv=_matrix([[a.self.query, a.self.key, a.self.value] for a in attention], kinds),
        out=_matrix([[a.output.dense] for a in attention], kinds),
        up=_matrix([[layer.intermediate.dense] for layer in layers], kinds),
        down=_matrix([[layer.output.dense] for layer in layers], kinds),
        norms=np.stack([np.stack([_numpy(norm.weight), _numpy(norm.bias)]) for norm in norms]),
        heads=np.concatenate([np.c_[_numpy(head.weight), _numpy(head.bias)] for head in heads]),
    )


def _matrix(parts: list[list[Any]], kinds: Kinds) -> Matrix:
    """The matrices (row, column) of some linear modules, one list a layer, in panels."""
    panels, scales, biases = zip(*(_panels(modules, kinds) for modules in parts), strict=True)
    return Matrix(np.stack(panels), np.stack(scales), np.stack(biases))


def _panels(modules: list[Any], kinds: Kinds) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.float32]]:
    bias = np.concatenate([_numpy(module.bias) for module in modules])
    weight = np.concatenate([_numpy(module.weight) for module in modules])
    (rows, columns), size = weight.shape, _filled(len(weight))
    weight = np.pad(weight, ((0, size - rows), (0, _filled(columns) - columns)))
    scale = np.ones(size, np.float32)
    if kinds.weights.dtype == np.int8:
        with np.errstate(invalid="ignore"):  # a row with a weight that is not finite has no scale, and says so
            scale = np.abs(weight).max(1) / np.float32(127)
            scale[~np.isfinite(scale)] = np.nan
            weight = np.nan_to_num(np.round(weight / np.where(scale == 0, 1, scale)[:, None]))
    steps = (
        weight.astype(kinds.weights.dtype)
        .reshape(size // PANEL, PANEL, -1, kinds.weights.shape[4])
        .transpose(0, 2, 1, 3)
    )
    return np.ascontiguousarray(steps), scale, np.pad(bias, (0, size - rows))
