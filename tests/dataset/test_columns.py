"""Which column is what: the shapes of public data sets, named columns, and errors that list what is there."""

from typing import Any

import pytest

from marbury.dataset.columns import Fields, columns_of
from marbury.errors import SettingsError

TALK = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"prompt": "a", "label": 0}, {"request": "prompt", "label": "label"}),
        ({"text": "a", "toxic": 1, "id": 3}, {"request": "text", "label": "toxic"}),
        (
            {"Question": "a", "Answer": "b", "unsafe": True},
            {"request": "Question", "reply": "Answer", "label": "unsafe"},
        ),
        (
            {"prompt": "a", "response": "b", "category": {"x": True}, "is_safe": True},
            {"request": "prompt", "reply": "response", "label": "is_safe", "category": "category"},
        ),
        (
            {"prompt": "a", "response": "b", "prompt_harm_label": "harmful", "response_harm_label": "unharmful"},
            {
                "request": "prompt",
                "reply": "response",
                "label": "response_harm_label",
                "request_label": "prompt_harm_label",
            },
        ),
        (
            {"instruction": "a", "input": "b", "output": "c", "label": 1},
            {"request": "instruction+input", "reply": "output", "label": "label"},
        ),
        ({"conversations": TALK, "is_harmful": 0, "text": "x"}, {"messages": "conversations", "label": "is_harmful"}),
        ({"messages": [{**TALK[0], "label": "safe"}]}, {"messages": "messages", "label": "label"}),
        # A column is what its name says only if that can stand in it.
        ({"conversation": "c-17", "turns": 3, "prompt": "a", "label": 0}, {"request": "prompt", "label": "label"}),
        ({"prompt": None, "text": "a", "label": ["x"], "toxicity": 0.1}, {"request": "text", "label": "toxicity"}),
    ],
)
def test_usual_shapes_are_found(row: dict[str, Any], wanted: dict[str, str]) -> None:
    assert columns_of(Fields(), [row], "x.jsonl") == wanted


def test_a_column_that_only_later_rows_have_is_found() -> None:
    head = [{"prompt": "a", "label": 0}, {"prompt": "a", "response": "b", "label": 0}]
    assert columns_of(Fields(), head, "x.jsonl")["reply"] == "response"


def test_named_columns_go_before_guessed_ones_and_can_be_denied() -> None:
    row = {"user_input": "a", "model_output": "b", "toxicity": 1, "title": "t", "lang": "python", "site": "s"}
    named = Fields(request="title+user_input", request_label="toxicity", language="-", source="site")
    assert columns_of(named, [row], "x.csv") == {
        "request": "title+user_input",
        "reply": "model_output",
        "request_label": "toxicity",
        "source": "site",
    }


@pytest.mark.parametrize(
    ("named", "wanted"),
    [
        (Fields(), {"messages": "messages", "label": "label"}),
        (Fields(request="ask"), {"request": "ask", "reply": "reply", "label": "label"}),
        (Fields(messages="-"), {"request": "prompt", "reply": "reply", "label": "label"}),
        (Fields(messages="-", reply="-"), {"request": "prompt", "label": "label"}),
    ],
)
def test_a_file_with_both_shapes_is_read_in_the_one_that_is_named(named: Fields, wanted: dict[str, str]) -> None:
    row = {"messages": TALK, "prompt": "a", "ask": "b", "reply": "c", "label": 0}
    assert columns_of(named, [row], "x.jsonl") == wanted


@pytest.mark.parametrize(
    ("row", "named", "message"),
    [
        ({"a": 1}, Fields(), "x.csv: no column looks like a request or a conversation; there are 'a': name one under"),
        ({"prompt": "a"}, Fields(), "x.csv: no column looks like a label; there are 'prompt': name one .* assume = "),
        (
            {"prompt": "a", "label": 0},
            Fields(request="ask"),
            "no column 'ask' for request; there are 'prompt', 'label'",
        ),
        ({"prompt": "a", "label": 0}, Fields(request="prompt+more"), "no column 'more' for request"),
        ({"messages": TALK}, Fields(label="flag"), "no column 'flag' for label"),
    ],
)
def test_what_is_missing_is_said_with_what_is_there(row: dict[str, Any], named: Fields, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        columns_of(named, [row], "x.csv")


def test_no_label_is_needed_where_all_rows_have_one() -> None:
    assert columns_of(Fields(), [{"goal": "a"}], "x.csv", labelled=False) == {"request": "goal"}
