import asyncio
from pathlib import Path

import pytest

from marbury.chat.model import complete
from marbury.chat.scripted import Rule, Scripted, ScriptedReply
from marbury.errors import DataError, ModelError
from marbury.records import Message, Piece, Reply


def ask(text: str) -> list[Message]:
    return [Message("system", "You keep lamps."), Message("user", text)]


async def test_the_first_rule_that_fits_wins() -> None:
    model = Scripted([Rule("lamp", "About lamps."), Rule("la", "Singing.", "length"), Rule("", "Anything.")])
    assert await complete(model, ask("a lamp")) == Reply("About lamps.")
    assert await complete(model, ask("la la")) == Reply("Singing.", "length")
    assert await complete(model, ask("hello")) == Reply("Anything.")
    assert model.calls == 3
    assert model.asked[0] == tuple(ask("a lamp"))


async def test_the_last_user_message_counts() -> None:
    model = Scripted([Rule("lamp", "About lamps."), Rule("", "Anything.")])
    talk = [
        *ask("a lamp"),
        Message("assistant", "About lamps."),
        Message("user", "thanks"),
        Message("assistant", "lamp"),
    ]
    assert (await complete(model, talk)).text == "Anything."


async def test_pieces_have_the_size_asked_for_and_the_last_one_ends_the_reply() -> None:
    model = Scripted([Rule("", "abcdefg", "content_filter")], size=3)
    pieces = [piece async for piece in model.stream(ask("x"))]
    assert pieces == [Piece("abc"), Piece("def"), Piece("g"), Piece(finish="content_filter")]


async def test_no_rule_fits() -> None:
    with pytest.raises(ModelError, match="scripted has no rule for 'hello': add a rule"):
        await complete(Scripted([Rule("lamp", "x")]), ask("hello"))


@pytest.mark.parametrize(("text", "pieces"), [("abcdef", 3), ("abcdefg", 3), ("ab", 5), ("", 2)])
async def test_a_scripted_reply_is_always_the_same(text: str, pieces: int) -> None:
    model = ScriptedReply(text, pieces)
    for question in ("one", "two"):
        got = [piece async for piece in model.stream(ask(question))]
        assert "".join(piece.text for piece in got) == text
        assert len(got) - 1 == min(pieces, len(text))
        assert [piece.finish for piece in got] == [None] * (len(got) - 1) + ["stop"]
    assert model.calls == 2


async def test_pieces_come_after_the_delay() -> None:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await complete(ScriptedReply("abcd", 4, delay_s=0.01), ask("x"))
    assert loop.time() - start >= 0.035


async def test_rules_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "keeper.jsonl"
    path.write_text('{"match": "lamp", "reply": "Yes."}\n{"match": "", "reply": "No.", "finish": "length"}\n')
    model = Scripted.load(path)
    assert model.name == "scripted:keeper"
    assert await complete(model, ask("a lamp?")) == Reply("Yes.")
    assert await complete(model, ask("a star?")) == Reply("No.", "length")


def test_a_row_that_is_no_rule(tmp_path: Path) -> None:
    path = tmp_path / "keeper.jsonl"
    path.write_text('{"match": "lamp", "replie": "Yes."}\n')
    with pytest.raises(DataError, match=r"keeper\.jsonl:1: not a Rule row"):
        Scripted.load(path)
