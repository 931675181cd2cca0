import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from marbury.chat.scripted import Rule, Scripted, ScriptedReply
from marbury.errors import ModelError, WorkspaceError
from marbury.records import Message, Piece, Reply
from marbury.synth.ask import Asker, json_part


class Lamp(msgspec.Struct):
    oil: str
    wicks: int


def ask(text: str) -> list[Message]:
    return [Message("user", text)]


async def test_an_answer_is_remembered_by_its_request(tmp_path: Path) -> None:
    model = ScriptedReply("Oil.")
    asker = Asker(model, tmp_path)
    assert await asker.reply(ask("one")) == await asker.reply(ask("one")) == Reply("Oil.")
    assert (model.calls, asker.asked, asker.remembered) == (1, 1, 1)
    await asker.reply(ask("two"))
    await asker.reply([Message("system", "one"), *ask("one")])
    assert model.calls == 3


async def test_another_process_remembers_too_and_another_salt_does_not(tmp_path: Path) -> None:
    await Asker(ScriptedReply("Oil."), tmp_path, salt="0.5").reply(ask("one"))
    model = ScriptedReply("Tallow.")
    assert await Asker(model, tmp_path, salt="0.5").reply(ask("one")) == Reply("Oil.")
    assert await Asker(model, tmp_path, salt="0.7").reply(ask("one")) == Reply("Tallow.")


async def test_a_damaged_answer_says_which_file(tmp_path: Path) -> None:
    asker = Asker(ScriptedReply("Oil."), tmp_path)
    await asker.reply(ask("one"))
    (path,) = tmp_path.rglob("*.json")
    path.write_text("{")
    with pytest.raises(WorkspaceError, match=f"{path.name}: a damaged answer .*: delete this file"):
        await asker.reply(ask("one"))


class Failing:
    """Breaks off the first replies half-way."""

    name = "failing"

    def __init__(self, failures: int) -> None:
        self.calls = 0
        self.failures = failures

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        self.calls += 1
        yield Piece("Oil.")
        if self.calls <= self.failures:
            raise ModelError("broke off")
        yield Piece(finish="stop")


async def test_a_reply_that_breaks_off_is_asked_for_once_more(tmp_path: Path) -> None:
    model = Failing(1)
    assert await Asker(model, tmp_path).reply(ask("one")) == Reply("Oil.")
    assert model.calls == 2


async def test_a_model_that_keeps_failing_is_an_error_and_leaves_no_answer(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="broke off"):
        await Asker(Failing(2), tmp_path).reply(ask("one"))
    assert list(tmp_path.rglob("*")) == []


class Counting:
    """Counts how many replies are open at a time."""

    name = "counting"

    def __init__(self) -> None:
        self.open = self.most = 0

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0.005)
        self.open -= 1
        yield Piece("Oil.", "stop")


async def test_no_more_requests_are_open_than_allowed(tmp_path: Path) -> None:
    model = Counting()
    asker = Asker(model, tmp_path, concurrency=3)
    await asyncio.gather(*(asker.reply(ask(str(number))) for number in range(12)))
    assert model.most == 3


@pytest.mark.parametrize(
    "text",
    ['{"oil": "rape", "wicks": 2}', 'Here it is:\n```json\n{"oil": "rape", "wicks": 2}\n```\nEnjoy!'],
)
async def test_a_value_is_read_out_of_what_stands_around_it(tmp_path: Path, text: str) -> None:
    assert await Asker(ScriptedReply(text), tmp_path).value(ask("one"), Lamp) == Lamp("rape", 2)


async def test_a_value_that_cannot_be_read_gets_one_repair(tmp_path: Path) -> None:
    model = Scripted([Rule("cannot be read", '{"oil": "rape", "wicks": 2}'), Rule("", '{"oil": "rape"}')])
    assert await Asker(model, tmp_path).value(ask("one"), Lamp) == Lamp("rape", 2)
    question, answer, repair = model.asked[1]
    assert (question, answer) == (Message("user", "one"), Message("assistant", '{"oil": "rape"}'))
    assert "missing required field `wicks`" in repair.content


async def test_a_value_that_stays_unreadable_is_a_reason(tmp_path: Path) -> None:
    model = ScriptedReply("No lamps today.")
    reason = await Asker(model, tmp_path).value(ask("one"), Lamp)
    assert isinstance(reason, str)
    assert reason.startswith("not the JSON that was asked for: ")
    assert model.calls == 2


async def test_a_filtered_value_is_a_reason(tmp_path: Path) -> None:
    model = ScriptedReply("", finish="content_filter")
    assert await Asker(model, tmp_path).value(ask("one"), Lamp) == "the endpoint's filter stopped the answer"


@pytest.mark.parametrize(("text", "part"), [("x {} y", "{}"), ("} {", "} {"), ("none", "none"), ("{a{b}c}", "{a{b}c}")])
def test_json_part(text: str, part: str) -> None:
    assert json_part(text) == part
