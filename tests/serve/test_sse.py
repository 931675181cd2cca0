import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.errors import ModelError
from marbury.serve.sse import EventParser

datas = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12)
ends = st.sampled_from(["\n", "\r\n", "\r"])


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream with comments, other fields and every kind of line end, and the data of its events."""
    text, events = "", []
    for _ in range(draw(st.integers(0, 4))):
        end = draw(ends)
        lines = draw(st.lists(datas, min_size=1, max_size=3))
        for line in lines:
            text += draw(st.sampled_from(["", f": comment{end}", f"event: x{end}", f"id: 7{end}"]))
            text += (
                f"data:{draw(st.just(' ')) if line.startswith(' ') else draw(st.sampled_from(['', ' ']))}{line}{end}"
            )
        text += end
        events.append("\n".join(lines).encode())
    return text.encode(), events


@given(streams(), st.integers(1, 9))
def test_any_cut_gives_the_same_events(stream: tuple[bytes, list[bytes]], size: int) -> None:
    data, events = stream
    parser = EventParser(10_000)
    found = [event for i in range(0, len(data), size) for event in parser.feed(data[i : i + size])]
    assert found + parser.close() == events


def test_an_event_comes_with_its_blank_line() -> None:
    parser = EventParser(100)
    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\ndata: b\r") == [b"a"]
    assert parser.feed(b"\n\r\nda") == [b"b"]
    assert parser.feed(b"ta: c") == []
    assert parser.close() == [b"c"]


def test_characters_may_be_cut() -> None:
    parser = EventParser(100)
    data = "data: \U0001f319é\n\n".encode()
    assert [event for i in range(len(data)) for event in parser.feed(data[i : i + 1])] == ["\U0001f319é".encode()]


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: xxxxxxxx\n" * 20, b": " + b"x" * 200])
def test_an_endless_event_is_refused(data: bytes) -> None:
    parser = EventParser(100)
    with pytest.raises(ModelError, match="more than 100 bytes"):
        for i in range(0, len(data), 30):
            parser.feed(data[i : i + 30])
