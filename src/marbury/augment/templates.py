"""Jailbreak templates and the honest wrappers that look like them, as transformations.

A template is a few turns with one `{query}`; it takes the place of the last user turn. Where it asks for a reply in
another shape than plain text (a table, a code, several answers in one), the reply of the row does not fit, and the
row ends with its request.
"""

from collections.abc import Iterable
from pathlib import Path
from random import Random

import msgspec

from marbury.augment.editing import Apply, Pool, Transformation, has_system, question, with_request, without_reply
from marbury.errors import DataError
from marbury.records import Example, Message, read_rows

QUERY = "{query}"

_CORPUS = Path(__file__).parents[1] / "data" / "orvane" / "corpus"
_FILES = {"template": _CORPUS / "templates.jsonl", "wrapper": _CORPUS / "benign_wrappers.jsonl"}
_PLAIN_STYLES = frozenset({"plain", "prefixed", "letter", "fiction", "dialogue", "markdown"})
_SEVERAL_ANSWERS = frozenset({"t-087", "t-091", "w-012"})  # of a plain style, but they ask for more than one thing


class Template(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A jailbreak or an honest wrapper. Its `turns` hold one `{query}` and end with the user."""

    id: str
    family: str
    turns: tuple[Message, ...]
    reply_style: str = "plain"
    name: str = ""
    note: str = ""

    @property
    def plain(self) -> bool:
        """Whether a plain reply answers it."""
        return self.reply_style in _PLAIN_STYLES and self.id not in _SEVERAL_ANSWERS


def load(path: Path) -> list[Template]:
    """The templates of a file.

    Raises:
        DataError: the file is missing, a row is malformed, has not exactly one `{query}` or does not end with the user.
    """
    rows = list(read_rows(path, Template))
    for row in rows:
        if sum(turn.content.count(QUERY) for turn in row.turns) != 1:
            raise DataError(f"{path}: template {row.id}: write {QUERY} exactly once in its turns")
        if row.turns[-1].role != "user":
            raise DataError(f"{path}: template {row.id}: its last turn must be the user's")
    return rows


def bundled(kind: str) -> list[Template]:
    """The templates that come with the package: kind `template` (jailbreaks) or `wrapper` (honest)."""
    return load(_FILES[kind])


def insert(template: Template, text: str) -> tuple[Message, ...]:
    """The turns of a template around a request."""
    return tuple(Message(turn.role, turn.content.replace(QUERY, text)) for turn in template.turns)


def wrap(template: Template) -> Apply:
    """The template as a change of a row."""

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        turns, before = insert(template, question(example)), example.request[:-1]
        if turns[0].role == "system":  # instructions stand first, and there is one set of them
            if has_system(example):
                return None
            before, turns = (turns[0], *before), turns[1:]
        row = with_request(example, (*before, *turns))
        return row if template.plain or row.reply is None else without_reply(row)

    return apply


def as_transformations(kind: str, templates: Iterable[Template]) -> list[Transformation]:
    """Templates as steps named `kind:family/id`."""
    return [Transformation(f"{kind}:{template.family}/{template.id}", wrap(template)) for template in templates]
