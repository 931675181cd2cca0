"""Any base model on torch as an engine: the new tokens of many sequences in one forward pass, on any device.

The tokens stand one after another in a single row without padding, each with its own position. Only attention knows
that they belong to different sequences: it writes keys and values into each sequence's memory and reads them there.
A family whose attention cannot be reached like this is found out when the engine is made and read one by one.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface, DynamicCache
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from marbury.classifier.engine import Job
from marbury.classifier.model import Classifier
from marbury.classifier.torch_memory import Shapes, TorchMemory
from marbury.classifier.torch_packed import Packed
from marbury.scoring import Side

ATTENTION = "marbury_packed"
MOST_TOKENS = 4096  # of one forward pass; more are read in several
_CLOSE = {torch.float32: 1e-3}  # of the largest state; other types are rounded to this much:
_ROUGH = 6e-2
# What a model raises that was not made to be asked like this.
_UNFIT = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError)


class TorchEngine:
    """A classifier on the device and in the number type that its weights have.

    `side_by_side`: short reads share one padded attention (best on a GPU) in place of one each; None: on a GPU.
    Raises ValueError for a base that does not keep keys and values of each token, and only of these.
    """

    def __init__(self, model: Classifier, side_by_side: bool | None = None) -> None:
        self._model = model.eval()
        self._device = model.device
        self._side_by_side = self._device.type != "cpu" if side_by_side is None else side_by_side
        self._columns: dict[Side, slice] = model.config.columns()
        text = model.config.base_config().get_text_config()
        self._positions = getattr(text, "max_position_embeddings", None) or 1 << 30
        self._no_mask = torch.zeros(1, 1, 1, 1, dtype=model.dtype, device=self._device)
        probe = _probe(text, min(model.config.max_tokens, self._positions))
        self._shapes = self._learn_shapes(probe[0])
        self.packs = _reach_attention(model.backbone) and self._reads_right(probe, packs=True)
        if not self.packs and not self._reads_right(probe, packs=False):
            raise ValueError(f"a base of type {text.model_type} cannot be read step by step: take another base")

    @classmethod
    def check(cls, model: Classifier) -> None:
        """Raise ValueError for a model that no engine of this kind can read; the model stays as it was."""
        attention, training = model.backbone.config._attn_implementation, model.training
        try:
            cls(model)
        finally:
            model.train(training)
            if model.backbone.config._attn_implementation != attention:
                model.backbone.set_attn_implementation(attention)

    @property
    def columns(self) -> dict[Side, slice]:
        """Where the logits of each side stand: harm first, then one per category."""
        return self._columns

    def memory(self) -> TorchMemory:
        """An empty memory."""
        return TorchMemory(self._shapes)

    def extend(self, jobs: Sequence[Job]) -> list[NDArray[np.float32]]:
        """Read the new tokens of every job; the logits (new token, column) of each. No memory occurs twice.

        When this fails, no memory has changed.

        Raises:
            ValueError: a sequence would become longer than the model's positions.
        """
        for job in jobs:
            if len(job.memory) + len(job.ids) > self._positions:
                raise ValueError(f"{len(job.memory)} + {len(job.ids)} tokens are more than {self._positions} positions")
        with torch.inference_mode():
            states = self._states(jobs, self.packs)
            logits = self._logits(torch.cat(states)) if states else np.empty((0, 0), np.float32)
        for job in jobs:
            _memory(job).length += len(job.ids)
        edges = np.cumsum([len(job.ids) for job in jobs])[:-1]
        return np.split(logits, edges) if jobs else []

    def _logits(self, states_ND: Tensor) -> NDArray[np.float32]:
        logits_NC = torch.cat([self._model.score(states_ND, side) for side in self._columns], -1)
        found: NDArray[np.float32] = logits_NC.float().cpu().numpy()
        return found

    def _states(self, jobs: Sequence[Job], packs: bool) -> list[Tensor]:
        """States (token, width) of each job's tokens; the memories hold them but do not count them yet."""
        for job in jobs:
            _memory(job).make_room(len(job.memory) + len(job.ids))
        if not packs:
            return [self._alone(job) for job in jobs]
        states: list[Tensor | None] = [None] * len(jobs)
        for batch in _batches(jobs):
            parts = self._together([jobs[number] for number in batch])
            for number, part in zip(batch, parts, strict=True):
                states[number] = part
        return [state for state in states if state is not None]

    def _together(self, jobs: Sequence[Job]) -> Sequence[Tensor]:
        packed = Packed([(_memory(job), len(job.ids)) for job in jobs], self._side_by_side)
        ids = [token for job in jobs for token in job.ids]
        positions = [len(job.memory) + number for job in jobs for number in range(len(job.ids))]
        states_BNW = self._model(
            torch.tensor([ids], device=self._device),
            position_ids=torch.tensor([positions], device=self._device),
            attention_mask=self._no_mask,  # with four axes: taken as it is, and `packed` knows better
            packed=packed,
        )
        parts: Sequence[Tensor] = states_BNW[0].split([len(job.ids) for job in jobs])
        return parts

    def _alone(self, job: Job) -> Tensor:
        """As transformers does it, with a cache of its own that is copied from and to the memory."""
        memory, cache = _memory(job), DynamicCache()
        if memory.length:
            for number, (keys, values) in enumerate(memory.past()):
                cache.update(keys[None], values[None], number)
        states: Tensor = self._model(torch.tensor([list(job.ids)], device=self._device), cache)[0]
        for number, layer in enumerate(cache.layers):
            memory.write(number, layer.keys[0, :, memory.length :], layer.values[0, :, memory.length :])
        return states

    @torch.inference_mode()
    def _learn_shapes(self, ids: Sequence[int]) -> Shapes:
        """What the base keeps of each token, layer by layer."""
        cache = DynamicCache()
        kind = self._model.config.base.get("model_type")
        refusal = f"a base of type {kind} does not keep keys and values of each token in every layer: take another base"
        try:
            self._model(torch.tensor([list(ids)], device=self._device), cache)
        except _UNFIT as error:
            raise ValueError(refusal) from error
        shapes = []
        for layer in cache.layers:
            kept = [tensor.shape for tensor in (layer.keys, layer.values) if tensor is not None]
            if len(kept) != 2 or any(len(shape) != 4 or shape[2] != len(ids) for shape in kept):
                raise ValueError(refusal)
            shapes.append(((kept[0][1], kept[0][3]), (kept[1][1], kept[1][3])))
        if not shapes:
            raise ValueError(refusal)
        return Shapes(tuple(shapes), cache.layers[0].keys.dtype, self._device)

    @torch.inference_mode()
    def _reads_right(self, probe: Sequence[Sequence[int]], packs: bool) -> bool:
        """Whether sequences that are read in steps, side by side, have the states of each read whole and alone."""
        memories = [self.memory() for _ in probe]
        steps: list[list[Tensor]] = [[] for _ in probe]
        try:
            for cut in (slice(0, -4), slice(-4, -1), slice(-1, None)):
                jobs = [Job(memory, ids[cut]) for memory, ids in zip(memories, probe, strict=True)]
                for job, states, found in zip(jobs, self._states(jobs, packs), steps, strict=True):
                    found.append(states)
                    _memory(job).length += len(job.ids)
        except _UNFIT:
            return False
        for ids, found in zip(probe, steps, strict=True):
            whole = self._model(torch.tensor([list(ids)], device=self._device))[0]
            most = _CLOSE.get(whole.dtype, _ROUGH) * float(whole.abs().max())
            if not float((torch.cat(found) - whole).abs().max()) <= most:
                return False
        return True


