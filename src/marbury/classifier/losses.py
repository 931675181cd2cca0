"""The four ways to teach a token-level score from a label of the whole reply.

All take logits_BTC (each column is a question of its own), a mask_BT of the positions that count, labels_BC in
{0, 1} and `progress` in [0, 1] (how much of the training is over), and give losses_BC. A sequence with no position
that counts has the loss 0.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import logsigmoid

WINDOW = 16  # tokens, CC++ (arXiv 2601.04603), appendix C: best of the sizes tried there
TEMPERATURE = 1.0

Loss = Callable[[Tensor, Tensor, Tensor, float], Tensor]


def prefix(logits_BTC: Tensor, mask_BT: Tensor, labels_BC: Tensor, progress: float) -> Tensor:
    """Cross-entropy of every prefix against the label of the whole (CC, arXiv 2501.18837, section 5)."""
    return _mean(bce(logits_BTC, _spread(labels_BC, logits_BTC), reduction="none"), mask_BT)


def maximum(logits_BTC: Tensor, mask_BT: Tensor, labels_BC: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the running maximum: p_t = max over s <= t of sigmoid(z_s)."""
    highest_BTC = _running_maximum(logits_BTC, mask_BT)
    return _mean(bce(highest_BTC, _spread(labels_BC, logits_BTC), reduction="none"), mask_BT)


def ramp(logits_BTC: Tensor, mask_BT: Tensor, labels_BC: Tensor, progress: float) -> Tensor:
    """The first paper's loss: p_t = (1 - w) sigmoid(z_t) + w max over s <= t of sigmoid(z_s), w from 0 to 1.

    Sharma et al. 2025 (arXiv 2501.18837), restated in arXiv 2601.04603, appendix C. Computed on logarithms, so that a
    confident mistake still has a gradient, also in bf16: with s = 1 for harmful and -1 for harmless, the probability
    of the label is (1 - w) sigmoid(s z_t) + w sigmoid(s max z).
    """
    signs_BTC = 2 * _spread(labels_BC, logits_BTC) - 1
    now_BTC = logsigmoid(signs_BTC * logits_BTC) + _log(1 - progress)
    highest_BTC = logsigmoid(signs_BTC * _running_maximum(logits_BTC, mask_BT)) + _log(progress)
    return _mean(-torch.logaddexp(now_BTC, highest_BTC), mask_BT)


def softmax(logits_BTC: Tensor, mask_BT: Tensor, labels_BC: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the windowed mean, weighted by its own softmax over time (arXiv 2601.04603, appendix C).

    z'_t is the mean of the last 16 logits, L = sum over t of w_t BCE(y, z'_t), w = softmax_t(z'_t / 1). The paper
    drops the first 15 positions; here they take the mean of what there is, since the stream is judged there too.
    """
    smooth_BTC = windowed_mean(logits_BTC, mask_BT, WINDOW)
    weights_BTC = (smooth_BTC / TEMPERATURE).masked_fill(~mask_BT[..., None], float("-inf"))
    some_B = mask_BT.any(1)
    weights_BTC = torch.softmax(weights_BTC.masked_fill(~some_B[:, None, None], 0.0), 1)
    losses_BTC = bce(smooth_BTC, _spread(labels_BC, logits_BTC), reduction="none")
    return (weights_BTC * losses_BTC * mask_BT[..., None]).sum(1)


LOSSES: dict[str, Loss] = {"prefix": prefix, "maximum": maximum, "ramp": ramp, "softmax": softmax}


def windowed_mean(logits_BTC: Tensor, mask_BT: Tensor, window: int) -> Tensor:
    """Mean of the last `window` logits that count, fewer at the start; 0 where none has counted yet."""
    mask_BT1 = mask_BT[..., None]
    sums_BTC, counts_BT1 = torch.where(mask_BT1, logits_BTC, 0.0).cumsum(1), mask_BT1.to(logits_BTC.dtype).cumsum(1)
    before_BTC, counted_BT1 = torch.zeros_like(sums_BTC), torch.zeros_like(counts_BT1)
    before_BTC[:, window:], counted_BT1[:, window:] = sums_BTC[:, :-window], counts_BT1[:, :-window]
    return (sums_BTC - before_BTC) / (counts_BT1 - counted_BT1).clamp(min=1)


def _running_maximum(logits_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    mask_BT1, lowest = mask_BT[..., None], torch.finfo(logits_BTC.dtype).min
    highest_BTC: Tensor = logits_BTC.masked_fill(~mask_BT1, lowest).cummax(1).values
    return highest_BTC.masked_fill(~mask_BT1, 0.0)


def _log(weight: float) -> float:
    return math.log(weight) if weight > 0 else -math.inf


def _spread(labels_BC: Tensor, like_BTC: Tensor) -> Tensor:
    return labels_BC.to(like_BTC.dtype)[:, None].expand_as(like_BTC)


def _mean(losses_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over each sequence's positions."""
    sums_BC = torch.where(mask_BT[..., None], losses_BTC, 0.0).sum(1)
    return sums_BC / mask_BT.sum(1).clamp(min=1)[:, None]
