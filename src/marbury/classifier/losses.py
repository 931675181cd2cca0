"""The four ways to teach a token-level score from a label of the whole reply.

All take logits_BT, a mask_BT of the positions that count, labels_B in {0, 1} and `progress` in [0, 1] (how much of
the training is over), and give the mean loss over sequences. A sequence with no position that counts weighs nothing.
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


def prefix(logits_BT: Tensor, mask_BT: Tensor, labels_B: Tensor, progress: float) -> Tensor:
    """Cross-entropy of every prefix against the label of the whole (CC, arXiv 2501.18837, section 5)."""
    return _mean(bce(logits_BT, _spread(labels_B, logits_BT), reduction="none"), mask_BT)


def maximum(logits_BT: Tensor, mask_BT: Tensor, labels_B: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the running maximum: p_t = max over s <= t of sigmoid(z_s)."""
    highest_BT = _running_maximum(logits_BT, mask_BT)
    return _mean(bce(highest_BT, _spread(labels_B, logits_BT), reduction="none"), mask_BT)


def ramp(logits_BT: Tensor, mask_BT: Tensor, labels_B: Tensor, progress: float) -> Tensor:
    """The first paper's loss: p_t = (1 - w) sigmoid(z_t) + w max over s <= t of sigmoid(z_s), w from 0 to 1.

    Sharma et al. 2025 (arXiv 2501.18837), restated in arXiv 2601.04603, appendix C. Computed on logarithms, so that a
    confident mistake still has a gradient, also in bf16: with s = 1 for harmful and -1 for harmless, the probability
    of the label is (1 - w) sigmoid(s z_t) + w sigmoid(s max z).
    """
    signs_BT = 2 * _spread(labels_B, logits_BT) - 1
    now_BT = logsigmoid(signs_BT * logits_BT) + _log(1 - progress)
    highest_BT = logsigmoid(signs_BT * _running_maximum(logits_BT, mask_BT)) + _log(progress)
    return _mean(-torch.logaddexp(now_BT, highest_BT), mask_BT)


def softmax(logits_BT: Tensor, mask_BT: Tensor, labels_B: Tensor, progress: float) -> Tensor:
    """Cross-entropy of the windowed mean, weighted by its own softmax over time (arXiv 2601.04603, appendix C).

    z'_t is the mean of the last 16 logits, L = sum over t of w_t BCE(y, z'_t), w = softmax_t(z'_t / 1). The paper
    drops the first 15 positions; here they take the mean of what there is, since the stream is judged there too.
    """
    smooth_BT = windowed_mean(logits_BT, mask_BT, WINDOW)
    weights_BT = (smooth_BT / TEMPERATURE).masked_fill(~mask_BT, float("-inf"))
    some_B = mask_BT.any(1)
    weights_BT = torch.softmax(weights_BT.masked_fill(~some_B[:, None], 0.0), 1)
    losses_BT = bce(smooth_BT, _spread(labels_B, logits_BT), reduction="none")
    losses_B = (weights_BT * losses_BT * mask_BT).sum(1)
    return losses_B.sum() / some_B.sum().clamp(min=1)


LOSSES: dict[str, Loss] = {"prefix": prefix, "maximum": maximum, "ramp": ramp, "softmax": softmax}


def windowed_mean(logits_BT: Tensor, mask_BT: Tensor, window: int) -> Tensor:
    """Mean of the last `window` logits that count, fewer at the start; 0 where none has counted yet."""
    kept_BT = torch.where(mask_BT, logits_BT, 0.0)
    sums_BT, counts_BT = kept_BT.cumsum(1), mask_BT.to(logits_BT.dtype).cumsum(1)
    before_BT = torch.zeros_like(sums_BT)
    counted_BT = torch.zeros_like(counts_BT)
    before_BT[:, window:], counted_BT[:, window:] = sums_BT[:, :-window], counts_BT[:, :-window]
    return (sums_BT - before_BT) / (counts_BT - counted_BT).clamp(min=1)


def _running_maximum(logits_BT: Tensor, mask_BT: Tensor) -> Tensor:
    lowest = torch.finfo(logits_BT.dtype).min
    highest_BT: Tensor = logits_BT.masked_fill(~mask_BT, lowest).cummax(1).values
    return highest_BT.masked_fill(~mask_BT, 0.0)


def _log(weight: float) -> float:
    return math.log(weight) if weight > 0 else -math.inf


def _spread(labels_B: Tensor, like_BT: Tensor) -> Tensor:
    return labels_B.to(like_BT.dtype)[:, None].expand_as(like_BT)


def _mean(losses_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean over each sequence's positions, then over the sequences that have any."""
    counts_B = mask_BT.sum(1)
    sums_B = torch.where(mask_BT, losses_BT, 0.0).sum(1)
    return (sums_B / counts_B.clamp(min=1)).sum() / (counts_B > 0).sum().clamp(min=1)
