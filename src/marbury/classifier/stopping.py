"""When to stop: rows of a source that is not trained on say which weights are best. The test split is never asked."""

from collections.abc import Sequence
from typing import Any

from transformers import TrainerCallback

from marbury.errors import SettingsError
from marbury.records import Example

VALID = "valid"  # names the valid split in place of a source


def hold_out(examples: Sequence[Example], source: str) -> tuple[list[Example], list[Example]]:
    """The rows to train on, and those of the source. Rows that share a request with the source are in neither.

    Raises:
        SettingsError: no row, or every row, is of this source.
    """
    held = [row for row in examples if row.source == source]
    pairs = {row.pair for row in held}
    kept = [row for row in examples if row.pair not in pairs]
    if not held or not kept:
        known = ", ".join(sorted({row.source for row in examples if row.source})) or "none"
        raise SettingsError(
            f"[train] stop_source {source!r}: {'every' if held else 'no'} row of dataset/train.jsonl is of it; "
            f"sources there: {known}; {VALID!r} names the valid split"
        )
    return kept, held


class Stop(TrainerCallback):  # type: ignore[misc]
    """Checks the last step too, and ends a training that has not become better for some checks.

    It keeps nothing in mind but the Trainer's own log, which a training that goes on finds in its checkpoint.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """The last weights are judged like all others."""
        losses = [log["eval_loss"] for log in state.log_history if "eval_loss" in log]
        if self._over(losses):
            control.should_training_stop = True
        elif state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Stop when the best loss lies `patience` checks back."""
        losses = [log["eval_loss"] for log in state.log_history if "eval_loss" in log]
        if self._over(losses):
            control.should_training_stop = True

    def _over(self, losses: list[float]) -> bool:
        return bool(self.patience and losses) and len(losses) - 1 - losses.index(min(losses)) >= self.patience
