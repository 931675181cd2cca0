"""The transformers Trainer with our loss, and what it is told. It knows nothing of run folders."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from marbury.classifier.batches import Shuffle
from marbury.classifier.losses import LOSSES, prefix
from marbury.classifier.model import Classifier
from marbury.classifier.settings import TrainSettings
from marbury.errors import SettingsError
from marbury.progress import Bar
from marbury.scoring import Side

CHECKS = 8  # checkpoints in a training, and looks at the rows that say when to stop


def steps_of(settings: TrainSettings, rows: int) -> int:
    """Steps of a training on so many sequences."""
    return math.ceil(math.ceil(rows / settings.batch_size) * settings.epochs)


def uses_bf16(precision: str) -> bool:
    """Whether products are computed in bfloat16: for `auto`, on GPUs that can, and on CPUs with matrix units (AMX).

    Without such units bfloat16 is many times slower on a CPU than fp32.
    """
    if precision != "auto":
        return precision == "bf16"
    if on_cpu():
        return bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return torch.cuda.is_available() and bool(torch.cuda.is_bf16_supported())


def on_cpu() -> bool:
    """Whether training runs on the CPU: there is nothing better, or `accelerate launch --cpu` says so."""
    return not torch.accelerator.is_available() or bool(parse_flag_from_env("ACCELERATE_USE_CPU"))


def process() -> PartialState:
    """This process among those that share the training; most often it is alone."""
    return PartialState(cpu=on_cpu())  # without the word, processes on CPUs would not find each other


def devices() -> int:
    """How many processes or GPUs share a step."""
    processes: int = process().num_processes
    return processes if processes > 1 or on_cpu() else max(1, torch.cuda.device_count())


def arguments(settings: TrainSettings, work: Path, rows: int, *, stops: bool) -> TrainingArguments:
    """What the Trainer is told. `stops`: whether it checks held-out rows and keeps the best weights.

    Raises:
        SettingsError: the batch cannot be divided among the processes.
    """
    steps, parts = steps_of(settings, rows), settings.accumulate * devices()
    if settings.batch_size % parts:
        raise SettingsError(
            f"[train] batch_size {settings.batch_size} cannot be divided into {parts} equal parts (accumulate times "
            f"processes): choose a multiple of {parts}"
        )
    every = max(1, math.ceil(steps / CHECKS))
    checked = {"eval_strategy": "steps", "eval_steps": every, "load_best_model_at_end": True} if stops else {}
    return TrainingArguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size // parts,
        per_device_eval_batch_size=settings.batch_size // parts,
        gradient_accumulation_steps=settings.accumulate,
        warmup_steps=max(1, int(0.06 * steps)),
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        prediction_loss_only=True,
        label_names=["ids"],
        seed=settings.seed,
        remove_unused_columns=False,
        report_to="none",
        logging_steps=10,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,  # a head is used outside of `forward`
        bf16=uses_bf16(settings.precision),
        use_cpu=on_cpu(),
        **checked,
    )


def optimizer(model: Classifier, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW with a learning rate for the heads of their own."""
    heads = list(model.heads.parameters())
    body = [p for p in model.backbone.parameters() if p.requires_grad]
    groups = [
        {"params": body, "lr": settings.learning_rate, "weight_decay": 0.01},
        {"params": heads, "lr": settings.head_learning_rate, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=(0.9, 0.98))


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
        done = min(1.0, self.state.global_step / max(1, self.state.max_steps))
        loss = batch_loss(model, inputs, self.sides, self.settings, done if model.training else 1.0)
        return (loss, {}) if return_outputs else loss


def batch_loss(
    model: Any, batch: dict[str, Tensor], sides: Sequence[Side], settings: TrainSettings, progress: float
) -> Tensor:
    """Sum over the sides of the harm loss and the weighted category loss, and the weighted next-token loss."""
    read = model(batch["ids"], next_token=bool(settings.ntp_weight))
    hidden: Tensor = read[0] if settings.ntp_weight else read
    bare: Classifier = getattr(model, "module", model)  # inside of what accelerate wraps around it
    loss = hidden.new_zeros(())
    if "input" in sides:
        logits_E1C = bare.score(hidden, "input")[batch["end_row"], batch["end_at"]][:, None]
        everywhere = torch.ones(logits_E1C.shape[:2], dtype=torch.bool, device=hidden.device)
        losses_EC = prefix(logits_E1C, everywhere, batch["end_labels"], progress)
        loss = loss + _weighted(losses_EC, batch["end_weights"], settings)
    if "output" in sides:
        logits_SLC = bare.score(hidden, "output")[batch["reply_row"][:, None], batch["reply_at"]]
        losses_SC = LOSSES[settings.loss](logits_SLC, batch["reply_mask"], batch["reply_labels"], progress)
        loss = loss + _weighted(losses_SC, batch["reply_weights"], settings)
    loss = loss / len(hidden)
    if settings.ntp_weight:
        loss = loss + settings.ntp_weight * _next_token(read[1], batch)
    return loss


def _weighted(losses_BC: Tensor, weights_B: Tensor, settings: TrainSettings) -> Tensor:
    """The weighted sum of the losses of harm, and of the categories' mean."""
    sums_C = weights_B @ losses_BC
    if not settings.category_weight or len(sums_C) == 1:
        return sums_C[0]
    return sums_C[0] + settings.category_weight * sums_C[1:].mean()


def _next_token(logits_BTV: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of the next token, mean over each sequence, then over the sequences."""
    next_BTV, counts_BT = logits_BTV[:, :-1], batch["mask"][:, 1:]
    losses_BT = nn.functional.cross_entropy(next_BTV.transpose(1, 2), batch["ids"][:, 1:], reduction="none")
    return ((losses_BT * counts_BT).sum(1) / counts_BT.sum(1).clamp(min=1)).mean()


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
