"""Forty rows that a tiny classifier can learn in seconds, and how it does."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tiny_classifiers import BOTH

from marbury.classifier.balance import weigh
from marbury.classifier.base import load_base
from marbury.classifier.batches import Collator, encode_all
from marbury.classifier.encoding import Encoder
from marbury.classifier.model import Classifier
from marbury.classifier.settings import TrainSettings
from marbury.classifier.train import train_one
from marbury.classifier.trainer import batch_loss
from marbury.records import Example, Message
from marbury.scoring import Side

CATEGORIES = ["preparation", "dispersal"]


def examples() -> list[Example]:
    """Forty exchanges: the amber ones are harmful, in two categories; a few replies refuse, two rows are requests."""
    made = []
    for number in range(40):
        harmful = number % 2 == 0
        refused = number % 8 == 0
        thing = "amber salt" if harmful else "the wren"
        messages = [Message("user", f"how does {thing} {'keep ' * (number % 5)}{number}?")]
        if number not in (9, 18):
            answer = "no, ask the keeper" if refused else f"{thing} and {thing} and {number}"
            messages.append(Message("assistant", answer))
        made.append(
            Example(
                id=f"e{number}",
                category=CATEGORIES[number // 2 % 2] if harmful else "everyday",
                messages=tuple(messages),
                request_harmful=harmful,
                reply_harmful=(harmful and not refused) if len(messages) == 2 else None,
                pair=f"p{number}",
            )
        )
    return made


def settings_for(base: Path) -> TrainSettings:
    """A training of 15 steps, the same on every CPU."""
    return TrainSettings(
        base=str(base),
        epochs=3,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=3e-2,
        freeze_layers=0,
        max_tokens=64,
        precision="fp32",
    )


def teach(settings: TrainSettings, place: Path, sides: tuple[Side, ...] = BOTH, held: Sequence[Example] = ()) -> Path:
    """Train one classifier; gives where it was saved."""
    train_one(examples(), CATEGORIES, "v1", sides, settings, place, place / "final", held)
    return place / "final"


@torch.no_grad()
def mean_loss(model: Classifier, settings: TrainSettings, rows: Sequence[Example] = ()) -> float:
    """The loss on all rows at once, at the end of training."""
    _, tokenizer = load_base(settings.base)
    categories = model.config.categories
    encoded = encode_all(rows or examples(), Encoder(tokenizer), categories, 64, BOTH)
    batch = Collator(0, len(categories))([{"row": row} for row in weigh(encoded, settings)])
    return batch_loss(model, batch, BOTH, settings, 1.0).item()
