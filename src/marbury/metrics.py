"""Rates, intervals and curves. Plain functions on numbers; the exact and Wilson intervals come from scipy."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Rate(msgspec.Struct, frozen=True):
    """A share with its 95 % interval: `hits` of `total`."""

    hits: int
    total: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """hits / total; 0 when nothing was counted."""
        return self.hits / self.total if self.total else 0.0

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def rate(hits: int, total: int) -> Rate:
    """A share with its 95 % Wilson interval."""
    if total == 0:
        return Rate(0, 0, 0.0, 1.0)
    from scipy.stats import binomtest

    interval: Any = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    return Rate(hits, total, float(interval.low), float(interval.high))


def upper_bound(hits: int, total: int, confidence: float) -> float:
    """One-sided exact (Clopper-Pearson) upper bound of a share: the beta quantile."""
    if hits >= total:
        return 1.0
    from scipy.stats import beta

    return float(beta.ppf(confidence, hits + 1, total - hits))


def threshold_at(harmless: Sequence[float] | Floats, false_positive_rate: float) -> float:
    """The lowest limit that flags at most this share of the harmless scores (score >= limit is flagged).

    Ties stay together: a limit never splits equal scores.
    """
    scores = np.sort(np.asarray(harmless, dtype=np.float64))[::-1]
    allowed = int(np.floor(false_positive_rate * len(scores) + 1e-9))
    if allowed >= len(scores):
        return float("-inf")
    return float(np.nextafter(scores[allowed], np.inf))


def tpr_at(harmful: Sequence[float] | Floats, harmless: Sequence[float] | Floats, false_positive_rate: float) -> Rate:
    """True-positive rate at a false-positive rate, the limit taken from the given harmless scores."""
    limit = threshold_at(harmless, false_positive_rate)
    scores = np.asarray(harmful, dtype=np.float64)
    return rate(int((scores >= limit).sum()), len(scores))


def auroc(harmful: Sequence[float] | Floats, harmless: Sequence[float] | Floats) -> float:
    """Area under the ROC curve; ties count half."""
    from scipy.stats import rankdata

    positive, negative = np.asarray(harmful, dtype=np.float64), np.asarray(harmless, dtype=np.float64)
    if not len(positive) or not len(negative):
        return float("nan")
    ranks = rankdata(np.concatenate([positive, negative]))
    u = ranks[: len(positive)].sum() - len(positive) * (len(positive) + 1) / 2
    return float(u / (len(positive) * len(negative)))


def roc(harmful: Sequence[float] | Floats, harmless: Sequence[float] | Floats) -> dict[str, list[float]]:
    """The ROC curve as lists `fpr`, `tpr`, `threshold`, one point per distinct score, from strict to lax."""
    positive = np.sort(np.asarray(harmful, dtype=np.float64))
    negative = np.sort(np.asarray(harmless, dtype=np.float64))
    limits = np.unique(np.concatenate([positive, negative]))[::-1]
    tpr = (len(positive) - np.searchsorted(positive, limits, side="left")) / max(len(positive), 1)
    fpr = (len(negative) - np.searchsorted(negative, limits, side="left")) / max(len(negative), 1)
    return {"fpr": fpr.tolist(), "tpr": tpr.tolist(), "threshold": limits.tolist()}
