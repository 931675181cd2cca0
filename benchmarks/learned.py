"""Marbury's own classifier on texts of a benchmark: trained with the product's code, read in batches.

Batches and single steps give the same scores (the tests of the scorer hold that); batches are quicker for a table.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from public import Text
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from marbury.classifier.batches import Collator, Row, encode
from marbury.classifier.encoding import Encoder
from marbury.classifier.losses import windowed_mean
from marbury.classifier.model import Classifier
from marbury.classifier.train import TrainSettings, train_one
from marbury.classifier.viewed import decoded
from marbury.progress import track
from marbury.records import Example, Message
from marbury.scoring import Side
from marbury.views import views

Talk = tuple[tuple[Message, ...], str | None]


def train(examples: Sequence[Example], sides: tuple[Side, ...], settings: TrainSettings) -> tuple[Classifier, Encoder]:
    """A classifier without categories, trained on these rows."""
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        final = Path(folder) / "final"
        train_one(examples, [], "", sides, settings, Path(folder) / "work", final)
        return Classifier.from_pretrained(final).eval(), Encoder(AutoTokenizer.from_pretrained(final))


def score(model: Classifier, encoder: Encoder, texts: Sequence[Text], side: Side) -> list[float]:
    """The score of each request, or the highest score along each reply."""
    talks = [((Message("user", text.request),), text.reply) for text in texts]
    return scores_of(model, encoder, talks, side)


def best_scores(
    model: Classifier, encoder: Encoder, talks: Sequence[Talk], side: Side, with_views: bool
) -> list[float]:
    """The highest score over all readings of each request (input), or over the views of each reply (output)."""
    readings, owner = list(talks), list(range(len(talks)))
    for number, (request, reply) in enumerate(talks if with_views else ()):
        others: list[Talk] = [(other, None) for other in decoded(request)]
        if side == "output":
            others = [(request, view.text) for view in views(reply or "")]
        readings += others
        owner += [number] * len(others)
    best = [-float("inf")] * len(talks)
    for number, value in zip(owner, scores_of(model, encoder, readings, side), strict=True):
        best[number] = max(best[number], value)
    return best


@torch.inference_mode()
def scores_of(model: Classifier, encoder: Encoder, talks: Sequence[Talk], side: Side) -> list[float]:
    """One score for each request, or for each reply the highest along it."""
    rows = [_row(talk, encoder, model.config.max_tokens, side) for talk in talks]
    order = sorted(range(len(rows)), key=lambda number: len(rows[number].ids))
    collate, scores = Collator(0, 0), [-float("inf")] * len(rows)
    for start in track(range(0, len(order), 32), "score"):
        part = order[start : start + 32]
        batch = collate([{"row": rows[number]} for number in part])
        logits_BT = model.score(model(batch["ids"]), side)[..., 0].float()
        for place, number in enumerate(part):
            if side == "input":
                scores[number] = float(logits_BT[place, rows[number].ends[-1].at])
            elif rows[number].replies:
                span = rows[number].replies[-1]
                reply_1T = logits_BT[place, span.start : span.stop][None]
                smooth_1T = windowed_mean(reply_1T, torch.ones_like(reply_1T, dtype=torch.bool), model.config.window)
                scores[number] = float(smooth_1T.max())
    return scores


def _row(talk: Talk, encoder: Encoder, limit: int, side: Side) -> Row:
    request, reply = talk
    sides: tuple[Side, ...] = ("input", "output") if side == "output" else ("input",)
    messages = (*request, Message("assistant", reply)) if reply is not None else request
    label = None if reply is None else False
    example = Example(
        id="", category="", messages=messages, request_harmful=False, reply_harmful=label, pair="", source=""
    )
    return encode(example, encoder, [], limit, sides)
