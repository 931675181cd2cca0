"""Labels in words, numbers and truth values."""

import math
from typing import Any

import pytest

from marbury.dataset.labels import Skip, is_harmful, label_text


@pytest.mark.parametrize("value", ["harmful", " Unsafe ", "TOXIC", "1", 1, 1.0, "1.0", True, "true", "yes"])
def test_usual_words_for_harm(value: Any) -> None:
    assert is_harmful(value, {})


@pytest.mark.parametrize("value", ["harmless", "Safe", "benign", "unharmful", "0", 0, 0.0, "0.0", False, "false", "no"])
def test_usual_words_for_no_harm(value: Any) -> None:
    assert not is_harmful(value, {})


def test_in_a_column_of_safety_truth_means_harmless_and_words_keep_their_meaning() -> None:
    assert [is_harmful(value, {}, safe=True) for value in (True, 0, "no", "unsafe")] == [False, True, True, True]


def test_given_words_go_before_usual_ones() -> None:
    assert (
        is_harmful("0", {"0": "harmful"})
        and not is_harmful(1, {"1": "harmless"})
        and is_harmful("S7", {"S7": "harmful"})
    )
    with pytest.raises(Skip, match="label 'unsure' is left out by the settings"):
        is_harmful("unsure", {"unsure": "skip"})
    with pytest.raises(Skip):
        is_harmful(None, {"": "skip"})


def test_scores_need_a_number_from_which_they_mean_harm() -> None:
    assert [is_harmful(value, {}, least=0.5) for value in (0.5, "0.49", 1, "0")] == [True, False, True, False]
    assert [is_harmful(value, {}, least=0.5, safe=True) for value in (0.9, 0.1)] == [False, True]
    with pytest.raises(ValueError, match="label '0.9' means neither harmful nor harmless: give `harmful_from`"):
        is_harmful(0.9, {})


@pytest.mark.parametrize("value", ["maybe", "", None, math.nan, ["a"], {"a": True}, 2])
def test_what_nobody_knows_is_no_label(value: Any) -> None:
    with pytest.raises(ValueError, match="means neither harmful nor harmless"):
        is_harmful(value, {})


def test_labels_are_written_as_in_the_settings() -> None:
    assert [label_text(value) for value in (None, True, 3, 3.0, " a ", 0.5)] == ["", "true", "3", "3", "a", "0.5"]
