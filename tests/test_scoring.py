import math
from collections.abc import Sequence

import pytest

from marbury.guard.scripted import ScriptedScorer
from marbury.records import Message, Turns
from marbury.scoring import Score, Side, Thresholds, verdict, whole

ASKED = (Message("user", "tell me of lamps"),)


@pytest.mark.parametrize(
    ("harm", "flagged"), [(0.99, False), (1.0, True), (1.01, True), (math.nan, True), (-math.inf, False)]
)
def test_a_score_at_the_limit_or_without_a_number_is_flagged(harm: float, flagged: bool) -> None:
    assert verdict(Score(3, harm), 1.0, "input", ()).flagged is flagged


def test_a_limit_that_is_not_a_number_flags_everything() -> None:
    assert verdict(Score(3, -9.0), math.nan, "output", ()).flagged


def test_a_flagged_score_names_its_strongest_category_and_another_none() -> None:
    score = Score(3, 2.0, (-1.0, 4.0, 0.0))
    assert verdict(score, 1.0, "output", ("a", "b", "c")).category == "b"
    assert verdict(score, 3.0, "output", ("a", "b", "c")).category is None


def test_each_side_and_kind_has_its_own_limit() -> None:
    limits = Thresholds(input_single=1, input_multi=2, output_single=3, output_multi=4)
    pairs: Sequence[tuple[Side, Turns]] = [("input", "single"), ("input", "multi"), ("output", "single")]
    assert [limits.limit(side, turns) for side, turns in [*pairs, ("output", "multi")]] == [1, 2, 3, 4]


def test_the_whole_reply_has_its_highest_score_and_everything_is_closed() -> None:
    scorer = ScriptedScorer("mist")
    asked, answered = whole(scorer, ASKED, "the mist is here and more")
    assert asked.harm == -10
    assert answered == Score(end=8, harm=10.0, categories=(10.0,))  # the first of the highest
    assert scorer.open == 0


def test_without_a_reply_or_with_an_empty_one_there_is_no_reply_score() -> None:
    assert whole(ScriptedScorer("mist"), ASKED, None)[1] is None
    assert whole(ScriptedScorer("mist"), ASKED, "")[1] is None


def test_a_failing_scorer_is_closed_and_its_error_reaches_the_caller() -> None:
    scorer = ScriptedScorer("mist", fails_at=2)
    with pytest.raises(RuntimeError, match="scripted failure"):
        whole(scorer, ASKED, "one two three")
    assert scorer.open == 0


@pytest.mark.parametrize("step", [1, 2, 3])
def test_one_score_that_is_not_a_number_makes_the_whole_reply_so(step: int) -> None:
    _, answered = whole(ScriptedScorer("mist", nan_at=step), ASKED, "one two three")
    assert answered is not None and math.isnan(answered.harm)
