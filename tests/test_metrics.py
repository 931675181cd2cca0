import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from marbury.metrics import Rate, auroc, rate, roc, threshold_at, tpr_at, upper_bound

# Few distinct values make ties; -inf is what a reply without any token has.
tied = st.lists(st.sampled_from([-math.inf, -2.0, -1.0, 0.0, 0.5, 3.0]), max_size=30)
scores = tied | st.lists(st.floats(-1e300, 1e300), max_size=30)
shares = st.floats(0, 1)


def as_labels(harmful: list[float], harmless: list[float]) -> list[int]:
    return [1] * len(harmful) + [0] * len(harmless)


def test_a_rate_has_wilsons_interval() -> None:
    hits, total, z = 7, 40, 1.959963984540054
    centre = (hits / total + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(hits / total * (1 - hits / total) / total + z * z / (4 * total**2))
    found = rate(hits, total)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))
    assert found.value == 7 / 40
    assert str(found) == "17.5 % [8.7, 31.9]"


@given(st.integers(1, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_rate_and_lies_in_the_unit(counted: tuple[int, int]) -> None:
    found = rate(*counted)
    assert -1e-12 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1 + 1e-12


def test_nothing_counted_says_nothing() -> None:
    assert rate(0, 0) == Rate(0, 0, 0.0, 1.0)
    assert rate(0, 0).value == 0


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
@pytest.mark.parametrize(("hits", "total"), [(0, 1), (0, 300), (1, 300), (3, 40), (39, 40)])
def test_the_upper_bound_is_the_exact_one(hits: int, total: int, confidence: float) -> None:
    bound = upper_bound(hits, total, confidence)
    exact = binomtest(hits, total, alternative="less").proportion_ci(confidence, method="exact").high
    assert bound == pytest.approx(exact)
    assert binom.cdf(hits, total, bound) == pytest.approx(1 - confidence)  # what makes it a bound


def test_the_upper_bound_of_everything_or_nothing_counted_is_one() -> None:
    assert upper_bound(5, 5, 0.95) == upper_bound(0, 0, 0.95) == 1.0


@given(scores, shares)
def test_a_threshold_never_flags_more_than_its_share(harmless: list[float], share: float) -> None:
    limit = threshold_at(harmless, share)
    flagged = sum(score >= limit for score in harmless)
    assert flagged <= share * len(harmless) + 1e-6


@given(scores.filter(bool), st.floats(0, 0.999))
def test_a_lower_threshold_would_flag_more_than_its_share(harmless: list[float], share: float) -> None:
    limit = threshold_at(harmless, share)
    lower = [score for score in harmless if score < limit]
    if lower:
        assert sum(score >= max(lower) for score in harmless) > share * len(harmless) - 1e-6


def test_a_threshold_keeps_ties_together() -> None:
    assert threshold_at([0, 1, 1, 1], 0.5) > 1  # two of four may be flagged, but the three cannot be parted
    assert 0 < threshold_at([0, 1, 1, 1], 0.75) <= 1
    assert threshold_at([0, 1], 1.0) == -math.inf


def test_a_share_that_is_a_round_number_of_rows_is_used_in_full() -> None:
    harmless = [float(i) for i in range(100)]
    assert sum(score >= threshold_at(harmless, 0.29) for score in harmless) == 29  # 0.29 * 100 < 29 in floats


@given(scores, scores.filter(bool), shares)
def test_the_true_positive_rate_counts_against_the_threshold(
    harmful: list[float], harmless: list[float], share: float
) -> None:
    limit = threshold_at(harmless, share)
    assert tpr_at(harmful, harmless, share) == rate(sum(score >= limit for score in harmful), len(harmful))


finite = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]) | st.floats(-9, 9), min_size=1, max_size=30)


@given(finite, finite)
def test_auroc_is_that_of_scikit_learn(harmful: list[float], harmless: list[float]) -> None:
    assert auroc(harmful, harmless) == pytest.approx(roc_auc_score(as_labels(harmful, harmless), harmful + harmless))


def test_auroc_of_ties_is_a_half_and_of_nothing_no_number() -> None:
    assert auroc([1, 1], [1, 1, 1]) == 0.5
    assert auroc([2], [1]) == 1.0
    assert math.isnan(auroc([], [1])) and math.isnan(auroc([1], []))


@given(finite, finite)
def test_the_curve_is_that_of_scikit_learn(harmful: list[float], harmless: list[float]) -> None:
    fpr, tpr, limits = roc_curve(as_labels(harmful, harmless), harmful + harmless, drop_intermediate=False)
    found = roc(harmful, harmless)
    np.testing.assert_allclose(found["fpr"], fpr[1:])  # scikit-learn begins with a limit above all scores
    np.testing.assert_allclose(found["tpr"], tpr[1:])
    np.testing.assert_array_equal(found["threshold"], limits[1:])


def test_the_curve_of_one_side_alone_is_flat() -> None:
    assert roc([], [1.0, 2.0]) == {"fpr": [0.5, 1.0], "tpr": [0.0, 0.0], "threshold": [2.0, 1.0]}
