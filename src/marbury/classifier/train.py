"""The door of `train`: from the data set to saved classifiers, with the transformers Trainer.

A killed training goes on from its last checkpoint and ends with the same weights. Checkpoints lie under a name made
of settings, rules and data, so that a changed input never continues an old training.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.utils.logging import disable_progress_bar

from marbury import constitution
from marbury.classifier.base import load_base
from marbury.classifier.batches import Collator, Rows, Shuffle, encode_all
from marbury.classifier.encoding import Encoder
from marbury.classifier.losses import LOSSES, WINDOW, Loss, prefix
from marbury.classifier.model import Classifier, build, count_parameters
from marbury.dataset import load
from marbury.errors import DataError
from marbury.progress import Bar
from marbury.records import Example
from marbury.scoring import Side
from marbury.workspace import Counts, Workspace, hash_path, write_json

LAYOUTS: dict[str, dict[str, tuple[Side, ...]]] = {
    "separate": {"input": ("input",), "output": ("output",)},
    "shared": {"shared": ("input", "output")},
}


@dataclass(frozen=True)
class TrainSettings:
    """How the classifiers are trained."""

    base: str = "minilm"  # `minilm`, or any name or path that AutoModelForCausalLM loads
    layout: Literal["separate", "shared"] = "shared"  # two sets of weights, or one with two heads
    loss: Literal["prefix", "maximum", "ramp", "softmax"] = "softmax"  # how the output side learns
    epochs: float = 2.0  # passes over the data
    batch_size: int = 16  # sequences per step
    learning_rate: float = 3e-4  # of the backbone, falling linearly to 0 after a short warm-up
    head_learning_rate: float = 3e-3  # of the value heads
    freeze_layers: int = 3  # lowest layers (and the embeddings, when > 0) that are not trained
    ntp_weight: float = 0.0  # weight of the next-token loss (a regulariser; needs a base with a language-model head)
    category_weight: float = 0.2  # weight of the category logits beside harm
    max_tokens: int = 384  # longest sequence; longer ones keep head and end
    seed: int = 0  # of the order of the rows, and of weights that the base lacks

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "head_learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")
        if self.max_tokens < 32:
            raise ValueError(f"max_tokens must be at least 32, not {self.max_tokens}")


def run(ws: Workspace, settings: TrainSettings) -> Counts:
    """Train the classifiers of the layout on dataset/train.jsonl and save them under classifier/.

    Raises:
        WorkspaceError: there is no data set. DataError: it lacks harmful or harmless rows.
        SettingsError: the base model cannot be loaded.
    """
    examples = load(ws.need(ws.train, "dataset"))
    policy = constitution.read(ws.constitution)
    categories = [category.slug for category in policy.restricted]
    _check(examples)
    disable_progress_bar()
    work = ws.checkpoints / _key(ws, settings, policy.version)
    counts: Counts = {"examples": len(examples)}
    for name, sides in LAYOUTS[settings.layout].items():
        final = work / name / "final"
        if not final.exists():
            counts |= train_one(examples, categories, policy.version, sides, settings, work / name, final)
    ws.clear(ws.classifier)
    ws.classifier.mkdir(parents=True)
    for name in LAYOUTS[settings.layout]:
        shutil.copytree(work / name / "final", ws.classifier / name)
    write_json(ws.classifier / "training.json", asdict(settings))
    over = ws.checkpoints / "over"  # renamed before it is removed: a kill must not leave half of what looks final
    ws.clear(over)
    work.rename(over)
    ws.clear(ws.checkpoints)
    return counts


def _check(examples: Sequence[Example]) -> None:
    for name in ("request_harmful", "reply_harmful"):
        labels = {getattr(e, name) for e in examples} - {None}
        if labels != {True, False}:
            raise DataError(
                f"dataset/train.jsonl has only {name} = {sorted(labels)}: a classifier needs both harmful and harmless "
                "rows; check the constitution's permitted side and run `marbury synth` again"
            )


def _key(ws: Workspace, settings: TrainSettings, version: str) -> str:
    text = json.dumps([asdict(settings), hash_path(ws.train), version], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def train_one(
    examples: Sequence[Example],
    categories: Sequence[str],
    version: str,
    sides: tuple[Side, ...],
    settings: TrainSettings,
    work: Path,
    final: Path,
) -> Counts:
    """Train one classifier for these sides and save it in `final`; checkpoints lie in `work`."""
    set_seed(settings.seed)
    backbone, tokenizer = load_base(settings.base)
    window = WINDOW if settings.loss == "softmax" else 1
    model = build(backbone, sides, categories, window, settings.max_tokens, version)
    freeze(model, settings.freeze_layers)
    rows = encode_all(examples, Encoder(tokenizer), categories, model.config.max_tokens, sides)
    with Bar(f"train {'+'.join(sides)}", _steps(settings, len(rows))) as bar:
        trainer = GuardTrainer(
            model=model,
            args=_arguments(settings, work, len(rows)),
            train_dataset=Rows(rows),
            data_collator=Collator(tokenizer.pad_token_id or 0, len(categories)),
            optimizers=(_optimizer(model, settings), None),
            callbacks=[ShowProgress(bar)],
            settings=settings,
            sides=sides,
        )
        trainer.train(resume_from_checkpoint=last_checkpoint(work))
    saving = final.with_name("saving")
    model.save_pretrained(saving)
    tokenizer.save_pretrained(saving)
    saving.rename(final)
    tokens = sum(len(row.ids) for row in rows)
    parameters, trained = count_parameters(model)
    name = "+".join(sides)
    return {f"{name} sequences": len(rows), f"{name} tokens": tokens, "parameters": parameters, "trained": trained}


def freeze(model: Classifier, layers: int) -> None:
    """Keep the lowest layers, and with them the embeddings, as they are."""
    if layers <= 0:
        return
    base = model.backbone.base_model
    count = model.config.base_config().get_text_config().num_hidden_layers
    stacks = [m for m in base.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    assert stacks, f"{type(base).__name__} has no list of {count} layers"
    for part in (base.get_input_embeddings(), *stacks[0][:layers]):
        part.requires_grad_(False)
    embeddings = getattr(base, "embeddings", None)
    if embeddings is not None:
        embeddings.requires_grad_(False)


def last_checkpoint(work: Path) -> str | None:
    """The newest whole checkpoint; halves of a killed save are removed."""
    whole = []
    for folder in work.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_bytes())  # the last file of a checkpoint
            whole.append(folder)
        except (FileNotFoundError, ValueError):
            shutil.rmtree(folder)
    newest = max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


def _steps(settings: TrainSettings, rows: int) -> int:
    return math.ceil(math.ceil(rows / settings.batch_size) * settings.epochs)


def _arguments(settings: TrainSettings, work: Path, rows: int) -> TrainingArguments:
    steps = _steps(settings, rows)
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        warmup_steps=max(1, int(0.06 * steps)),
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        save_steps=max(1, math.ceil(steps / 8)),
        save_total_limit=2,
        seed=settings.seed,
        remove_unused_columns=False,
        report_to="none",
        logging_steps=10,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
    )


def _optimizer(model: Classifier, settings: TrainSettings) -> torch.optim.Optimizer:
    heads = list(model.heads.parameters())
    body = [p for p in model.backbone.parameters() if p.requires_grad]
    groups = [
        {"params": body, "lr": settings.learning_rate, "weight_decay": 0.01},
        {"params": heads, "lr": settings.head_learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


class GuardTrainer(Trainer):  # type: ignore[misc]
    """The transformers Trainer with our loss: value heads of each side, categories, next token."""

    def __init__(self, *, settings: TrainSettings, sides: tuple[Side, ...], **rest: Any) -> None:
        super().__init__(**rest)
        self.settings, self.sides = settings, sides
        self.model_accepts_loss_kwargs = False
        self.remove_callback(PrinterCallback)  # its lines on stdout say what `ShowProgress` shows

    def _get_train_sampler(self, train_dataset: Any = None) -> Shuffle:
        return Shuffle(self.train_dataset.rows, self.settings.batch_size, self.settings.seed)

    def compute_loss(
        self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one batch (see `batches.Collator` for its parts)."""
        progress = min(1.0, self.state.global_step / max(1, self.state.max_steps))
        loss = batch_loss(model, inputs, self.sides, self.settings, progress)
        return (loss, {}) if return_outputs else loss


