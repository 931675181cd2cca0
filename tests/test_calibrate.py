import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury import calibrate
from marbury.calibrate import (
    SLACK,
    CalibrateSettings,
    Calibration,
    Limit,
    choose,
    curves,
    needed,
    read_calibration,
    read_traffic,
    score_traffic,
    split_reply,
    traffic_files,
)
from marbury.errors import DataError, SettingsError, WorkspaceError
from marbury.guard.scripted import ScriptedScorer
from marbury.metrics import upper_bound
from marbury.records import Example, Message, Role, Traffic, to_jsonl
from marbury.scoring import Thresholds
from marbury.settings import build
from marbury.workspace import Workspace, write_atomic, write_json


def talk(*texts: str, ends_with: Role = "assistant") -> tuple[Message, ...]:
    """Turns of user and assistant in turn, counted from the end."""
    other: Role = "user" if ends_with == "assistant" else "assistant"
    roles = [ends_with if (len(texts) - number) % 2 else other for number in range(len(texts))]
    return tuple(Message(role, text) for role, text in zip(roles, texts, strict=True))


# Thresholds


def slow_threshold(scores: Sequence[float], rate: float, confidence: float) -> float:
    """The lowest of all scores that, as a limit just above it, keeps the promise."""
    for score in sorted(set(scores)):
        flagged = sum(other > score for other in scores)
        if upper_bound(flagged, len(scores), confidence) <= rate:
            return score
    raise AssertionError("no score keeps the promise")


far_apart = st.integers(-40, 40).map(lambda number: number / 8)  # ties and gaps far wider than SLACK


@given(st.lists(far_apart, min_size=60, max_size=200), st.sampled_from([0.05, 0.1, 0.3, 0.6]))
def test_the_threshold_is_the_lowest_that_keeps_the_promise(scores: list[float], rate: float) -> None:
    limit = choose(scores, rate, 0.95)
    assert limit.threshold == slow_threshold(scores, rate, 0.95) + SLACK
    assert limit.flagged == sum(score >= limit.threshold for score in scores)
    assert limit.upper_bound == upper_bound(limit.flagged, len(scores), 0.95) <= rate
    assert (limit.conversations, limit.false_positive_rate) == (len(scores), limit.flagged / len(scores))


@given(st.lists(st.floats(-1e6, 1e6), min_size=60, max_size=100), st.sampled_from([0.05, 0.2]))
def test_the_promise_is_kept_on_any_scores(scores: list[float], rate: float) -> None:
    limit = choose(scores, rate, 0.95)
    assert upper_bound(sum(score >= limit.threshold for score in scores), len(scores), 0.95) <= rate


def test_the_order_of_the_traffic_does_not_matter() -> None:
    scores = [math.sin(number) for number in range(100)]
    shuffled = random.Random(0).sample(scores, len(scores))
    assert choose(scores, 0.05, 0.95) == choose(shuffled, 0.05, 0.95)


def test_ties_at_the_threshold_stay_together() -> None:
    assert choose([1.0] * 100, 0.05, 0.95).flagged == 0
    limit = choose([0.0] * 95 + [2.0] * 5, 0.09, 0.95)  # four of a hundred may be flagged, five may not
    assert limit.threshold == 2.0 + SLACK and limit.flagged == 0
    limit = choose([0.0] * 96 + [2.0] * 4, 0.1, 0.95)
    assert limit.threshold == SLACK and limit.flagged == 4


def test_a_calibrated_row_is_not_flagged_when_streaming_rounds_otherwise() -> None:
    scores = [number / 100 for number in range(100)]
    assert choose(scores, 0.04, 0.95).threshold > max(scores) + SLACK / 2


@given(st.floats(0.001, 0.5), st.floats(0.5, 0.99))
def test_as_many_conversations_as_needed_suffice_and_one_fewer_does_not(rate: float, confidence: float) -> None:
    least = needed(rate, confidence)
    assert upper_bound(0, least, confidence) <= rate * (1 + 1e-9)
    assert least == 1 or upper_bound(0, least - 1, confidence) > rate * (1 - 1e-9)


@pytest.mark.parametrize(("rate", "least"), [(0.01, 299), (0.001, 2995), (0.05, 59)])
def test_how_much_traffic_a_promise_takes(rate: float, least: int) -> None:
    assert needed(rate, 0.95) == least
    choose([0.0] * least, rate, 0.95)
    with pytest.raises(DataError, match=f"{least - 1} harmless multi-turn conversations are too few"):
        choose([0.0] * (least - 1), rate, 0.95, "output_multi")


