"""From examples to padded tensors: which tokens there are, which positions teach what.

A sequence is a request, the marker that opens the reply, and the reply. The input side learns at the ends of turns,
where the scorer reads it; the output side on every token of a reply, earlier ones of the conversation included. Only
what is certain is taught: see `_ends` and `_replies`. Too long a sequence keeps the head of the request and its end,
and the end of the reply: the same shape that the scorer's windows have.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.trainer_pt_utils import get_length_grouped_indices

from marbury.classifier.encoding import Encoder
from marbury.errors import DataError
from marbury.records import Example
from marbury.scoring import Side

HEAD = 64  # tokens of the conversation's beginning that every window keeps


class End(NamedTuple):
    """The end of a turn: its position, and whether the conversation up to there asks for harm."""

    at: int
    harmful: bool


class Span(NamedTuple):
    """The tokens of a reply, from `start` up to `stop`, and whether it is harmful."""

    start: int
    stop: int
    harmful: bool


class Row(NamedTuple):
    """One training sequence: what each side learns where, and how much it weighs there."""

    ids: list[int]
    ends: tuple[End, ...]
    replies: tuple[Span, ...]
    category: int | None = None
    augmented: bool = False
    hard: bool = False
    input_weight: float = 1.0
    output_weight: float = 1.0


def shorten(ids: list[int], limit: int) -> list[int]:
    """At most `limit` tokens: the first ones and the last ones."""
    if len(ids) <= limit:
        return ids
    head = min(HEAD, limit // 2)
    return ids[:head] + ids[len(ids) - (limit - head) :]


def encode(
    example: Example,
    encoder: Encoder,
    categories: Sequence[str],
    limit: int,
    sides: Sequence[Side],
    hard: Iterable[str] = (),
) -> Row:
    """An example as a training sequence of at most `limit` tokens for these sides.

    Raises:
        DataError: the example labels another number of turns than it has.
    """
    request, ends = encoder.request(example.request)
    reply = encoder.text(example.reply or "") if "output" in sides else []
    kept = shorten(list(range(len(request))), max(limit - len(reply), limit // 2))
    now = {old: new for new, old in enumerate(kept)}  # where the tokens that stay come to stand
    reply = reply[-(limit - len(kept)) :] if len(kept) < limit else []
    replies = _replies(example, encoder, ends, now) if "output" in sides else []
    if reply:
        replies.append(Span(len(kept), len(kept) + len(reply), bool(example.reply_harmful)))
    return Row(
        ids=[request[old] for old in kept] + reply,
        ends=tuple(End(now[at], harmful) for at, harmful in _ends(example, ends) if at in now),
        replies=tuple(replies),
        category=categories.index(example.category) if example.category in categories else None,
        augmented=bool(example.chain),
        hard=example.category in set(hard),
    )


def turn_labels(example: Example) -> tuple[bool | None, ...]:
    """For each user turn of the request whether it asks for harm, as far as that is certain.

    Of a harmless request no turn does; of a harmful one the last does, and nobody knows of the others.

    Raises:
        DataError: the example labels another number of turns than it has.
    """
    count = sum(message.role == "user" for message in example.request)
    if len(example.turns) == count:
        return example.turns
    if example.turns and not example.chain:  # a variant may have split the turns that were labelled
        raise DataError(f"row {example.id} labels {len(example.turns)} turns, but its request has {count} user turns")
    earlier = None if example.request_harmful else False
    return (earlier,) * (count - 1) + (example.request_harmful,) * min(count, 1)


def _ends(example: Example, ends: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """The ends of turns with a certain label: a user turn's own; False after any other turn while all is harmless.

    The last end is where the request as a whole is judged.
    """
    labels, asked = turn_labels(example), 0
    for number, (message, at) in enumerate(zip(example.request, ends, strict=True)):
        asked += message.role == "user"
        near = labels[: max(asked, 1)]  # what comes before the first user turn is as harmless as that turn
        label = False if near and all(one is False for one in near) else None
        if message.role == "user":
            label = labels[asked - 1]
        if label is None and number == len(ends) - 1:
            label = example.request_harmful
        if label is not None:
            yield at, label


def _replies(example: Example, encoder: Encoder, ends: Sequence[int], now: dict[int, int]) -> list[Span]:
    """The earlier replies of a conversation whose request and reply are harmless; of others nobody knows."""
    if example.request_harmful or example.reply_harmful is not False:
        return []
    spans, messages = [], example.request
    for number, message in enumerate(messages[:-1]):
        if message.role == "assistant":
            start = ends[number - 1] + 1 if number else len(encoder.start) + len(encoder.markers["assistant"])
            stop = ends[number] + 1 - len(encoder.markers[messages[number + 1].role])
            kept = [now[at] for at in range(start, stop) if at in now]
            if kept:
                spans.append(Span(kept[0], kept[-1] + 1, False))
    return spans


def encode_all(
    examples: Sequence[Example],
    encoder: Encoder,
    categories: Sequence[str],
    limit: int,
    sides: Sequence[Side],
    hard: Iterable[str] = (),
) -> list[Row]:
    """All examples as sequences; for the input side alone, each request once. Raises DataError as `encode` does."""
    rows, seen = [], set()
    for example in examples:
        row = encode(example, encoder, categories, limit, sides, hard)
        key = (tuple(row.ids), row.ends)
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
    """Pads sequences on the right and builds labels, weights and positions."""

    def __init__(self, pad_id: int, categories: int) -> None:
        self.pad_id, self.categories = pad_id, categories

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch: ids_BT, mask_BT; of the E labelled ends of turns row_E, at_E, labels_EC and weights_E; of the S
        replies row_S, at_SL, mask_SL, labels_SC and weights_S (C = harm + categories). A row's weight is divided
        among its ends, and among its replies.
        """
        rows: list[Row] = [item["row"] for item in items]
        width = max(len(row.ids) for row in rows)
        ids = torch.tensor([row.ids + [self.pad_id] * (width - len(row.ids)) for row in rows])
        lengths = torch.tensor([len(row.ids) for row in rows])
        ends = [(n, row, end) for n, row in enumerate(rows) for end in row.ends]
        replies = [(n, row, reply) for n, row in enumerate(rows) for reply in row.replies]
        starts = torch.tensor([reply.start for *_, reply in replies], dtype=torch.long)
        sizes = torch.tensor([reply.stop - reply.start for *_, reply in replies], dtype=torch.long)
        steps = torch.arange(max(sizes.tolist(), default=1))
        reply_mask = steps < sizes[:, None]
        return {
            "ids": ids,
            "mask": torch.arange(width) < lengths[:, None],
            "end_row": torch.tensor([n for n, *_ in ends], dtype=torch.long),
            "end_at": torch.tensor([end.at for *_, end in ends], dtype=torch.long),
            "end_labels": self._labels([(row, end.harmful) for _, row, end in ends]),
            "end_weights": torch.tensor([row.input_weight / len(row.ends) for _, row, _ in ends]),
            "reply_row": torch.tensor([n for n, *_ in replies], dtype=torch.long),
            "reply_at": torch.where(reply_mask, starts[:, None] + steps, 0),
            "reply_mask": reply_mask,
            "reply_labels": self._labels([(row, reply.harmful) for _, row, reply in replies]),
            "reply_weights": torch.tensor([row.output_weight / len(row.replies) for _, row, _ in replies]),
        }

    def _labels(self, taught: list[tuple[Row, bool]]) -> Tensor:
        labels = torch.zeros((len(taught), 1 + self.categories))
        for number, (row, harmful) in enumerate(taught):
            if harmful:
                labels[number, 0] = 1
                if row.category is not None:
                    labels[number, 1 + row.category] = 1
        return labels
