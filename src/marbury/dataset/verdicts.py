"""What the labels of one imported row say: of its request, of its reply, and of each user turn."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from marbury.dataset.columns import Columns, speaks_of_safety
from marbury.dataset.labels import is_harmful, label_text
from marbury.dataset.mapping import Import
from marbury.dataset.talk import turns_in
from marbury.records import Message


class Verdict(NamedTuple):
    """The labels of an example; `told`: whether the file itself speaks of the request, and not of the reply alone."""

    asked: bool
    reply: bool | None
    turns: tuple[bool | None, ...]
    told: bool


def verdict_of(given: Import, columns: Columns, row: Mapping[str, Any], messages: Sequence[Message]) -> Verdict:
    """The labels of a row. Messages that end with a reply have one for it.

    Raises:
        Skip: the settings leave the row out.
        ValueError: a label is missing or means nothing known.
    """
    label, request_label = columns.get("label", ""), columns.get("request_label", "")
    if label and label not in row:
        return _inside(given, columns, row, messages)
    told = label_text(row.get(request_label)) != ""
    if messages[-1].role == "assistant":
        reply = _label(given, label, row)
        asked = _label(given, request_label, row, request=True) if told else reply or given.refusals
        return Verdict(asked, reply, (), told)
    if told or not label:
        return Verdict(_label(given, request_label, row, request=bool(request_label)), None, (), True)
    return Verdict(_label(given, label, row), None, (), True)


def _inside(given: Import, columns: Columns, row: Mapping[str, Any], messages: Sequence[Message]) -> Verdict:
    """The same where messages carry their own labels: the last one must, turns of users may."""
    label = columns["label"]
    if "messages" not in columns:
        raise ValueError(f"there is no {label!r}")
    labels = [_label(given, label, turn) if label_text(turn.get(label)) else None for turn in turns_in(columns, row)]
    if labels[-1] is None:
        raise ValueError(f"its last message has no {label!r}")
    turns = tuple(one for one, message in zip(labels, messages, strict=True) if message.role == "user")
    reply = labels[-1] if messages[-1].role == "assistant" else None
    if any(turn is not None for turn in turns):
        return Verdict(any(turns), reply, turns, True)
    return Verdict(bool(reply) or given.refusals, reply, (), False)


def _label(given: Import, column: str, row: Mapping[str, Any], request: bool = False) -> bool:
    """What one label says; where there is no column, what all rows are taken for."""
    if not column:
        return given.assume == "harmful"
    words = (request and given.request_labels) or given.labels
    return is_harmful(row.get(column), words, given.harmful_from, speaks_of_safety(column))
