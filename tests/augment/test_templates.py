"""Templates: every bundled one takes a request whole, and drops a reply that would not fit."""

from pathlib import Path
from random import Random

import pytest

from marbury.augment.editing import Pool
from marbury.augment.templates import QUERY, Template, as_transformations, bundled, insert, load, wrap
from marbury.errors import DataError
from marbury.records import Example, Message, to_jsonl

ALL = bundled("template") + bundled("wrapper")
REQUEST = 'Where is {the} "lamp", and \\1 why?'


def row_of(*messages: Message) -> Example:
    return Example(id="e", category="everyday", messages=messages, request_harmful=False, reply_harmful=False, pair="p")


ROW = row_of(Message("user", REQUEST), Message("assistant", "By the door."))


@pytest.mark.parametrize("template", ALL, ids=lambda template: template.id)
def test_the_request_goes_in_unchanged(template: Template) -> None:
    row = wrap(template)(ROW, Random(0), Pool())
    assert row is not None
    texts = [message.content for message in row.messages]
    assert sum(REQUEST in text for text in texts) == 1 and not any(QUERY in text for text in texts)
    assert row.request[-1].role == "user"
    assert row.reply == ("By the door." if template.plain else None)
    assert row.reply_harmful is (False if template.plain else None)


def test_most_templates_keep_the_reply() -> None:
    assert 0.5 < sum(template.plain for template in ALL) / len(ALL) < 0.95


@pytest.mark.parametrize("name", ["t-068", "t-081", "t-082", "t-085", "t-090", "t-074", "t-089", "w-012", "w-045"])
def test_replies_do_not_fit_what_asks_for_another_shape(name: str) -> None:
    assert not next(template for template in ALL if template.id == name).plain


def test_a_template_follows_the_earlier_turns() -> None:
    template = Template(id="x", family="f", turns=(Message("user", "Sing: {query}"),))
    before = (Message("user", "Hi"), Message("assistant", "Hello"))
    row = wrap(template)(row_of(*before, *ROW.messages), Random(0), Pool())
    assert row is not None and row.messages == (*before, Message("user", f"Sing: {REQUEST}"), ROW.messages[-1])


def test_a_system_turn_goes_first_or_not_at_all() -> None:
    template = Template(id="x", family="f", turns=(Message("system", "Be a lamp."), Message("user", QUERY)))
    before = (Message("user", "Hi"), Message("assistant", "Hello"))
    row = wrap(template)(row_of(*before, *ROW.messages), Random(0), Pool())
    assert row is not None and [message.role[0] for message in row.messages] == ["s", "u", "a", "u", "a"]
    assert wrap(template)(row_of(Message("system", "Be a tram."), *ROW.messages), Random(0), Pool()) is None


def test_names_say_kind_family_and_id() -> None:
    steps = as_transformations("template", bundled("template"))
    assert "template:persona/t-001" in {step.name for step in steps}
    assert {step.kind for step in steps} == {"template"}


def test_insert_takes_braces_in_templates_as_they_are() -> None:
    template = Template(id="x", family="f", turns=(Message("user", '{"ask": "{query}", "{n}": {{1}}}'),))
    assert insert(template, "why?")[0].content == '{"ask": "why?", "{n}": {{1}}}'


@pytest.mark.parametrize(
    ("turns", "complaint"),
    [
        ((Message("user", "no place"),), "exactly once"),
        ((Message("user", "{query} {query}"),), "exactly once"),
        ((Message("user", "{query}"), Message("assistant", "Yes")), "last turn"),
        ((), "exactly once"),
    ],
)
def test_bad_templates_are_named(tmp_path: Path, turns: tuple[Message, ...], complaint: str) -> None:
    path = tmp_path / "attacks.jsonl"
    path.write_bytes(to_jsonl([Template(id="x-7", family="f", turns=turns)]))
    with pytest.raises(DataError, match=f"x-7.*{complaint}"):
        load(path)
