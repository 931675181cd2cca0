import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tiny_classifiers import save_base
from tiny_training import examples, mean_loss, settings_for, teach

from marbury.classifier import trainer
from marbury.classifier.model import Classifier
from marbury.classifier.settings import TrainSettings
from marbury.classifier.stopping import Stop, hold_out
from marbury.errors import SettingsError
from marbury.records import Example
from marbury.workspace import hash_path


def sourced() -> list[Example]:
    return [msgspec.structs.replace(row, source="ab"[number % 4 == 3]) for number, row in enumerate(examples())]


def test_rows_of_the_source_are_not_trained_on() -> None:
    kept, held = hold_out(sourced(), "b")
    assert {row.source for row in held} == {"b"} and {row.source for row in kept} == {"a"}
    assert sorted(row.id for row in kept + held) == sorted(row.id for row in examples())


def test_a_row_that_shares_its_request_with_the_source_is_in_neither() -> None:
    rows = sourced()
    twin = msgspec.structs.replace(rows[3], id="twin", source="a")
    kept, held = hold_out([*rows, twin], "b")
    assert twin not in kept and twin not in held


@pytest.mark.parametrize(("source", "message"), [("c", "no row .* is of it; sources there: a, b"), ("a", "every row")])
def test_a_source_that_leaves_nothing_is_refused(source: str, message: str) -> None:
    rows = sourced() if source == "c" else [row for row in sourced() if row.source == "a"]
    with pytest.raises(SettingsError, match=rf"\[train\] stop_source '{source}': {message}"):
        hold_out(rows, source)


@pytest.mark.parametrize(
    ("losses", "patience", "stops"),
    [
        ([], 1, False),
        ([3.0, 2.0, 2.5], 2, False),
        ([3.0, 2.0, 2.5, 2.0], 2, True),  # as good as the best is not better
        ([3.0, 2.0, 2.5, 1.0], 2, False),
        ([1.0] + [2.0] * 20, 0, False),
    ],
)
def test_training_stops_when_the_best_check_lies_too_far_back(losses: list[float], patience: int, stops: bool) -> None:
    state = SimpleNamespace(log_history=[{"eval_loss": loss} for loss in losses], global_step=5, max_steps=9)
    for moment in (Stop.on_evaluate, Stop.on_step_end):
        control = SimpleNamespace(should_training_stop=False, should_evaluate=False)
        moment(Stop(patience), None, state, control)
        assert control.should_training_stop is stops and not control.should_evaluate


def test_the_last_step_is_checked_too() -> None:
    state = SimpleNamespace(log_history=[], global_step=9, max_steps=9)
    control = SimpleNamespace(should_training_stop=False, should_evaluate=False)
    Stop(3).on_step_end(None, state, control)
    assert control.should_evaluate


# Rows that say the opposite of the others: on them the first check is the best one.


def contrary() -> list[Example]:
    flip = {True: False, False: True, None: None}
    return [
        msgspec.structs.replace(row, request_harmful=not row.request_harmful, reply_harmful=flip[row.reply_harmful])
        for row in examples()
    ]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    return replace(settings_for(save_base("bert", tmp_path_factory.mktemp("base"))), stop_source="b")


@pytest.fixture(scope="module")
def stopped(settings: TrainSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return teach(settings, tmp_path_factory.mktemp("stopped"), held=contrary())


def test_the_weights_that_do_best_on_the_held_out_rows_are_kept(
    settings: TrainSettings, stopped: Path, tmp_path: Path
) -> None:
    best = Classifier.from_pretrained(stopped)
    last = Classifier.from_pretrained(teach(settings, tmp_path))
    assert mean_loss(best, settings, contrary()) < mean_loss(last, settings, contrary())
    assert mean_loss(best, settings) > mean_loss(last, settings)


@pytest.mark.parametrize("step", [2, 3, 5, 8])
def test_killed_and_started_again_the_same_weights_are_kept(
    settings: TrainSettings, stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    def on_step_end(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(trainer.ShowProgress, "on_step_end", on_step_end)
        with pytest.raises(KeyboardInterrupt):
            teach(settings, tmp_path, held=contrary())
    assert hash_path(teach(settings, tmp_path, held=contrary())) == hash_path(stopped)


def test_a_stopped_training_that_was_not_saved_keeps_the_same_weights(
    settings: TrainSettings, stopped: Path, tmp_path: Path
) -> None:
    shutil.rmtree(teach(settings, tmp_path, held=contrary()))
    assert hash_path(teach(settings, tmp_path, held=contrary())) == hash_path(stopped)


def test_a_stopped_training_ends_before_its_last_step(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        trainer.ShowProgress, "on_step_end", lambda self, args, state, *_, **__: seen.append(state.global_step)
    )
    teach(settings, tmp_path, held=contrary())
    assert max(seen) == 8  # checks after every second step, the first one the best, three of patience
