"""Conversations of rows, in the usual shapes."""

from typing import Any

import pytest

from marbury.dataset.talk import talk_of, without_reply
from marbury.records import Message

HELLO = (Message("user", "Hi"), Message("assistant", "Hello"))


@pytest.mark.parametrize(
    "talk",
    [
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}],
        [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}],
        [{"role": "User", "content": [{"type": "text", "text": "Hi"}]}, {"role": "bot", "text": "Hello"}],
        '[{"role": "user", "content": "Hi"}, {"role": "model", "content": "Hello"}]',
    ],
)
def test_lists_of_messages_come_in_many_shapes(talk: Any) -> None:
    assert talk_of({"messages": "m"}, {"m": talk}) == HELLO


def test_columns_of_text_make_a_conversation() -> None:
    columns = {"request": "ask+more", "reply": "answer", "system": "system"}
    row = {"ask": "Dim it?", "more": "The red one.", "answer": "Yes", "system": "Be kind."}
    assert talk_of(columns, row) == (
        Message("system", "Be kind."),
        Message("user", "Dim it?\n\nThe red one."),
        Message("assistant", "Yes"),
    )
    assert talk_of(columns, {"ask": "Dim it?", "more": "", "answer": None}) == (Message("user", "Dim it?"),)


@pytest.mark.parametrize(
    ("talk", "reason"),
    [
        (None, "column 'm' is not a list of messages"),
        ("no json", "column 'm' is not a list of messages"),
        ([], "column 'm' is not a list of messages"),
        (["Hi"], "column 'm' is not a list of messages"),
        ([{"role": "narrator", "content": "Hi"}], "the unknown role 'narrator'"),
        ([{"role": "user", "content": None}], "the text of a user message is missing"),
        ([{"role": "user", "content": [{"type": "image"}]}], "the text of a user message is missing"),
        ([{"role": "user", "content": "\ud800"}], "no valid Unicode"),
        ([{"role": "assistant", "content": "Hi"}], "no user turn"),
        ([{"role": "user", "content": "Hi"}, {"role": "tool", "content": "x"}], "ends with neither"),
    ],
)
def test_what_is_no_conversation_says_why(talk: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        talk_of({"messages": "m"}, {"m": talk})


def test_a_request_is_what_comes_before_the_last_answer() -> None:
    assert without_reply((*HELLO, Message("user", "Bye"), Message("assistant", "Bye"))) == (
        *HELLO,
        Message("user", "Bye"),
    )