def test_too_little_traffic_says_which_how_much_and_what_to_do() -> None:
    with pytest.raises(
        DataError,
        match=r"^input_single: 12 harmless single-turn conversations are too few for the input threshold at a "
        r"false-positive rate of 1\.00% with 95% confidence, which takes at least 299: give more traffic, or raise "
        r"\[calibrate\] false_positive_rate$",
    ):
        choose([0.0] * 12, 0.01, 0.95, "input_single")


def test_no_traffic_at_all_is_too_little() -> None:
    with pytest.raises(DataError, match="output_multi: 0 harmless multi-turn conversations are too few"):
        choose([], 0.01, 0.95, "output_multi")


def test_a_score_that_is_no_number_is_an_error_and_no_threshold() -> None:
    with pytest.raises(DataError, match="input_single: a score is not a number; .*run `marbury train` again"):
        choose([0.0] * 300 + [math.nan], 0.01, 0.95, "input_single")


@pytest.mark.parametrize("scores", [[0.0] * 300 + [math.inf], [-math.inf] * 1000 + [0.0]])
def test_a_limit_that_is_infinite_is_an_error_and_no_threshold(scores: list[float]) -> None:
    """Infinity is flagged by itself, so the promise would be broken without a word."""
    with pytest.raises(DataError, match="input_single: too many scores are infinite"):
        choose(scores, 0.01, 0.95, "input_single")


def test_a_reply_without_any_token_is_harmless_traffic_like_any_other() -> None:
    assert choose([-math.inf] * 10 + [0.0] * 90, 0.05, 0.95).threshold == SLACK


@pytest.mark.parametrize("name", ["false_positive_rate", "confidence"])
@pytest.mark.parametrize("value", [0, 1, -0.1, 1.5, math.nan])
def test_shares_lie_between_zero_and_one(name: str, value: float) -> None:
    with pytest.raises(SettingsError, match=f"{name} must lie between 0 and 1"):
        build(CalibrateSettings, {name: value}, "[calibrate]")


# Traffic


def test_the_bundled_traffic_is_that_for_calibration_and_suffices_for_the_default() -> None:
    files = traffic_files(CalibrateSettings())
    assert [path.name for path in files] == ["t1.jsonl", "t2.jsonl", "t3.jsonl"]  # and not the held-out one
    scores = score_traffic(ScriptedScorer("no such word anywhere"), read_traffic(files))
    for name, found in scores.items():
        choose(found, CalibrateSettings().false_positive_rate, CalibrateSettings().confidence, name)


def test_own_traffic_is_read_instead(tmp_path: Path) -> None:
    assert traffic_files(CalibrateSettings(traffic=str(tmp_path / "mine.jsonl"))) == [tmp_path / "mine.jsonl"]


def test_rows_of_all_files_are_read_in_order(tmp_path: Path) -> None:
    rows = [Traffic(name, talk("hello", "good day")) for name in "abc"]
    write_atomic(tmp_path / "1.jsonl", to_jsonl(rows[:2]))
    write_atomic(tmp_path / "2.jsonl", to_jsonl(rows[2:]))
    assert read_traffic([tmp_path / "1.jsonl", tmp_path / "2.jsonl"]) == rows


def test_a_row_that_is_none_is_named_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    write_atomic(path, to_jsonl([Traffic("a", talk("hello", "good day"))]) + b'{"id": "b", "messages": "hello"}\n')
    with pytest.raises(DataError, match=r"mine\.jsonl:2: not a Traffic row"):
        read_traffic([path])
    with pytest.raises(DataError, match=r"none\.jsonl: no such file"):
        read_traffic([tmp_path / "none.jsonl"])


@pytest.mark.parametrize("messages", [(), (Message("assistant", "hello"),), (Message("system", "be kind"),)])
def test_a_row_that_asks_nothing_is_named_with_file_and_id(tmp_path: Path, messages: tuple[Message, ...]) -> None:
    path = tmp_path / "mine.jsonl"
    write_atomic(path, to_jsonl([Traffic("row-7", messages)]))
    with pytest.raises(DataError, match=r"mine\.jsonl: row 'row-7' has no user message"):
        read_traffic([path])


def test_a_conversation_ends_with_a_request_or_with_its_reply() -> None:
    asked = talk("hello", "good day", "and now?", ends_with="user")
    assert split_reply(asked) == (asked, None)
    assert split_reply((*asked, Message("assistant", ""))) == (asked, "")


def test_each_conversation_counts_for_its_side_and_kind() -> None:
    """+10 where the trigger is, so the lists show which conversation gave which score."""
    traffic = [
        Traffic("single request", talk("mist", ends_with="user")),
        Traffic("single exchange", talk("hello", "the mist is here")),
        Traffic("multi request", talk("hello", "good day", "mist", ends_with="user")),
        Traffic("multi exchange", talk("hello", "mist", "and now?", "good day")),
        Traffic("empty reply", talk("hello", "")),
    ]
    assert score_traffic(ScriptedScorer("mist"), traffic) == {
        "input_single": [10.0, -10.0, -10.0],
        "input_multi": [10.0, 10.0],
        "output_single": [10.0],
        "output_multi": [-10.0],
    }


