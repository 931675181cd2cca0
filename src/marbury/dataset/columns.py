"""Which column of a file is what: as the settings name it, else by its usual names and by what stands in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from marbury.dataset.labels import meaning_of
from marbury.errors import SettingsError

Columns = dict[str, str]  # what -> the column's name
ABSENT = "-"

USUAL: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversation", "conversations", "chat", "dialog", "dialogue", "turns"),
    "request": (
        "request", "prompt", "question", "instruction", "user_input", "query", "goal", "behavior", "behaviour",
        "forbidden_prompt", "adversarial", "input", "text", "comment_text",
    ),
    "reply": ("reply", "response", "answer", "output", "model_output", "completion", "assistant"),
    "label": (
        "label", "reply_label", "response_label", "response_harm_label", "reply_harmful", "harmful", "is_harmful",
        "unsafe", "is_unsafe", "toxic", "is_toxic", "toxicity", "malicious", "jailbreak", "flagged",
        "safe", "is_safe", "is_response_safe", "harmless", "is_harmless", "benign", "labels",
    ),
    "request_label": (
        "request_label", "prompt_label", "prompt_harm_label", "request_harmful", "prompt_harmful", "is_prompt_harmful",
    ),
    "category": ("category", "harm_category", "hazard", "violated_categories", "semanticcategory", "topic", "policy"),
    "language": ("language", "lang", "locale"),
    "system": ("system", "system_prompt"),
    "pair": ("pair", "pair_id"),
}  # fmt: skip
_SAFE = {"safe", "is_safe", "is_response_safe", "is_prompt_safe", "harmless", "is_harmless", "benign"}


@dataclass(frozen=True)
class Fields:
    """Names of a file's columns. Empty: by the usual names, "-": there is none."""

    messages: str = ""  # whole conversations: a list of role and content
    request: str = ""  # the request; "a+b" joins two columns
    reply: str = ""  # the reply
    system: str = ""  # the system text before a request
    label: str = ""  # of the row's last message; where messages carry labels, the name there
    request_label: str = ""  # of the request, where `label` speaks of the reply
    category: str = ""  # their category
    language: str = ""  # a code such as "en"
    source: str = ""  # where a row came from, in place of one name for all; never guessed
    pair: str = ""  # rows with one value stay in one split, in place of those with one request


def speaks_of_safety(column: str) -> bool:
    """Whether true in this column means harmless."""
    return column.casefold() in _SAFE


def columns_of(named: Fields, head: Sequence[Mapping[str, Any]], where: str, labelled: bool = True) -> Columns:
    """Which column is what, from a file's first rows. With `labelled`, a label is looked for and must be there.

    Raises:
        SettingsError: a named column is not there, or there is no text or no label.
    """
    names = list(dict.fromkeys(name for row in head for name in row))
    found = _named(named, names, head, where)
    free = {name.casefold(): name for name in names if name not in found.values()}
    for what, usual in USUAL.items():
        if not getattr(named, what) and (labelled or what != "label"):
            fitting = [free[name] for name in usual if name in free and _fits(what, free[name], head)]
            if fitting:
                found[what] = fitting[0]
    found = {what: name for what, name in found.items() if name != ABSENT}
    unread = ("messages",) if _says(named.request) and not named.messages else ("request", "reply", "system")
    if "messages" in found:
        found = {what: name for what, name in found.items() if what not in unread}
    elif found.get("request", "").casefold() == "instruction" and not named.request and "input" in free:
        found["request"] += f"+{free['input']}"
    if labelled and "label" not in found and not named.label and "messages" in found:
        found |= _inside(found["messages"], head)
    _complete(found, names, where, labelled)
    return {what: found[what] for what in (field.name for field in fields(Fields)) if what in found}


def _says(name: str) -> bool:
    return name not in ("", ABSENT)


def _named(named: Fields, names: Sequence[str], head: Sequence[Mapping[str, Any]], where: str) -> Columns:
    """The columns that the settings name, all of them there."""
    found = {field.name: name for field in fields(Fields) if (name := getattr(named, field.name))}
    for what, name in found.items():
        missing = [part for part in parts_of(name, names) if part not in names and part != ABSENT]
        if missing and not (what == "label" and any(_carried(head, column, name) for column in names)):
            raise SettingsError(f"{where}: no column {missing[0]!r} for {what}; there are {_listed(names)}")
    return found


def parts_of(name: str, names: Sequence[str] | Mapping[str, Any]) -> list[str]:
    """The columns that "a+b" joins; a column that is called so goes before."""
    return [name] if name in names else name.split("+")


def _fits(what: str, column: str, head: Sequence[Mapping[str, Any]]) -> bool:
    """Whether something in this column can be what its name says."""
    return any(value is not None and _CAN_BE.get(what, _anything)(value) for value in (row.get(column) for row in head))


def _anything(value: Any) -> bool:
    return True


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _talk(value: Any) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and value.lstrip().startswith("["))


def _verdict(value: Any) -> bool:
    return isinstance(value, str | bool | int | float)


_CAN_BE: dict[str, Callable[[Any], bool]] = {
    "messages": _talk, "request": _text, "reply": _text, "system": _text, "language": _text,
    "label": _verdict, "request_label": _verdict,
}  # fmt: skip


def _inside(messages: str, head: Sequence[Mapping[str, Any]]) -> Columns:
    """The label that the messages themselves carry, if they do."""
    for name in USUAL["label"]:
        if _carried(head, messages, name):
            return {"label": name}
    return {}


def _carried(head: Sequence[Mapping[str, Any]], messages: str, name: str) -> bool:
    turns = (turn for row in head if isinstance(talk := row.get(messages), list) for turn in talk)
    return any(isinstance(turn, Mapping) and meaning_of(turn.get(name), {}) for turn in turns)


def _complete(found: Columns, names: Sequence[str], where: str, labelled: bool) -> None:
    if not {"messages", "request"} & found.keys():
        raise SettingsError(
            f"{where}: no column looks like a request or a conversation; there are {_listed(names)}: name one under "
            '[[dataset.imports]] with fields = { request = "..." } or fields = { messages = "..." }'
        )
    if labelled and not {"label", "request_label"} & found.keys():
        raise SettingsError(
            f"{where}: no column looks like a label; there are {_listed(names)}: name one under [[dataset.imports]] "
            'with fields = { label = "..." }, or give every row one label with assume = "harmful" or "harmless"'
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
