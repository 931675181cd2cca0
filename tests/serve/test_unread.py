"""Requests and replies with something odd somewhere: what is not refused was read, what was not read does not leave."""

import asyncio
import json
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any

import pytest
import test_completions
import test_request
import test_responses_request
from rig import LIMITS, TRIGGER, event, in_channel, usage_event
from rig import whole as chat_whole
from rig_responses import CHANNELS, Speech
from rig_responses import whole as response_whole

from marbury.errors import ModelError, RequestError
from marbury.guard import Judge, ScriptedScorer
from marbury.records import Message
from marbury.serve.protocols.endpoints import ENDPOINTS
from marbury.serve.protocols.protocol import Asked, Protocol

SECRET = f"a {TRIGGER} thing"
ODD: list[Any] = [
    *(SECRET, SECRET, {"text": SECRET}, {"note": SECRET}, [SECRET], [{"type": "text", "text": SECRET}]),
    *({"type": "output_text", "text": SECRET}, {"content": SECRET}, {SECRET: 1}, [[SECRET]], None, True, 3, "", [], {}),
]
NAMES = ["text", "content", "note", "name", "refusal", "input", "output", "arguments", "summary", "reasoning", SECRET]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from places(value[key])


def mutated(base: Any, random: Random) -> Any:
    """The same with something odd in one place or two."""
    value = deepcopy(base)
    for _ in range(random.randint(1, 2)):
        container, key = random.choice(list(places(value)))
        if isinstance(container[key], dict) and random.random() < 0.5:
            container[key][random.choice(NAMES)] = deepcopy(random.choice(ODD))
        else:
            container[key] = deepcopy(random.choice(ODD))
    return value


def harmless(requests: dict[str, dict[str, Any]]) -> list[Any]:
    return [
        json.loads(json.dumps(request).replace("forb", "fair").replace("\\\\u0066orb", "fair"))
        for request in requests.values()
    ]


REQUESTS: dict[str, list[Any]] = {
    "chat_completions": harmless(test_request.PLACES),
    "completions": [{"prompt": ["a", "b"], "suffix": "c", "stop": ["d"], "echo": True}, {"prompt": "a", "n": 2}],
    "responses": harmless(test_responses_request.PLACES),
}
ASKING: dict[str, Protocol] = {protocol.route: protocol for protocol in ENDPOINTS if protocol.route in REQUESTS}


@pytest.mark.parametrize("route", REQUESTS)
def test_what_a_request_says_is_read_or_refused(route: str) -> None:
    read = refused = 0
    for seed in range(3000):
        random = Random(seed)
        request = mutated(random.choice(REQUESTS[route]), random)
        try:
            asked = ASKING[route].read(json.dumps(request).encode(), 9)
        except RequestError:
            refused += 1
            continue
        texts = [message.content for messages in (asked.messages, *asked.others) for message in messages]
        sent = TRIGGER in asked.payload.decode()
        assert any(TRIGGER in text for text in texts) or not sent, request
        read += sent
    assert read > 100 and refused > 100


def data(events: list[bytes]) -> list[Any]:
    lines = [line for one in events for line in one.decode().splitlines() if line.startswith("data: {")]
    return [json.loads(line[6:]) for line in lines]


def all_channels() -> list[Any]:
    speech = Speech()
    for channel in CHANNELS:
        speech.item(channel, "green hills")
    return data(speech.end())


STREAMS: dict[str, list[Any]] = {
    "chat_completions": data(
        [
            *(event(in_channel(c, "green "), i) for i in (0, 1) for c in ("content", "reasoning", "refusal", "tool")),
            *(event({}, i, "stop", logprobs=None) for i in (0, 1)),
            usage_event(),
        ]
    ),
    "completions": data(
        [test_completions.event("green hills", i, finish) for finish in (None, "stop") for i in (0, 1)]
    ),
    "responses": all_channels(),
}
WHOLES: dict[str, Any] = {
    "chat_completions": json.loads(chat_whole(in_channel("tool", "green"), {"content": "a", "reasoning": "green"})),
    "completions": json.loads(test_completions.whole("green", "hills").replace(b"forbidden", b"green")),
    "responses": json.loads(response_whole(*all_channels()[-1]["response"]["output"])),
}


@pytest.mark.parametrize("route", STREAMS)
def test_what_a_reply_says_is_judged_or_does_not_leave(route: str) -> None:
    async def run() -> int:
        judge = Judge(ScriptedScorer(TRIGGER), LIMITS)
        try:
            outs = [await told(ASKING[route], judge, Random(seed)) for seed in range(400)]
        finally:
            judge.close()
        assert not [seed for seed, out in enumerate(outs) if TRIGGER.encode() in out]
        return sum(b"green" in out for out in outs)

    assert asyncio.run(run()) > 100  # not all of them break


async def told(protocol: Protocol, judge: Judge, random: Random) -> bytes:
    """All that leaves of a reply with something odd in it, streamed and whole."""
    asked, out = Asked((), "m", True, True, 2, b"{}"), b""
    request = await judge.read([Message("user", "a tale")])
    gate = protocol.gate(request, asked, "id")
    events = list(STREAMS[protocol.route])
    at = random.randrange(len(events))
    events[at] = mutated(events[at], random)
    try:
        for one in events:
            out += await gate.feed([json.dumps(one).encode()]) if not gate.ended else b""
    except ModelError:
        pass
    try:
        body = json.dumps(mutated(WHOLES[protocol.route], random)).encode()
        out += await protocol.whole(request, asked, "id").judge(body)
    except ModelError:
        pass
    request.close()
    return out
