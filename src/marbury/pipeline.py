"""The stages of a run folder in their order: what each reads, which door makes it, what it writes.

Late imports live here alone, so that light commands start fast.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marbury import constitution
from marbury.errors import SettingsError, WorkspaceError
from marbury.settings import build, check_names, read
from marbury.workspace import Counts, Stage, Workspace, hash_path

if TYPE_CHECKING:
    from marbury.calibrate import Calibration
    from marbury.classifier.scorer import EngineName
    from marbury.classifier.viewed import ViewedScorer
    from marbury.guard import Judge
    from marbury.serve import ServeSettings

STAGES = ("synth", "augment", "dataset", "train", "calibrate", "evaluate")
TABLES = (*STAGES, "serve")
CORPUS = Path(__file__).parent / "data" / "orvane" / "corpus"


@dataclass(frozen=True)
class Step:
    """A stage of one run folder, ready to run."""

    stage: Stage
    outputs: tuple[Path, ...]
    door: Callable[[], Counts]


def load_settings(ws: Workspace, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
    """The settings of all stages from marbury.toml; an override wins over the file.

    Raises:
        SettingsError: a table, a key or a value is wrong.
    """
    from marbury.augment.stage import AugmentSettings
    from marbury.calibrate import CalibrateSettings
    from marbury.classifier.settings import TrainSettings
    from marbury.dataset import DatasetSettings
    from marbury.evaluate.stage import EvaluateSettings
    from marbury.serve import ServeSettings
    from marbury.synth.stage import SynthSettings

    kinds: dict[str, type[Any]] = {
        "synth": SynthSettings,
        "augment": AugmentSettings,
        "dataset": DatasetSettings,
        "train": TrainSettings,
        "calibrate": CalibrateSettings,
        "evaluate": EvaluateSettings,
        "serve": ServeSettings,
    }
    tables = read(ws.settings)
    check_names(tables, list(TABLES), str(ws.settings))
    merged = {}
    for name, kind in kinds.items():
        table = tables.get(name, {})
        if not isinstance(table, dict):
            raise SettingsError(f"{ws.settings}: {name} is a table: write [{name}] and its settings below")
        merged[name] = build(kind, {**table, **(overrides or {}).get(name, {})}, f"{ws.settings} [{name}]")
    return merged


def with_imports(settings: Mapping[str, Any], paths: Sequence[str]) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
    """Settings that import these files too, and of each file which column will be read as what.

    Raises:
        DataError: a file cannot be read.
        SettingsError: its columns cannot be guessed.
    """
    from marbury.dataset.imports import guess
    from marbury.dataset.mapping import with_paths

    imports = with_paths(settings["dataset"].imports, paths)
    columns = {one.path: guess(one) for one in imports if one.path in paths}
    return {**settings, "dataset": replace(settings["dataset"], imports=imports)}, columns


def open_run(root: Path) -> Workspace:
    """The run folder at this path.

    Raises:
        WorkspaceError: it holds no constitution.
    """
    ws = Workspace(root)
    if not ws.constitution.exists():
        raise WorkspaceError(f"{root} is not a run folder (no constitution.md): make one with `marbury new {root}`")
    return ws


def step(ws: Workspace, settings: Mapping[str, Any], name: str) -> Step:
    """One stage by its name. It hashes what it reads, so the stages before it must be done.

    Raises:
        WorkspaceError: what it reads is missing; the message names the verb that makes it.
    """
    return _MAKERS[name](ws, settings[name])


def _inputs(ws: Workspace, **needed: tuple[Path, str]) -> dict[str, str]:
    """Hashes of what a stage reads, by name; each comes with the verb that makes it."""
    return {ws.name_of(path): hash_path(ws.need(path, verb)) for path, verb in needed.values()}


def _given(stage: str, *files: Path) -> dict[str, str]:
    """Hashes of files that a stage's settings name."""
    for path in files:
        if not path.is_file():
            raise SettingsError(f"[{stage}] names {path}, and there is no such file: correct it in marbury.toml")
    names = [path.name for path in files]
    return {path.name if names.count(path.name) == 1 else str(path): hash_path(path) for path in files}


def _policy(ws: Workspace) -> dict[str, str]:
    """The constitution counts by its version, so that re-wrapping its prose redoes nothing."""
    return {"constitution": constitution.read(ws.constitution).version}


def _synth(ws: Workspace, settings: Any) -> Step:
    from marbury.synth import stage

    inputs = _policy(ws) | ({} if settings.model else {"corpus": hash_path(CORPUS)})
    return Step(Stage("synth", settings, inputs), (ws.examples, ws.dropped), lambda: stage.run(ws, settings))


def _augment(ws: Workspace, settings: Any) -> Step:
    from marbury.augment import stage

    inputs = _inputs(ws, examples=(ws.examples, "synth"))
    if ws.attacks.exists():
        inputs[ws.name_of(ws.attacks)] = hash_path(ws.attacks)
    return Step(Stage("augment", settings, inputs), (ws.variants,), lambda: stage.run(ws, settings))


def _dataset(ws: Workspace, settings: Any) -> Step:
    from marbury import dataset

    inputs = _inputs(ws, examples=(ws.examples, "synth"), variants=(ws.variants, "augment"))
    if settings.imports:
        inputs |= _policy(ws) | _given("dataset", *(Path(one.path) for one in settings.imports))
    outputs = (ws.train, ws.valid, ws.test, ws.card, ws.set_aside)
    return Step(Stage("dataset", settings, inputs), outputs, lambda: dataset.run(ws, settings))


