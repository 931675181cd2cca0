"""Messages of several blocks, divided into deltas and batches in every way, without sockets."""

import asyncio
import json
from typing import Any, cast

import messages_events as say
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import LIMITS, TRIGGER

from marbury.classifier.encoding import PieceCutter
from marbury.guard import Judge, ScriptedScorer
from marbury.records import Message
from marbury.serve.protocols.messages.endpoint import MESSAGES
from marbury.serve.protocols.messages.speech import Block, Channel
from marbury.serve.protocols.protocol import Asked
from marbury.serve.sse import EventParser

ASKED = Asked((), "m", True, True, 1, b"{}")
TEXTS = ["a ", "b", " c d", "forbid", "den", " forbidden ", "é ", "\n", "\U0001f319 x", "", "forb", "idden", "  "]
Pieces = list[tuple[str, str]]  # what each block is, and what it says
Said = list[tuple[str, str]]


@st.composite
def messages(draw: st.DrawFn) -> Pieces:
    """Blocks with texts; some hold the trigger, whole or divided between blocks."""
    text = st.lists(st.sampled_from(TEXTS), max_size=6).map("".join)
    return draw(st.lists(st.tuples(st.sampled_from(["text", "thinking", "tool"]), text), max_size=5))


def as_said(kind: str, text: str, *, ascii_only: bool) -> str:
    return json.dumps({"tale": text}, ensure_ascii=ascii_only) if kind == "tool" else text


def divided(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[i:j] for i, j in zip([0, *places], [*places, len(text)], strict=True)]


def stream_of(pieces: Pieces, cuts: list[int], *, ascii_only: bool) -> bytes:
    blocks = [
        say.block(kind, *divided(as_said(kind, text, ascii_only=ascii_only), cuts), index=i)
        for i, (kind, text) in enumerate(pieces)
    ]
    return b"".join(say.streamed(*blocks))


def whole_of(pieces: Pieces) -> bytes:
    content = []
    for i, (kind, text) in enumerate(pieces):
        content.append(say.content(kind, text) | ({"id": f"toolu_{i}"} if kind == "tool" else {}))
    return say.whole(*content)


def through_gate(batches: list[bytes], asked: Asked = ASKED, scorer: ScriptedScorer | None = None) -> bytes:
    """What leaves of bytes that arrive in these batches."""

    async def run() -> bytes:
        judge = Judge(scorer or ScriptedScorer(TRIGGER), LIMITS)
        try:
            request = await judge.read([Message("user", "a tale")])
            gate, parser, out = MESSAGES.gate(request, asked, "id"), EventParser(1 << 20), b""
            for batch in batches:
                if not gate.ended:
                    out += await gate.feed(parser.feed(batch))
            request.close()
            return out
        finally:
            judge.close()

    return asyncio.run(run())


def through_whole(body: bytes) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        judge = Judge(ScriptedScorer(TRIGGER), LIMITS)
        try:
            request = await judge.read([Message("user", "a tale")])
            reply: dict[str, Any] = json.loads(await MESSAGES.whole(request, ASKED, "id").judge(body))
            request.close()
            return reply
        finally:
            judge.close()

    return asyncio.run(run())


def heard(out: bytes) -> tuple[Said, str]:
    """The blocks that were said, and why the message ended; the events must be those of a well-formed message."""
    events = [json.loads(line.removeprefix("data: ")) for line in out.decode().split("\n") if line.startswith("data: ")]
    assert [events[0]["type"], events[-2]["type"], events[-1]["type"]] == (
        ["message_start", "message_delta", "message_stop"]
    )
    said: Said = []
    is_open = False
    for event in events[1:-2]:
        kind = event["type"].removeprefix("content_block_")
        assert is_open == (kind != "start")
        is_open = kind != "stop"
        if kind == "start":
            assert event["index"] == len(said)
            said.append((event["content_block"]["type"], ""))
        elif kind == "delta":
            (text,) = [value for key, value in event["delta"].items() if key != "type"]
            assert text
            said[event["index"]] = (said[event["index"]][0], said[event["index"]][1] + text)
    assert not is_open
    return said, events[-2]["delta"]["stop_reason"]


