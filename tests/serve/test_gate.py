"""Streams of several choices and channels, cut into batches in every way, without sockets."""

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rig import DONE, LIMITS, TRIGGER, event, in_channel

from marbury.guard import Judge, ScriptedScorer
from marbury.records import Message
from marbury.serve.protocols.chat.gate import ReplyGate
from marbury.serve.protocols.protocol import Asked

CHANNELS = ["content", "reasoning_content", "refusal", "tool"]
Said = dict[tuple[int, str], str]


@st.composite
def dialogues(draw: st.DrawFn) -> list[tuple[int, str, str]]:
    """Pieces of text of two choices in some channels; some hold the trigger, whole or in parts."""
    text = st.sampled_from(["a ", "b", " c d", "forbid", "den", " forbidden ", "é ", "\n", ""])
    return draw(st.lists(st.tuples(st.integers(0, 1), st.sampled_from(CHANNELS), text), max_size=14))


def events_of(pieces: list[tuple[int, str, str]]) -> list[bytes]:
    heard: set[tuple[int, str]] = set()
    events = [event({"role": "assistant", "content": ""}, choice) for choice in (0, 1)]
    for choice, channel, text in pieces:
        events.append(event(in_channel(channel, text, first=(choice, channel) not in heard), choice))
        heard.add((choice, channel))
    return [*events, event({}, 0, "stop"), event({}, 1, "length"), DONE]


def through_gate(batches: list[list[bytes]], scorer: ScriptedScorer) -> list[bytes]:
    """What leaves, batch by batch."""

    async def run() -> list[bytes]:
        judge = Judge(scorer, LIMITS)
        try:
            request = await judge.read([Message("user", "a tale")])
            asked = Asked((), "m", True, False, 2, b"")
            gate = ReplyGate(request, asked, "id")
            payloads = [[one.removeprefix(b"data: ").strip() for one in batch] for batch in batches]
            out = [await gate.feed(batch) for batch in payloads if not gate.ended]
            assert gate.ended
            request.close()
            return out
        finally:
            judge.close()

    return asyncio.run(run())


def heard(out: list[bytes]) -> tuple[Said, dict[int, str]]:
    """Texts by choice and channel, and finish reasons; nothing may follow a finish."""
    said: Said = {}
    finish: dict[int, str] = {}
    events = b"".join(out).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    for line in events[:-2]:
        for choice in json.loads(line.removeprefix("data: "))["choices"]:
            index = choice["index"]
            assert index not in finish
            for channel, text in texts_of(choice["delta"]):
                said[index, channel] = said.get((index, channel), "") + text
            if choice["finish_reason"]:
                finish[index] = choice["finish_reason"]
    return said, finish


def texts_of(delta: dict[str, Any]) -> list[tuple[str, str]]:
    calls = [("tool", call["function"].get("arguments", "")) for call in delta.get("tool_calls", [])]
    return calls + [(key, delta[key]) for key in CHANNELS if key in delta]


def full_texts(pieces: list[tuple[int, str, str]]) -> Said:
    full: Said = {}
    for choice, channel, text in pieces:
        full[choice, channel] = full.get((choice, channel), "") + text
    return full


def in_batches(events: list[bytes], cuts: list[int]) -> list[list[bytes]]:
    places = sorted({cut % (len(events) + 1) for cut in cuts})
    return [events[i:j] for i, j in zip([0, *places], [*places, len(events)], strict=True)]


@settings(max_examples=150, deadline=None)
@given(dialogues(), st.lists(st.integers(0, 40), max_size=8))
def test_no_choice_says_anything_at_or_after_its_flag(pieces: list[tuple[int, str, str]], cuts: list[int]) -> None:
    scorer = ScriptedScorer(TRIGGER)
    said, finish = heard(through_gate(in_batches(events_of(pieces), cuts), scorer))
    full = full_texts(pieces)
    for choice, reason in ((0, "stop"), (1, "length")):
        mine = {channel: text for (index, channel), text in full.items() if index == choice}
        flagged = any(TRIGGER in text for text in mine.values())
        assert finish[choice] == ("content_filter" if flagged else reason)
        for channel, text in mine.items():
            released = said.get((choice, channel), "")
            assert text.startswith(released)
            assert TRIGGER not in released
            assert flagged or released == text


@settings(max_examples=60, deadline=None)
@given(dialogues(), st.lists(st.integers(0, 40), max_size=8))
def test_batches_do_not_change_what_is_heard(pieces: list[tuple[int, str, str]], cuts: list[int]) -> None:
    events = events_of(pieces)
    singly, together = ScriptedScorer(TRIGGER), ScriptedScorer(TRIGGER)
    one_by_one = heard(through_gate([[one] for one in events], singly))
    assert one_by_one == heard(through_gate(in_batches(events, cuts), together))


@settings(max_examples=60, deadline=None)
@given(dialogues(), st.integers(0, 16))
def test_what_comes_after_a_flag_in_another_channel_is_not_heard(
    pieces: list[tuple[int, str, str]], place: int
) -> None:
    flag, after = (0, "refusal", "x forbidden x "), [(0, channel, " afterwards ") for channel in CHANNELS]
    pieces = [*pieces[:place], flag, *after, *pieces[place:]]
    for batches in ([events_of(pieces)], [[one] for one in events_of(pieces)]):
        said, finish = heard(through_gate(batches, ScriptedScorer(TRIGGER)))
        assert finish[0] == "content_filter"
        assert not [key for key, text in said.items() if key[0] == 0 and "afterwards" in text]


def test_nothing_is_heard_or_scored_after_a_finish() -> None:
    scorer = ScriptedScorer(TRIGGER)
    events = [event({"content": "a b"}, 0), event({}, 0, "stop"), event({"content": " c", "refusal": "d"}, 0)]
    events += [event({"content": "e"}, 1), event({}, 1, "stop"), event({}, 0, "length"), DONE]
    for batches in ([events], [[one] for one in events]):
        said, finish = heard(through_gate(batches, scorer))
        assert said == {(0, "content"): "a b", (1, "content"): "e"} and finish == {0: "stop", 1: "stop"}
    assert scorer.steps == 2 * 3
