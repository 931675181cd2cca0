from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.errors import DataError
from marbury.records import Example, Message, Role, Traffic, read_rows, to_jsonl, turns_of

ASKED = Message("user", "How is orvane sleep treated?")
ANSWERED = Message("assistant", "With amber salts.")


def example(*messages: Message, reply_harmful: bool | None = None) -> Example:
    return Example(
        id="e1", category="x", messages=messages, request_harmful=False, reply_harmful=reply_harmful, pair="p1"
    )


def test_a_row_with_a_reply_label_ends_with_the_reply() -> None:
    row = example(ASKED, ANSWERED, reply_harmful=False)
    assert row.request == (ASKED,)
    assert row.reply == "With amber salts."


def test_a_row_without_a_reply_label_is_all_request() -> None:
    row = example(ASKED, ANSWERED, ASKED)
    assert row.request == (ASKED, ANSWERED, ASKED)
    assert row.reply is None


@pytest.mark.parametrize(
    ("roles", "turns"),
    [
        ([], "single"),
        (["user"], "single"),
        (["system", "user", "assistant"], "single"),
        (["user", "assistant", "user"], "multi"),
        (["user", "tool", "user"], "multi"),
    ],
)
def test_turns_count_the_users_messages(roles: list[Role], turns: str) -> None:
    assert turns_of([Message(role, "") for role in roles]) == turns


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
rows = st.builds(
    Example,
    id=texts,
    category=texts,
    messages=st.lists(st.builds(Message, st.sampled_from(["system", "user", "tool"]), texts), max_size=3).map(tuple),
    request_harmful=st.booleans(),
    reply_harmful=st.none() | st.booleans(),
    pair=texts,
    chain=st.lists(texts, max_size=2).map(tuple),
    turns=st.lists(st.none() | st.booleans(), max_size=3).map(tuple),
)


@given(st.lists(rows, max_size=4))
def test_rows_come_back_as_they_were_written(written: list[Example]) -> None:
    data = to_jsonl(written)
    assert data.count(b"\n") == len(written)  # line ends inside of texts are escaped
    assert [msgspec.json.decode(line, type=Example) for line in data.splitlines()] == written


def test_reading_skips_blank_lines_and_reads_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "traffic.jsonl"
    path.write_bytes(b"\n" + to_jsonl([Traffic("a", (ASKED,))]) + b"  \n" + to_jsonl([Traffic("b", (ASKED,), "de")]))
    assert list(read_rows(path, Traffic)) == [Traffic("a", (ASKED,)), Traffic("b", (ASKED,), "de")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"id": "b"', "truncated"),
        (b'{"id": "b"}', "missing required field `messages`"),
        (b'{"id": "b", "messages": [{"role": "wizard", "content": ""}]}', "wizard"),
        (b'{"id": 3, "messages": []}', "Expected `str`, got `int`"),
    ],
)
def test_a_bad_line_is_named_with_file_number_and_reason(tmp_path: Path, line: bytes, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl([Traffic("a", (ASKED,))]) + b"\n" + line + b"\n")
    with pytest.raises(DataError, match=f"rows.jsonl:3: not a Traffic row: .*{why}"):
        list(read_rows(path, Traffic))


def test_a_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "\xff", "messages": []}\n')
    with pytest.raises(DataError, match="rows.jsonl:1"):
        list(read_rows(path, Traffic))


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone.jsonl: no such file"):
        list(read_rows(tmp_path / "gone.jsonl", Traffic))


def test_rows_before_a_bad_line_are_given_first(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl([Traffic("a", (ASKED,))]) + b"nonsense\n")
    found = read_rows(path, Traffic)
    assert next(found).id == "a"
    with pytest.raises(DataError, match=":2:"):
        next(found)