def _memory(job: Job) -> TorchMemory:
    assert isinstance(job.memory, TorchMemory)
    return job.memory


def _probe(text: Any, limit: int) -> list[list[int]]:
    """Two sequences to try a base with; one is longer than its sliding window, if that matters at all."""
    window = getattr(text, "sliding_window", None) or 0
    long = window + 8 if window + 8 <= limit else min(13, limit)
    return [[(7 * n + 3) % text.vocab_size for n in range(size)] for size in (min(8, limit), long)]


def _batches(jobs: Sequence[Job]) -> list[list[int]]:
    """Numbers of jobs that are read together, the short ones first."""
    batches: list[list[int]] = []
    room = 0
    for number in sorted(range(len(jobs)), key=lambda n: len(jobs[n].ids)):
        size = len(jobs[number].ids)
        if size > room:
            batches.append([])
            room = MOST_TOKENS
        batches[-1].append(number)
        room -= size
    return batches


def _attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: through `packed` when that is given, else the usual one."""
    packed: Packed | None = rest.pop("packed", None)
    if packed is None:
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **rest)
        return found
    if rest.get("softcap") is not None or rest.get("s_aux") is not None or rest.get("position_bias") is not None:
        raise NotImplementedError("attention with more than a window")
    scale = rest.get("scaling")
    return packed.attend(module.layer_idx, query, key, value, scale, rest.get("sliding_window")), None


def _reach_attention(backbone: Any) -> bool:
    """Whether the model now asks our attention. Without `packed` it computes as before."""
    if backbone.config._attn_implementation == "sdpa":
        backbone.set_attn_implementation(ATTENTION)
    return bool(backbone.config._attn_implementation == ATTENTION)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
