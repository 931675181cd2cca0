"""From examples to padded tensors: which tokens there are, which positions teach what.

A sequence is a request, the marker that opens the reply, and the reply. The input side learns at that marker, the
output side on every token of the reply. Too long a sequence keeps the head of the request and its end, and the
end of the reply: the same shape that the scorer's windows have.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.trainer_pt_utils import get_length_grouped_indices

from marbury.classifier.encoding import Encoder
from marbury.records import Example
from marbury.scoring import Side

HEAD = 64  # tokens of the conversation's beginning that every window keeps


class Row(NamedTuple):
    """One training sequence. `reply_at` is the position of the first token of the reply."""

    ids: list[int]
    reply_at: int
    request_harmful: bool
    reply_harmful: bool | None
    category: int | None


def shorten(ids: list[int], limit: int) -> list[int]:
    """At most `limit` tokens: the first ones and the last ones."""
    if len(ids) <= limit:
        return ids
    head = min(HEAD, limit // 2)
    return ids[:head] + ids[len(ids) - (limit - head) :]


def encode(example: Example, encoder: Encoder, categories: Sequence[str], limit: int, sides: Sequence[Side]) -> Row:
    """An example as a training sequence of at most `limit` tokens for these sides."""
    request, _ = encoder.request(example.request)
    reply = encoder.text(example.reply or "") if "output" in sides else []
    room = max(limit - len(reply), limit // 2)
    request = shorten(request, room)
    reply = reply[-(limit - len(request)) :] if len(request) < limit else []
    return Row(
        ids=request + reply,
        reply_at=len(request),
        request_harmful=example.request_harmful,
        reply_harmful=example.reply_harmful if reply else None,
        category=categories.index(example.category) if example.category in categories else None,
    )


def encode_all(
    examples: Sequence[Example], encoder: Encoder, categories: Sequence[str], limit: int, sides: Sequence[Side]
) -> list[Row]:
    """All examples as sequences; for the input side alone, each request once."""
    rows, seen = [], set()
    for example in examples:
        row = encode(example, encoder, categories, limit, sides)
        key = (tuple(row.ids), row.request_harmful)
        if "output" in sides or key not in seen:
            seen.add(key)
            rows.append(row)
    return rows


class Rows(torch.utils.data.Dataset[dict[str, Any]]):
    """The sequences as the transformers Trainer takes them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.rows[index].ids, "row": self.rows[index]}


class Shuffle(torch.utils.data.Sampler[int]):
    """Rows of similar length side by side, in an order that seed and epoch alone decide.

    The one that transformers has goes on with torch's global random numbers, so that a training that was resumed
    in its second epoch would see another order than an undisturbed one.
    """

    def __init__(self, rows: Sequence[Row], batch_size: int, seed: int) -> None:
        self.lengths = [len(row.ids) for row in rows]
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0

    def __len__(self) -> int:
        return len(self.lengths)

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(random.Random(f"{self.seed}:{self.epoch}").getrandbits(63))
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


class Collator:
    """Pads sequences on the right and builds labels and masks."""

    def __init__(self, pad_id: int, categories: int) -> None:
        self.pad_id, self.categories = pad_id, categories

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch: ids_BT, mask_BT, reply_mask_BT, request_at_B, request_BC and reply_BC (C = harm + categories)."""
        rows: list[Row] = [item["row"] for item in items]
        size = (len(rows), max(len(row.ids) for row in rows))
        ids = torch.full(size, self.pad_id, dtype=torch.long)
        mask, reply_mask = torch.zeros(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            mask[number, : len(row.ids)] = True
            if row.reply_harmful is not None:
                reply_mask[number, row.reply_at : len(row.ids)] = True
        return {
            "ids": ids,
            "mask": mask,
            "reply_mask": reply_mask,
            "request_at": torch.tensor([row.reply_at - 1 for row in rows]),
            "request": self._labels([row.request_harmful for row in rows], rows),
            "reply": self._labels([bool(row.reply_harmful) for row in rows], rows),
        }

    def _labels(self, harmful: list[bool], rows: list[Row]) -> Tensor:
        labels = torch.zeros((len(rows), 1 + self.categories))
        for number, (bad, row) in enumerate(zip(harmful, rows, strict=True)):
            if bad:
                labels[number, 0] = 1
                if row.category is not None:
                    labels[number, 1 + row.category] = 1
        return labels
