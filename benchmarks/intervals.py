"""Intervals by bootstrap for shares whose limit is itself taken from a sample. Rows of one pair are drawn together."""

from collections.abc import Sequence
from random import Random

import numpy as np

from marbury.metrics import threshold_at

Judged = tuple[str, float]  # the pair of a row, and its score


def tpr_interval(
    harmful: Sequence[Judged], harmless: Sequence[Judged], share: float, resamples: int = 500
) -> tuple[float, float]:
    """The 95 % interval of a true-positive rate at a false-positive rate, the limit drawn anew with the rows.

    Not a number without harmful or harmless rows.
    """
    if not harmful or not harmless:
        return float("nan"), float("nan")
    pairs = {name: number for number, name in enumerate(sorted({name for name, _ in [*harmful, *harmless]}))}
    bad, good = (np.array([score for _, score in those]) for those in (harmful, harmless))
    bad_pair, good_pair = ([pairs[name] for name, _ in those] for those in (harmful, harmless))
    draw, found = np.random.default_rng(0), []
    for _ in range(resamples):
        times = np.bincount(draw.integers(len(pairs), size=len(pairs)), minlength=len(pairs))
        of_bad, of_good = times[bad_pair], times[good_pair]
        if of_bad.any() and of_good.any():
            found.append(float(np.average(bad >= threshold_at(np.repeat(good, of_good), share), weights=of_bad)))
    low, high = np.quantile(found, (0.025, 0.975)) if found else (float("nan"),) * 2
    return float(low), float(high)


def kept(coded: Sequence[bool], plain: Sequence[bool], resamples: int = 2000) -> tuple[float, float, float]:
    """The share of a plain true-positive rate that is left in a code, with its 95 % interval over the requests.

    Not a number when no plain request was flagged.
    """
    pairs = list(zip(coded, plain, strict=True))

    def share(those: Sequence[tuple[bool, bool]]) -> float:
        flagged = sum(hit for _, hit in those)
        return sum(hit for hit, _ in those) / flagged if flagged else float("nan")

    draw = Random("kept")
    shares = sorted(value for _ in range(resamples) if (value := share(draw.choices(pairs, k=len(pairs)))) == value)
    if not shares:
        return (float("nan"),) * 3
    return share(pairs), shares[int(0.025 * len(shares))], shares[min(len(shares) - 1, int(0.975 * len(shares)))]