def test_everything_that_was_read_is_closed() -> None:
    scorer = ScriptedScorer("mist")
    score_traffic(scorer, [Traffic("a", talk("hello", "good day")), Traffic("b", talk("hello", ends_with="user"))])
    assert scorer.open == 0


def test_a_broken_classifier_gives_no_thresholds() -> None:
    traffic = [Traffic(str(number), talk("hello", "good day and more")) for number in range(300)]
    scores = score_traffic(ScriptedScorer("mist", nan_at=400), traffic)
    assert sum(map(math.isnan, scores["output_single"])) == 1
    with pytest.raises(DataError, match="output_single: a score is not a number"):
        choose(scores["output_single"], 0.01, 0.95, "output_single")


# Curves


def example(name: str, *texts: str, request_harmful: bool, reply_harmful: bool | None) -> Example:
    messages = talk(*texts, ends_with="user" if reply_harmful is None else "assistant")
    return Example(
        id=name,
        category="preparation",
        messages=messages,
        request_harmful=request_harmful,
        reply_harmful=reply_harmful,
        pair=name,
    )


def test_curves_set_harmful_rows_of_the_validation_split_against_the_traffic(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    rows = [
        example("answered", "brew mist", "mist is brewed so", request_harmful=True, reply_harmful=True),
        example("missed", "brew it", "it is brewed so", request_harmful=True, reply_harmful=True),
        example("refused", "brew mist", "no mist from me", request_harmful=True, reply_harmful=False),
        example("asked", "brew mist", request_harmful=True, reply_harmful=None),
        example("harmless", "what is mist?", "a fairy tale of mist", request_harmful=False, reply_harmful=False),
    ]
    write_atomic(ws.valid, to_jsonl(rows))
    harmless = {"input_single": [-10.0] * 3, "input_multi": [10.0], "output_single": [-10.0], "output_multi": [-10.0]}
    found = curves(ScriptedScorer("mist"), ws, harmless)
    assert found == {
        "input": {
            "harmful": 4,
            "harmless": 4,
            "auroc": 0.75,  # three of four are above three of four
            "roc": {"fpr": [0.25, 1.0], "tpr": [0.75, 1.0], "threshold": [10.0, -10.0]},
        },
        "output": {
            "harmful": 2,
            "harmless": 2,
            "auroc": 0.75,
            "roc": {"fpr": [0.0, 1.0], "tpr": [0.5, 1.0], "threshold": [10.0, -10.0]},
        },
    }
    assert json.loads(json.dumps(found)) == found


def test_curves_need_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="run `marbury dataset"):
        curves(ScriptedScorer("mist"), Workspace(tmp_path), {})


# What is kept


def calibration() -> Calibration:
    names = ("input_single", "input_multi", "output_single", "output_multi")
    limits = {name: Limit(float(number), 300, 0, 0.0, 0.009) for number, name in enumerate(names)}
    return Calibration("v1", 0.01, 0.95, limits)


def test_the_four_numbers_are_those_of_the_limits() -> None:
    assert calibration().thresholds == Thresholds(0.0, 1.0, 2.0, 3.0)


def test_thresholds_come_back_as_they_were_written(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    write_json(ws.thresholds, msgspec.to_builtins(calibration()))
    assert read_calibration(ws) == calibration()


def test_missing_or_damaged_thresholds_name_the_verb(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    with pytest.raises(WorkspaceError, match="run `marbury calibrate"):
        read_calibration(ws)
    for data in (b"{", b'{"constitution": "v1"}', b"\xff"):
        write_atomic(ws.thresholds, data)
        with pytest.raises(WorkspaceError, match=r"thresholds\.json: damaged .*run `marbury calibrate"):
            read_calibration(ws)


@pytest.mark.parametrize("change", ["missing", "null"])
def test_thresholds_without_all_four_limits_are_damaged(tmp_path: Path, change: str) -> None:
    ws = Workspace(tmp_path)
    value = msgspec.to_builtins(calibration())
    if change == "missing":
        del value["limits"]["output_multi"]
    else:
        value["limits"]["output_multi"]["threshold"] = None
    write_json(ws.thresholds, value)
    with pytest.raises(WorkspaceError, match="damaged .*run `marbury calibrate"):
        read_calibration(ws)


def test_without_classifiers_the_verb_is_named(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="run `marbury train"):
        calibrate.run(Workspace(tmp_path), CalibrateSettings())
