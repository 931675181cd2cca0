"""Marbury's own classifier on texts of a benchmark: trained with the product's code, read in batches.

Batches and single steps give the same scores, in long texts too (the tests hold that); batches are quicker for a table.
"""

import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from public import Text
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from marbury.classifier.batches import HEAD
from marbury.classifier.encoding import Encoder
from marbury.classifier.losses import windowed_mean
from marbury.classifier.model import Classifier
from marbury.classifier.train import LAYOUTS, TrainSettings, train_one
from marbury.classifier.viewed import decoded
from marbury.progress import track
from marbury.records import Example, Message
from marbury.scoring import Side
from marbury.views import views

Talk = tuple[tuple[Message, ...], str | None]
Parts = dict[Side, tuple[Classifier, Encoder]]


def train(
    examples: Sequence[Example],
    sides: tuple[Side, ...],
    settings: TrainSettings,
    categories: Sequence[str] = (),
    version: str = "",
) -> tuple[Classifier, Encoder]:
    """A classifier trained on these rows."""
    disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        final = Path(folder) / "final"
        train_one(examples, categories, version, sides, settings, Path(folder) / "work", final)
        return Classifier.from_pretrained(final).eval(), Encoder(AutoTokenizer.from_pretrained(final))


def train_parts(examples: Sequence[Example], settings: TrainSettings, categories: Sequence[str], version: str) -> Parts:
    """The classifiers of both sides, in the layout of the settings."""
    parts: Parts = {}
    for sides in LAYOUTS[settings.layout].values():
        parts |= dict.fromkeys(sides, train(examples, sides, settings, categories, version))
    return parts


def score(model: Classifier, encoder: Encoder, texts: Sequence[Text], side: Side) -> list[float]:
    """The score of each request, or the highest score along each reply."""
    talks = [((Message("user", text.request),), text.reply) for text in texts]
    return scores_of(model, encoder, talks, side)


def readings(model: Classifier, encoder: Encoder, talks: Sequence[Talk], side: Side) -> tuple[list[float], list[float]]:
    """The score of each request or reply as written, and the highest over it and its views."""
    those, owner = list(talks), list(range(len(talks)))
    for number, (request, reply) in enumerate(talks):
        if side == "input":
            others: list[Talk] = [(other, None) for other in decoded(request)]
        else:
            others = [(request, view.text) for view in views(reply or "")]
        those += others
        owner += [number] * len(others)
    scores = scores_of(model, encoder, those, side)
    best = scores[: len(talks)]
    for number, value in zip(owner, scores, strict=True):
        best[number] = max(best[number], value)
    return scores[: len(talks)], best


@torch.inference_mode()
def scores_of(model: Classifier, encoder: Encoder, talks: Sequence[Talk], side: Side) -> list[float]:
    """The highest score over the turns of each request, or along each reply (minus infinity where there is none).

    Leaves with a message when a score is not a number: the guard would judge closed, and no table could say it.
    """
    marker = list(encoder.markers["assistant"])
    requests = [encoder.request(request) for request, _ in talks]
    replies = [encoder.text(reply or "") if side == "output" else [] for _, reply in talks]
    limit = model.config.max_tokens - len(marker)
    parts = [list(windows(ids + reply, limit)) for (ids, _), reply in zip(requests, replies, strict=True)]
    logits = iter(_logits(model, [window + marker for those in parts for window, _ in those], side))
    scores = []
    for (ids, ends), those in zip(requests, parts, strict=True):
        read_T = [(next(logits), len(window), new) for window, new in those]
        along_T = torch.cat([logits_T[size - new : size] for logits_T, size, new in read_T])
        if side == "input":  # where a window is full, the scorer looks at the marker before it begins again
            scores.append(float(torch.cat([along_T[ends], *(logits_T[-1:] for logits_T, *_ in read_T[:-1])]).max()))
        else:
            scores.append(_highest(along_T[len(ids) :], model.config.window))
    if any(map(math.isnan, scores)):
        sys.exit("a score is not a number: the classifier is broken; train it again")
    return scores


def windows(ids: list[int], limit: int) -> Iterator[tuple[list[int], int]]:
    """What the scorer reads of a sequence, window by window, and how many of the last tokens are new (`Context`)."""
    window: list[int] = []
    at = 0
    while not at or at < len(ids):
        if at:
            window = ids[: min(HEAD, limit // 4)] + window[-(limit // 2) :]
        new = ids[at : at + limit - len(window)]
        window, at = window + new, at + len(new)
        yield window, len(new)


def _highest(reply_T: Tensor, window: int) -> float:
    if not len(reply_T):
        return -math.inf
    return float(windowed_mean(reply_T[None, :, None], torch.ones(1, len(reply_T), dtype=torch.bool), window).max())


def _logits(model: Classifier, sequences: Sequence[list[int]], side: Side) -> list[Tensor]:
    """The harm logits (token) of each sequence."""
    order = sorted(range(len(sequences)), key=lambda number: len(sequences[number]))
    found = [torch.empty(0)] * len(sequences)
    for start in track(range(0, len(order), 32), "score"):
        part = order[start : start + 32]
        ids_BT = pad_sequence([torch.tensor(sequences[number]) for number in part], batch_first=True)
        logits_BT = model.score(model(ids_BT), side)[..., 0].float()
        for place, number in enumerate(part):
            found[number] = logits_BT[place, : len(sequences[number])]
    return found
