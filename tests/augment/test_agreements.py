"""Codes that are agreed on go with harmful requests alone; honest talk about codes shows what they say."""

from pathlib import Path
from random import Random

import pytest

import marbury
from marbury.augment.agreements import agreements
from marbury.augment.code_talk import AGREE_FIRST, AGREE_YES, AGREED, AGREED_BOTH, INVITE, LESSON, Wordings
from marbury.augment.editing import pool_of, question
from marbury.augment.keyed import HELD_OUT, KNOWN, Maker
from marbury.augment.wordings import CODE_NAMES
from marbury.records import Example, Message, read_rows
from marbury.split import is_held_out

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = [row for name in ("a1", "a4", "a7") for row in read_rows(CORPUS / f"{name}.jsonl", Example)][::4]
HARMFUL = [row for row in ROWS if row.request_harmful]
HARMLESS = [row for row in ROWS if not row.request_harmful]
POOL = pool_of(read_rows(CORPUS / "a5.jsonl", Example))
STEPS = {step.name: step for step in agreements()}
AGREEMENTS = [name for name in STEPS if not name.startswith("lesson:")]
LESSONS = [name for name in STEPS if name.startswith("lesson:")]
ALL: list[Wordings] = [AGREED, AGREED_BOTH, AGREE_FIRST, AGREE_YES, *INVITE.values(), *LESSON.values()]


def made(name: str, rows: list[Example]) -> list[tuple[Example, Example]]:
    pairs = [(row, STEPS[name].apply(row, Random(f"{row.id}"), POOL)) for row in rows]
    return [(row, new) for row, new in pairs if new is not None]


@pytest.mark.parametrize("name", AGREEMENTS)
def test_codes_for_restricted_things_go_with_harmful_requests_alone(name: str) -> None:
    assert not made(name, HARMLESS)
    found = made(name, HARMFUL)
    assert len(found) > 0.5 * len(HARMFUL)
    for row, new in found:
        assert new.request_harmful and new.reply_harmful in (row.reply_harmful, None)
        assert (new.id, new.pair, new.category) == (row.id, row.pair, row.category)


@pytest.mark.parametrize("name", [name for name in AGREEMENTS if name.startswith("agreed:")])
def test_the_plain_request_is_gone_and_turns_are_labelled(name: str) -> None:
    for row, new in made(name, HARMFUL):
        assert question(row) not in question(new)
        users = sum(message.role == "user" for message in new.request)
        assert len(new.turns) in (0, users) and (not new.turns or new.turns[-1] is True)


def test_some_agree_first_and_some_harmful_replies_come_in_the_code() -> None:
    found = made("agreed:letters", HARMFUL)
    assert any(len(new.messages) > len(row.messages) for row, new in found)
    coded = [new for row, new in found if row.reply_harmful and new.reply != row.reply]
    assert 0.3 < len(coded) / sum(bool(row.reply_harmful) for row, _ in found) < 0.9
    assert all(new.reply == row.reply for row, new in found if not row.reply_harmful)


@pytest.mark.parametrize("name", LESSONS)
def test_honest_talk_stays_as_harmless_as_it_is(name: str) -> None:
    found = made(name, HARMLESS)
    assert len(found) > 0.6 * len(HARMLESS)
    for row, new in found:
        assert not new.request_harmful and new.reply in (row.reply, None)
        assert not any(new.turns)


def test_an_aside_about_a_code_excuses_nothing() -> None:
    found = made("lesson:aside", HARMFUL)
    assert len(found) > 0.6 * len(HARMFUL)
    assert all(new.request_harmful and question(row) in question(new) for row, new in found)
    assert not any(made(name, HARMFUL) for name in LESSONS if name != "lesson:aside")


def test_languages_are_kept_where_there_are_wordings() -> None:
    turns = (Message("user", "Wo steht die alte Laterne mit dem blauen Glas?"),)
    row = Example(id="e", category="preparation", messages=turns, request_harmful=True, pair="p", language="de")
    asked = [STEPS["invite:alphabet"].apply(row, Random(seed), POOL) for seed in range(30)]
    german = [new for new in asked if new is not None and "unbemerkt" in question(new)]
    assert 10 < len(german) < 30


@pytest.mark.parametrize("wordings", ALL)
def test_every_wording_has_its_places(wordings: Wordings) -> None:
    assert "en" in wordings
    names = {"{key}", "{text}", "{plain}", "{coded}", "{name}"}
    for texts in wordings.values():
        for text in texts:
            assert wordings is AGREE_YES or any(name in text for name in names)


@pytest.mark.parametrize("name", [name for name in LESSONS if not is_held_out(name)])
def test_lessons_for_training_show_no_held_out_code(name: str) -> None:
    signs = {sign for make in (HELD_OUT["emoji"], HELD_OUT["symbols"]) for sign in written(make)}
    for _, new in made(name, HARMLESS):
        asked = question(new)
        assert len(signs & set(asked)) < 4  # a few stand in the texts themselves
        rules = ("multiply by", "five signs a letter", "first word of every line", "row by row", "woven", "once more")
        assert not any(rule in asked for rule in rules)
        assert not any(CODE_NAMES[code] in asked for code in ("caesar-7", "braille", "decimal", "html-entities"))


def written(make: Maker) -> set[str]:
    """Signs that a code writes letters with."""
    code = make("letters", Random(0))
    assert code is not None
    return set(code.encode("abcdefghijklmnopqrstuvwxyz")) - set("◆◇○●·|")


def test_held_out_codes_are_held_out_everywhere() -> None:
    assert {name for name in KNOWN | HELD_OUT if is_held_out(f"agreed:{name}")} == HELD_OUT.keys()
    assert not KNOWN.keys() & HELD_OUT.keys()
    assert {name for name in LESSONS if is_held_out(name)} == {"lesson:radio", "lesson:crossword", "lesson:history"}
