"""The door of `train`: from the data set to saved classifiers, with the transformers Trainer.

A killed training goes on from its last checkpoint and ends with the same weights. Checkpoints lie under a name made
of settings, rules and data, so that a changed input never continues an old training. Several processes can share a
training (`torchrun`); the first one alone writes and speaks.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from transformers import set_seed
from transformers.utils.logging import disable_progress_bar

from marbury import constitution
from marbury.classifier.balance import weigh
from marbury.classifier.base import load_base
from marbury.classifier.batches import Collator, Row, Rows, encode_all
from marbury.classifier.encoding import Encoder
from marbury.classifier.losses import WINDOW
from marbury.classifier.model import build, count_parameters
from marbury.classifier.settings import TrainSettings as TrainSettings
from marbury.classifier.stopping import VALID, Stop, hold_out
from marbury.classifier.torch_engine import TorchEngine
from marbury.classifier.trainer import GuardTrainer, ShowProgress, arguments, optimizer, process, steps_of
from marbury.classifier.tuning import merge, prepare
from marbury.dataset import load
from marbury.errors import DataError, SettingsError
from marbury.progress import Bar
from marbury.records import Example
from marbury.scoring import Side
from marbury.workspace import Counts, Workspace, hash_path, write_json

LAYOUTS: dict[str, dict[str, tuple[Side, ...]]] = {
    "separate": {"input": ("input",), "output": ("output",)},
    "shared": {"shared": ("input", "output")},
}


def run(ws: Workspace, settings: TrainSettings) -> Counts:
    """Train the classifiers of the layout on dataset/train.jsonl and save them under classifier/.

    Raises:
        WorkspaceError: there is no data set. DataError: it lacks harmful or harmless rows.
        SettingsError: the base model cannot be loaded, or the settings do not fit it, the data or the processes.
    """
    examples, held = _rows(ws, settings)
    policy = constitution.read(ws.constitution)
    categories = [category.slug for category in policy.restricted]
    _check(examples, settings)
    disable_progress_bar()
    work = ws.checkpoints / _key(ws, settings, policy.version)
    counts: Counts = {"examples": len(examples)}
    if held:
        counts["held out"] = len(held)
    layout = LAYOUTS[settings.layout]
    missing = [name for name in layout if not (work / name / "final").exists()]
    process().wait_for_everyone()  # all have looked before the first one changes anything
    for name in missing:
        place = work / name
        counts |= train_one(examples, categories, policy.version, layout[name], settings, place, place / "final", held)
    if not process().is_main_process:
        raise SystemExit(0)  # the first process writes what there is, and the row that says "done"
    _publish(ws, settings, work)
    return counts


def _rows(ws: Workspace, settings: TrainSettings) -> tuple[list[Example], list[Example]]:
    """The rows to train on, and those that say when to stop."""
    examples = load(ws.need(ws.train, "dataset"))
    if settings.stop_source == VALID:
        return examples, load(ws.need(ws.valid, "dataset"))
    return hold_out(examples, settings.stop_source) if settings.stop_source else (examples, [])


def _check(examples: Sequence[Example], settings: TrainSettings) -> None:
    for name in ("request_harmful", "reply_harmful"):
        labels = {getattr(e, name) for e in examples} - {None}
        if labels != {True, False}:
            raise DataError(
                f"dataset/train.jsonl has only {name} = {sorted(labels)}: a classifier needs both harmful and harmless "
                "rows; check the constitution's permitted side and run `marbury synth` again"
            )
    known = {example.category for example in examples}
    for name in settings.hard_categories:
        if name not in known:
            raise SettingsError(
                f"[train] hard_categories: no row is of category {name!r}; there are {', '.join(sorted(known))}"
            )


def _key(ws: Workspace, settings: TrainSettings, version: str) -> str:
    data = [hash_path(path) for path in (ws.train, *([ws.valid] if settings.stop_source == VALID else []))]
    text = json.dumps([asdict(settings), *data, version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _publish(ws: Workspace, settings: TrainSettings, work: Path) -> None:
    """Copy what was trained to classifier/ and remove the checkpoints."""
    ws.clear(ws.classifier)
    ws.classifier.mkdir(parents=True)
    for name in LAYOUTS[settings.layout]:
        shutil.copytree(work / name / "final", ws.classifier / name)
    write_json(ws.classifier / "training.json", asdict(settings))
    over = ws.checkpoints / "over"  # renamed before it is removed: a kill must not leave half of what looks final
    ws.clear(over)
    work.rename(over)
    ws.clear(ws.checkpoints)


def train_one(
    examples: Sequence[Example],
    categories: Sequence[str],
    version: str,
    sides: tuple[Side, ...],
    settings: TrainSettings,
    work: Path,
    final: Path,
    held: Sequence[Example] = (),
) -> Counts:
    """Train one classifier for these sides and save it in `final`; checkpoints lie in `work`.

    With `held` rows the weights that do best on them are saved, and training may stop early.
    """
    # 1. The model, and what of it is trained.
    set_seed(settings.seed)
    backbone, tokenizer = load_base(settings.base)
    window = WINDOW if settings.loss == "softmax" else 1
    model = build(backbone, sides, categories, window, settings.max_tokens, version, settings.reads)
    try:
        TorchEngine.check(model)  # before hours of training, not after
        prepare(model, settings)
    except ValueError as error:
        raise SettingsError(f"[train] {error}") from error
    parameters, trained = count_parameters(model)

    # 2. The rows, each with its weight.
    encoder = Encoder(tokenizer)

    def rows_of(those: Sequence[Example]) -> list[Row]:
        rows = encode_all(those, encoder, categories, model.config.max_tokens, sides, settings.hard_categories)
        return weigh(rows, settings)

    rows, judges = rows_of(examples), sorted(rows_of(held), key=lambda row: len(row.ids))

    # 3. The training, from where it was.
    name = "+".join(sides)
    with ExitStack() as showing:
        callbacks: list[ShowProgress | Stop] = [Stop(settings.patience)] if judges else []
        if process().is_main_process:
            callbacks.append(ShowProgress(showing.enter_context(Bar(f"train {name}", steps_of(settings, len(rows))))))
        trainer = GuardTrainer(
            model=model,
            args=arguments(settings, work, len(rows), stops=bool(judges)),
            train_dataset=Rows(rows),
            eval_dataset=Rows(judges) if judges else None,
            data_collator=Collator(tokenizer.pad_token_id or 0, len(categories)),
            optimizers=(optimizer(model, settings), None),
            callbacks=callbacks,
            settings=settings,
            sides=sides,
        )
        trainer.train(resume_from_checkpoint=last_checkpoint(work))

    # 4. The result.
    merge(model)
    if process().is_main_process:
        saving = final.with_name("saving")
        model.save_pretrained(saving)
        tokenizer.save_pretrained(saving)
        saving.rename(final)
    process().wait_for_everyone()
    counts: Counts = {f"{name} sequences": len(rows), f"{name} tokens": sum(len(row.ids) for row in rows)}
    best = {f"{name} best step": trainer.state.best_global_step} if judges else {}
    return {**counts, **best, "parameters": parameters, "trained": trained}


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint; halves of a killed save are removed."""
    whole = []
    with process().main_process_first():
        for folder in work.glob("checkpoint-*"):
            try:
                json.loads((folder / "trainer_state.json").read_bytes())  # the last file of a checkpoint
                whole.append(folder)
            except (FileNotFoundError, ValueError):
                shutil.rmtree(folder)
    newest = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None