def flagged(pieces: Pieces) -> bool:
    """Whether a channel holds the trigger as a client reads it."""
    texts = ["".join(text for kind, text in pieces if kind == one) for one in ("text", "thinking")]
    return any(TRIGGER in text for text in [*texts, *(text for kind, text in pieces if kind == "tool")])


Cuts = st.lists(st.integers(0, 400), max_size=8)


@settings(max_examples=150)
@given(messages(), Cuts, Cuts, st.booleans())
def test_nothing_leaves_at_or_after_the_flag(pieces: Pieces, cuts: list[int], bytes_at: list[int], odd: bool) -> None:
    data = stream_of(pieces, cuts, ascii_only=odd)
    places = sorted({cut * 7 % (len(data) + 1) for cut in bytes_at})
    batches = [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]
    said, reason = heard(through_gate(batches))
    full = [("tool_use" if kind == "tool" else kind, as_said(kind, text, ascii_only=odd)) for kind, text in pieces]
    assert (reason == "refusal") == flagged(pieces)
    if reason != "refusal":
        assert said == full
    assert said == heard(through_gate([data]))[0]  # batches change nothing
    assert said == heard(through_gate([stream_of(pieces, [], ascii_only=odd)]))[0]  # nor does the size of deltas
    for (kind, text), (other, whole) in zip(said, full, strict=False):
        assert kind == other and whole.startswith(text)
    for said_in in ("text", "thinking"):
        assert TRIGGER not in "".join(text for kind, text in said if kind == said_in)


@settings(max_examples=100)
@given(messages())
def test_a_whole_message_gets_the_verdict_of_the_stream(pieces: Pieces) -> None:
    reply = through_whole(whole_of(pieces))
    assert reply["stop_reason"] == heard(through_gate([stream_of(pieces, [], ascii_only=True)]))[1]
    assert (reply["content"] == []) == (flagged(pieces) or not pieces)


@settings(max_examples=60)
@given(messages(), st.integers(0, 5))
def test_what_comes_after_a_flag_is_not_heard(pieces: Pieces, place: int) -> None:
    after = [(kind, "afterwards ") for kind in ("text", "thinking", "tool")]
    said, reason = heard(
        through_gate(
            [stream_of([*pieces[:place], ("thinking", "x forbidden y"), *after, *pieces[place:]], [], ascii_only=False)]
        )
    )
    assert reason == "refusal" and "afterwards" not in str(said)


def test_a_block_does_not_wait_for_the_end_of_the_message() -> None:
    for text in ("Let me look.", "Let me look: \n\n", " "):
        begun = [say.begin(), *say.block("text", text), *say.block("tool", '{"a": 1}', index=1)]
        out = through_gate(begun)
        assert out.count(b"content_block_stop") == 4  # two of them, each with its name and in its data
        told = [json.loads(line[6:]) for line in out.decode().split("\n") if line.startswith("data: ")]
        assert "".join(event["delta"].get("text", "") for event in told if "delta" in event) == text


@given(st.text(st.sampled_from("a. \n\t-日é\u2003"), min_size=1, max_size=60))
def test_a_border_completes_what_was_said_in_the_classifiers_eyes(text: str) -> None:
    channel = Channel("text", cast(Any, None))
    cutter = PieceCutter()
    pieces = [*cutter.push(channel.say(Block("text"), text)), *cutter.push(channel.border())]
    assert sum(map(len, pieces)) >= len(text)


def test_one_step_per_token_and_one_for_each_border() -> None:
    scorer = ScriptedScorer(TRIGGER)
    through_gate([stream_of([("text", "a b c"), ("text", " d e")], [], ascii_only=False)], scorer=scorer)
    assert scorer.steps == 5
