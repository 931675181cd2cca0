"""People's own labelled rows as examples: what the labels speak of, categories, pairs, and nothing lost in silence."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given as over
from hypothesis import settings as tries
from hypothesis import strategies as st

from marbury.dataset.columns import Fields
from marbury.dataset.imports import guess, read_import
from marbury.dataset.mapping import Import
from marbury.errors import DataError, MarburyError, SettingsError
from marbury.records import Example, Message, to_jsonl

CATEGORIES = ("lamps", "everyday")
USER, MODEL = {"role": "user", "content": "Dim it?"}, {"role": "assistant", "content": "Yes."}


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def examples(given: Import) -> list[Example]:
    return read_import(given, CATEGORIES).examples


def labels(given: Import) -> list[tuple[bool, bool | None]]:
    return [(row.request_harmful, row.reply_harmful) for row in examples(given)]


def test_an_exchange_becomes_an_example(tmp_path: Path) -> None:
    row = {
        "prompt": "How do I steal it?",
        "response": "At night.",
        "label": "unsafe",
        "category": "lamps",
        "lang": "de",
    }
    found = examples(Import(jsonl(tmp_path / "desk.jsonl", [row]), source="helpdesk"))[0]
    assert found.messages == (Message("user", "How do I steal it?"), Message("assistant", "At night."))
    assert (found.request_harmful, found.reply_harmful, found.category, found.language) == (True, True, "lamps", "de")
    assert (found.id, found.source) == ("desk.jsonl:1", "helpdesk")


def test_a_prompt_alone_has_no_reply_and_one_label_serves_a_file_without_any(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "goals.jsonl", [{"goal": "Take it"}, {"goal": "Break it", "label": "x"}])
    assert labels(Import(path, assume="harmful")) == [(True, None), (True, None)]


def test_the_label_of_a_request_comes_from_its_column_or_from_the_reply(tmp_path: Path) -> None:
    refused = {"prompt": "How do I steal it?", "reply": "I won't say.", "label": 0, "prompt_label": "harmful"}
    unknown = {"prompt": "How do I take it?", "reply": "I won't say.", "label": 0, "prompt_label": None}
    path = jsonl(tmp_path / "rows.jsonl", [refused, unknown])
    assert labels(Import(path)) == [(True, False), (False, False)]
    assert labels(Import(path, refusals=True)) == [(True, False), (True, False)]


def test_a_row_without_a_reply_takes_the_label_of_the_request(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "response": None, "response_label": None, "prompt_label": "unsafe"},
        {"prompt": "b", "response": "x", "response_label": "safe", "prompt_label": "safe"},
    ]
    assert labels(Import(jsonl(tmp_path / "rows.jsonl", rows))) == [(True, None), (False, False)]


def test_where_nothing_labels_the_reply_rows_end_with_the_request(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"user_input": "a", "model_output": "b", "toxicity": 1}])
    found = examples(Import(path, fields=Fields(request_label="toxicity")))
    assert found[0].messages == (Message("user", "a"),) and labels(Import(path)) == [(True, True)]
    assert labels(Import(path, fields=Fields(request_label="toxicity"))) == [(True, None)]


def test_a_request_that_is_harmful_in_one_row_is_so_where_a_row_does_not_say(tmp_path: Path) -> None:
    same = [
        {"prompt": "Take it how?", "response": answer, "is_safe": safe} for answer, safe in (("No.", 1), ("So.", 0))
    ]
    path = jsonl(tmp_path / "rows.jsonl", [*same, {"prompt": "Dim it how?", "response": "So.", "is_safe": True}])
    assert labels(Import(path)) == [(True, False), (True, True), (False, False)]


def test_labels_are_mapped_for_replies_and_for_requests(tmp_path: Path) -> None:
    rows = [
        {"ask": "a", "reply": "b", "verdict": verdict, "wish": wish}
        for verdict, wish in (("x", "x"), ("y", "x"), ("y", "z"), ("later", "x"))
    ]
    given = Import(
        jsonl(tmp_path / "rows.jsonl", rows),
        fields=Fields(request="ask", label="verdict", request_label="wish"),
        labels={"x": "harmful", "y": "harmless", "later": "skip"},
        request_labels={"x": "harmless", "z": "harmful"},
    )
    assert labels(given) == [(False, True), (False, False), (True, False)]
    assert read_import(given, CATEGORIES).skipped == 1


def test_messages_may_carry_their_own_labels(tmp_path: Path) -> None:
    talk = [{**USER, "label": "safe"}, MODEL, {"role": "user", "content": "Steal it?", "label": "unsafe"}]
    rows = [
        {"messages": talk},
        {"messages": [*talk, {**MODEL, "label": "safe"}]},
        {"messages": [USER, {**MODEL, "label": 1}]},
    ]
    found = examples(Import(jsonl(tmp_path / "rows.jsonl", rows)))
    assert [(row.request_harmful, row.reply_harmful, row.turns) for row in found] == [
        (True, None, (False, True)),
        (True, False, (False, True)),
        (True, True, ()),
    ]


def test_categories_are_mapped_to_the_constitution(tmp_path: Path) -> None:
    theirs: list[Any] = [
        "S1",
        "lamps",
        "other",
        "none",
        "other, S1",
        ["other", "S1"],
        {"lamps": False, "S1": True},
        None,
    ]
    path = jsonl(tmp_path / "rows.jsonl", [{"prompt": f"q {kind}", "label": 1, "category": kind} for kind in theirs])
    found = examples(Import(path, categories={"S1": "lamps", "none": ""}))
    assert [row.category for row in found] == ["lamps", "lamps", "", "", "lamps", "lamps", "lamps", ""]
    with pytest.raises(SettingsError, match="'S1' is mapped to 'lamp', which the constitution does not have; near: la"):
        read_import(Import(path, categories={"S1": "lamp"}), CATEGORIES)


def test_one_request_is_one_pair_in_all_files_unless_a_column_says_more(tmp_path: Path) -> None:
    rows = [
        {"prompt": text, "label": 0, "case": case, "site": "s"}
        for text, case in (("Dim  IT?", 1), ("other", 1), ("dim it?", 2))
    ]
    plain = examples(Import(jsonl(tmp_path / "a.jsonl", rows)))
    assert plain[0].pair == plain[2].pair != plain[1].pair
    talk = examples(Import(jsonl(tmp_path / "b.jsonl", [{"messages": [USER], "label": 0}])))
    assert talk[0].pair == plain[0].pair
    named = examples(Import(str(tmp_path / "a.jsonl"), fields=Fields(pair="case", source="site")))
    assert [row.pair for row in named] == ["a:1", "a:1", "a:2"] and named[1].source == "s"


def test_bad_rows_stand_aside_with_place_and_reason(tmp_path: Path) -> None:
    good = {"prompt": "a", "label": 0}
    bad = ["not json", {"prompt": " ", "label": 0}, {"prompt": "b", "label": "maybe"}, {"other": 1}]
    path = jsonl(tmp_path / "rows.jsonl", [*[good] * 16, *bad, {"prompt": "c", "label": "later"}])
    found = read_import(Import(path, labels={"later": "skip"}), CATEGORIES, "mine")
    assert (len(found.examples), found.skipped) == (16, 1)
    assert [(one.where, one.reason.partition(":")[0]) for one in found.unused] == [
        ("mine:17", "not a JSON object"),
        ("mine:18", "the text of a user message is missing, empty, or no text"),
        ("mine:19", "label 'maybe' means neither harmful nor harmless"),
        ("mine:20", "the text of a user message is missing, empty, or no text"),
        ("mine:21", "label 'later' is left out by the settings"),
    ]


def test_a_file_of_which_too_much_is_bad_is_refused(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "label": 0}, *[{"prompt": "b", "label": "maybe"}] * 2])
    with pytest.raises(DataError, match=r"2 of 3 rows cannot be used \(2 as at rows.jsonl:2: label 'maybe'"):
        examples(Import(path))
    for text in ("", "no json\n"):
        (tmp_path / "empty.jsonl").write_text(text)
        with pytest.raises(DataError, match="none of its first 100 lines is a row"):
            guess(Import(str(tmp_path / "empty.jsonl")))


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["user", "safe"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "text", "label"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@over(st.lists(st.dictionaries(st.sampled_from(["prompt", "messages", "reply", "label", "category"]), values)))
@tries(max_examples=150, deadline=None)
def test_of_any_file_every_row_is_used_or_stands_aside(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    good = [{"prompt": f"q{number}", "label": number % 2} for number in range(5 * len(rows) + 1)]
    path = jsonl(tmp_path_factory.getbasetemp() / "any.jsonl", [*rows, *good])
    try:
        found = read_import(Import(path), CATEGORIES)
    except MarburyError:
        return
    assert len(found.examples) + len(found.unused) == len(rows) + len(good)
    to_jsonl(found.examples)