def _train(ws: Workspace, settings: Any) -> Step:
    from marbury.classifier import train
    from marbury.classifier.stopping import VALID

    inputs = _policy(ws) | _inputs(ws, train=(ws.train, "dataset"))
    if settings.stop_source == VALID:
        inputs |= _inputs(ws, valid=(ws.valid, "dataset"))
    return Step(Stage("train", settings, inputs), (ws.classifier,), lambda: train.run(ws, settings))


def _calibrate(ws: Workspace, settings: Any) -> Step:
    from marbury import calibrate

    inputs = _inputs(ws, classifier=(ws.classifier, "train"), valid=(ws.valid, "dataset"))
    inputs |= _given("calibrate", *calibrate.traffic_files(settings))
    outputs = (ws.thresholds, ws.curves)
    return Step(Stage("calibrate", settings, inputs), outputs, lambda: calibrate.run(ws, settings))


def _evaluate(ws: Workspace, settings: Any) -> Step:
    from marbury.evaluate import stage

    inputs = _policy(ws) | _inputs(
        ws,
        test=(ws.test, "dataset"),
        classifier=(ws.classifier, "train"),
        thresholds=(ws.thresholds, "calibrate"),
    )

    inputs |= _given("evaluate", *(Path(text) for text in (settings.handbook, settings.traffic) if text))

    def door() -> Counts:
        scorer, calibration = load_guard(ws)
        return stage.run(ws, settings, scorer, calibration.thresholds)

    return Step(Stage("evaluate", settings, inputs), (ws.report, ws.page), door)


_MAKERS: dict[str, Callable[[Workspace, Any], Step]] = {
    "synth": _synth,
    "augment": _augment,
    "dataset": _dataset,
    "train": _train,
    "calibrate": _calibrate,
    "evaluate": _evaluate,
}


def load_guard(
    ws: Workspace, threads: int | None = None, engine: "EngineName" = "auto", prefix_mb: int = 256
) -> "tuple[ViewedScorer, Calibration]":
    """The classifiers of a run, behind views, and their thresholds. What can be chosen is as in `StreamScorer.load`.

    Raises:
        WorkspaceError: classifiers or thresholds are missing, or belong to another constitution.
    """
    from marbury.calibrate import read_calibration
    from marbury.classifier.scorer import StreamScorer
    from marbury.classifier.viewed import ViewedScorer

    calibration = read_calibration(ws)
    scorer = StreamScorer.load(ws.need(ws.classifier, "train"), threads, engine, prefix_mb=prefix_mb)
    if calibration.constitution != scorer.constitution:
        raise WorkspaceError(
            f"{ws.root}: the thresholds are for constitution {calibration.constitution[:12]}, the classifiers for "
            f"{scorer.constitution[:12]}: run `marbury calibrate {ws.root}`"
        )
    return ViewedScorer(scorer), calibration


def serve(ws: Workspace, settings: "ServeSettings") -> None:
    """Serve the guard of a run folder until it is told to end.

    Raises:
        WorkspaceError: the run has no classifiers or no thresholds yet.
    """
    from marbury.serve import Policies, create_app, run

    def stamp() -> bytes | None:
        return ws.thresholds.read_bytes() if ws.thresholds.exists() else None

    others = [Workspace(Path(settings.candidate))] if settings.candidate else []
    for each in (ws, *others):
        each.need(each.classifier, "train")
        each.need(each.thresholds, "calibrate")
    policies = Policies(
        lambda: _judge(ws, settings),
        (lambda: _judge(others[0], settings)) if others else None,
        settings.candidate_percent,
        stamp if settings.reload else None,
    )
    run(create_app(policies, settings), settings)


def _judge(ws: Workspace, settings: "ServeSettings") -> "Judge":
    """The guard of a run folder, as the proxy uses it."""
    from marbury.guard import Judge

    scorer, calibration = load_guard(ws, settings.threads, settings.engine, settings.prefix_mb)
    return Judge(
        scorer,
        calibration.thresholds,
        input_mode=settings.input,
        output_mode=settings.output,
        timeout_s=settings.timeout_s,
        version=calibration.constitution,
        fail_open=settings.on_error == "open",
    )


def bare_serve_settings(given: Mapping[str, Any]) -> "ServeSettings":
    """The settings of `serve` without a run folder.

    Raises:
        SettingsError: a key or a value is wrong.
    """
    from marbury.serve import ServeSettings

    return build(ServeSettings, given, "the command line")


def serve_drill(settings: "ServeSettings", word: str) -> None:
    """Serve a guard that stops a word in place of what classifiers would, until it is told to end.

    Raises:
        SettingsError: the word is no word.
    """
    from marbury.guard import Judge, ScriptedScorer
    from marbury.scoring import Thresholds
    from marbury.serve import create_app, run

    if not word.isprintable() or [word] != word.split():
        raise SettingsError(f"--drill {word!r} is not one word: give one that nothing harmless has in it")
    judge = Judge(
        ScriptedScorer(word),
        Thresholds(0.0, 0.0, 0.0, 0.0),
        input_mode=settings.input,
        output_mode=settings.output,
        timeout_s=settings.timeout_s,
        version=f"drill:{word}",
        fail_open=settings.on_error == "open",
    )
    run(create_app(judge, settings, drill=word), settings)
