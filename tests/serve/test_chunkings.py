"""However an endpoint's bytes are cut, the same text is released, and nothing at or after the flag."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
import test_completions
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import DONE, LIMITS, TRIGGER, event, in_channel
from rig_responses import Speech

from marbury.guard import Judge, ScriptedScorer
from marbury.records import Message
from marbury.serve.protocols.chat.endpoint import CHAT
from marbury.serve.protocols.completions.endpoint import COMPLETIONS
from marbury.serve.protocols.protocol import Asked, Protocol
from marbury.serve.protocols.responses.endpoint import RESPONSES
from marbury.serve.sse import EventParser

Said = dict[str, str]
Channels = list[tuple[str, str]]
PIECES = st.sampled_from(["a ", "b", " c d", "forbid", "den", " forbidden ", "é ", "\n", "\U0001f319"])


def chat(said: Channels) -> bytes:
    return b"".join([*(event(in_channel(name, text)) for name, text in said), event({}, finish="stop"), DONE])


def completion(said: Channels) -> bytes:
    events = [test_completions.event(text) for _, text in said]
    return b"".join([*events, test_completions.event("", finish="stop"), DONE])


def responses(said: Channels) -> bytes:
    speech = Speech()
    for name, text in said:
        speech.item(name, text, pieces=[text[i : i + 3] for i in range(0, len(text), 3)])
    return b"".join(speech.end())


def heard_chat(data: dict[str, Any], heard: Said) -> None:
    for choice in data["choices"]:
        for name, text in choice["delta"].items():
            if name != "role":
                heard[name] = heard.get(name, "") + text


def heard_completion(data: dict[str, Any], heard: Said) -> None:
    for choice in data["choices"]:
        heard["text"] = heard.get("text", "") + choice["text"]


def heard_responses(data: dict[str, Any], heard: Said) -> None:
    if data["type"].endswith(".delta"):
        place = f"{data['output_index']}"
        heard[place] = heard.get(place, "") + data["delta"]


Hear = Callable[[dict[str, Any], Said], None]
CASES: dict[str, tuple[Protocol, Callable[[Channels], bytes], list[str], Hear]] = {
    "chat": (CHAT, chat, ["content", "reasoning_content", "refusal"], heard_chat),
    "completions": (COMPLETIONS, completion, ["text"], heard_completion),
    "responses": (
        RESPONSES,
        responses,
        ["output_text", "refusal", "summary_text", "arguments", "input"],
        heard_responses,
    ),
}


def through(protocol: Protocol, data: bytes, cuts: list[int], hear: Hear) -> tuple[Said, bool]:
    """What a client hears of these bytes when they arrive in these pieces, and whether it was stopped."""

    async def run() -> tuple[Said, bool]:
        judge, parser, heard = Judge(ScriptedScorer(TRIGGER), LIMITS), EventParser(1_000_000), Said()
        try:
            request = await judge.read([Message("user", "a tale")])
            gate = protocol.gate(request, Asked((), "m", True, False, 1, b"{}"), "id")
            places = sorted({cut % (len(data) + 1) for cut in cuts})
            for start, end in zip([0, *places], [*places, len(data)], strict=True):
                if gate.ended:
                    break
                for line in (await gate.feed(parser.feed(data[start:end]))).decode().splitlines():
                    if line.startswith("data: {"):
                        hear(json.loads(line[6:]), heard)
            assert gate.ended
            request.close()
            return {name: text for name, text in heard.items() if text}, gate.stopped
        finally:
            judge.close()

    return asyncio.run(run())


@pytest.mark.parametrize("case", CASES)
@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(0, 4000), max_size=40))
def test_any_cut_gives_the_same_text_and_nothing_at_or_after_the_flag(
    case: str, data: st.DataObject, cuts: list[int]
) -> None:
    protocol, speak, channels, hear = CASES[case]
    said = data.draw(st.lists(st.tuples(st.sampled_from(channels), st.lists(PIECES).map("".join)), max_size=5))
    body = speak(said)
    heard, stopped = through(protocol, body, cuts, hear)
    assert (heard, stopped) == through(protocol, body, [], hear)
    assert TRIGGER not in "".join(heard.values())
    full: Said = {}
    for i, (name, text) in enumerate(said):
        place = str(i) if case == "responses" else name
        full[place] = full.get(place, "") + text
    for place, text in heard.items():
        assert full[place].partition(TRIGGER)[0].startswith(text)
    flagged = any(TRIGGER in text for text in full.values())
    assert stopped == flagged
    if not flagged:
        assert heard == {name: text for name, text in full.items() if text}