def batch_loss(
    model: Any, batch: dict[str, Tensor], sides: Sequence[Side], settings: TrainSettings, progress: float
) -> Tensor:
    """Sum over the sides of the harm loss and the weighted category loss, and the weighted next-token loss."""
    hidden: Tensor = model(batch["ids"])
    loss = hidden.new_zeros(())
    if "input" in sides:
        at_BD = hidden[torch.arange(len(hidden)), batch["request_at"]]
        logits = _bare(model).score(at_BD[:, None], "input")
        everywhere = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
        loss = loss + _heads_loss(prefix, logits, everywhere, batch["request"], settings, progress)
    if "output" in sides:
        logits = _bare(model).score(hidden, "output")
        loss = loss + _heads_loss(
            LOSSES[settings.loss], logits, batch["reply_mask"], batch["reply"], settings, progress
        )
    if settings.ntp_weight:
        next_BTV = _bare(model).next_token_logits(hidden[:, :-1])
        targets = batch["ids"][:, 1:].masked_fill(~batch["mask"][:, 1:], -100)
        ntp = nn.functional.cross_entropy(next_BTV.flatten(0, 1), targets.flatten(), ignore_index=-100)
        loss = loss + settings.ntp_weight * ntp
    return loss


def _bare(model: Any) -> Classifier:
    """The classifier inside of what accelerate wraps around it."""
    inner: Classifier = getattr(model, "module", model)
    return inner


def _heads_loss(
    loss: Loss, logits_BTC: Tensor, mask_BT: Tensor, labels_BC: Tensor, settings: TrainSettings, progress: float
) -> Tensor:
    total = loss(logits_BTC[..., 0], mask_BT, labels_BC[:, 0], progress)
    others = range(1, logits_BTC.shape[-1])
    if settings.category_weight and others:
        each = [loss(logits_BTC[..., c], mask_BT, labels_BC[:, c], progress) for c in others]
        total = total + settings.category_weight * torch.stack(each).mean()
    return total


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """Shows steps and loss while the Trainer works."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """A training that goes on begins where it was."""
        self.bar.advance(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """One step further."""
        losses = [log["loss"] for log in state.log_history if "loss" in log]
        self.bar.advance(1, f"loss {losses[-1]:.3f}" if losses else "")
