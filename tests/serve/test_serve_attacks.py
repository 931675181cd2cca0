"""A running proxy under attack, over chat completions and messages alike: by clients, by upstreams and by bad luck.

What is asked every time: not one character at or after the flag, on no channel; an upstream that is closed; nothing
that stays open; and an end that a client can tell from a good one.
"""

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import aiohttp
import messages_events as say
import pytest
import rig
from rig import TRIGGER, Proxy, eventually, http, proxy
from test_streams import flat

from marbury.guard import ScriptedScorer
from marbury.records import Message
from marbury.scoring import Score

SAFE = "Zwölf Öfen \U0001f319 once upon\n\na time the hills were green and"
AFTER = "afterwards \U0001f525 the tale went on all night long "
STORY = f"{SAFE} forbidden {AFTER}"
JSON = "application/json"


class Endpoint(NamedTuple):
    """How an endpoint's upstream speaks, and how its clients read."""

    path: str
    channels: Sequence[str]
    tale: Callable[[str, str], list[bytes]]  # a text in a channel, as a whole stream
    whole: Callable[[str, str], bytes]
    begun: Callable[[str], list[bytes]]  # a stream that says a text and is not ended
    more: Callable[[str], bytes]
    end: list[bytes]
    texts: Callable[[bytes], dict[str, str]]  # what a client reads, by channel
    stopped: bytes
    ended: bytes

    def ask(self, messages: Any = rig.ASK, **more: Any) -> dict[str, Any]:
        return {"model": "m", "max_tokens": 9, "stream": True, "messages": messages} | more


def chat_texts(body: bytes) -> dict[str, str]:
    said: dict[str, str] = {}
    for chunk in events_of(body):
        for choice in chunk.get("choices", []):
            for name, value in choice["delta"].items():
                for channel, text in flat(name, value) if name != "role" else ():
                    key = f"{choice['index']} {channel}"
                    said[key] = said.get(key, "") + text
    return said


def message_texts(body: bytes) -> dict[str, str]:
    said: dict[str, str] = {}
    kinds: dict[int, str] = {}
    for event in events_of(body):
        if event["type"] == "content_block_start":
            block = event["content_block"]
            kinds[event["index"]] = block["type"] + (str(event["index"]) if block["type"] == "tool_use" else "")
            said[f"name{event['index']}"] = block.get("name", "")
        elif event["type"] == "content_block_delta":
            kind = kinds[event["index"]]
            (text,) = [value for key, value in event["delta"].items() if key != "type"]
            said[kind] = said.get(kind, "") + text
    return said


def events_of(body: bytes) -> Iterator[dict[str, Any]]:
    for line in body.decode().split("\n"):
        if line.startswith("data: {") and '"error"' not in line:
            yield json.loads(line.removeprefix("data: "))


CHAT = Endpoint(
    "/v1/chat/completions",
    rig.CHANNELS,
    lambda text, channel: rig.tale(text, channel),
    lambda text, channel: rig.whole(rig.in_channel(channel, text)),
    lambda text: [rig.event({"role": "assistant", "content": ""}), rig.event({"content": text})],
    lambda text: rig.event({"content": text}),
    [rig.event({}, finish="stop"), rig.DONE],
    chat_texts,
    b'"content_filter"',
    rig.DONE,
)
MESSAGES = Endpoint(
    "/v1/messages",
    say.CHANNELS,
    lambda text, channel: say.tale(text, channel),
    lambda text, channel: say.whole(say.content(channel, text)),
    lambda text: [say.begin(), *say.block("text", text)[:-1]],
    lambda text: say.delta("text", text),
    [say.stop(), *say.end()],
    message_texts,
    b'"refusal"',
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)
BOTH = [CHAT, MESSAGES]
both = pytest.mark.parametrize("endpoint", BOTH, ids=["chat", "messages"])


@contextlib.contextmanager
def scripted(pieces: list[bytes], **how: Any) -> Iterator[Proxy]:
    """A proxy after which nothing may be left open."""
    with proxy(pieces, **how) as running:
        yield running
        eventually(lambda: running.scorer.open == 0)
        eventually(lambda: "marbury_streams_active 0.0" in running.service.metrics.text().decode())


async def hear(running: Proxy, endpoint: Endpoint, **more: Any) -> bytes:
    status, _, body = await http("POST", running.url + endpoint.path, json=endpoint.ask(**more))
    assert status == 200
    return body


def cut(data: bytes, seed: int, most: int) -> list[bytes]:
    """Bytes in random parts, which begin and end inside of lines and characters."""
    dice, parts = random.Random(seed), []
    while data:
        size = dice.randint(1, most)
        parts.append(data[:size])
        data = data[size:]
    return parts


def is_said(channel: str) -> bool:
    return "name" not in channel and not channel.endswith(" id")


def unharmed(body: bytes) -> bool:
    """Whether nothing of the flag or of what came after it is there, as bytes and as a client reads it."""
    read = body.decode() + "".join(str(event) for event in events_of(body))
    return not any(bad in read for bad in (TRIGGER, "bidden", "after", "\U0001f525", "d83d", "night"))


# Chunks and channels


@both
@pytest.mark.parametrize("seed", range(6))
async def test_no_cut_lets_a_character_through(endpoint: Endpoint, seed: int) -> None:
    with scripted([]) as running:
        for number, channel in enumerate(endpoint.channels):
            if channel == "tool name":
                continue  # comes in one piece, and is judged in one: see tests/serve/test_channels.py
            pieces = endpoint.tale(STORY, channel)
            running.upstream.pieces = cut(b"".join(pieces), seed * 100 + number, (1, 2, 5, 30, 300, 3000)[seed])
            body = await hear(running, endpoint)
            said = "".join(text for name, text in endpoint.texts(body).items() if is_said(name))
            decoded = json.loads(said + '"}')["tale"] if said.startswith('{"tale') else said
            assert unharmed(body) and decoded == SAFE, channel
            assert endpoint.stopped in body and body.endswith(endpoint.ended)


@both
@pytest.mark.parametrize("channel", range(4))
async def test_single_bytes_that_come_apart_are_read_like_one_write(endpoint: Endpoint, channel: int) -> None:
    name = endpoint.channels[channel]
    text = "é forbidden \U0001f525" if name != "tool name" else "forbidden"
    data = b"".join(endpoint.tale(text, name))
    with scripted([data[:60], *(data[i : i + 1] for i in range(60, 90)), data[90:]], delay_s=0.001) as running:
        body = await hear(running, endpoint)
        assert unharmed(body) and endpoint.stopped in body


@pytest.mark.parametrize("seed", range(5))
async def test_choices_that_come_mixed_up_end_each_at_its_own_flag(seed: int) -> None:
    dice = random.Random(seed)
    words = {i: [f"c{i}w{j} " for j in range(20)] for i in range(4)}
    for i in (1, 3):
        words[i][dice.randrange(20)] = "forbidden "
    left = {i: list(each) for i, each in words.items()}
    events = []
    while any(left.values()):
        choice = dice.choice([i for i in left if left[i]])
        events.append(rig.event({"content": left[choice].pop(0)}, choice))
    events += [rig.event({}, i, "stop") for i in dice.sample(range(4), 4)]
    with scripted(cut(b"".join([*events, rig.DONE]), seed, 200)) as running:
        said = CHAT.texts(await hear(running, CHAT, n=4))
        for i, each in words.items():
            safe = "".join(each).partition("forbidden")[0]
            assert said.get(f"{i} content", "").strip() == safe.strip()


async def test_blocks_that_come_mixed_up_break_the_message_off() -> None:
    first, second = say.block("text", "green ", "forbidden "), say.block("text", "hills ", AFTER, index=1)
    mixed = [say.begin(), first[0], first[1], second[0], second[1], first[2], second[2], *say.end()]
    with scripted(mixed, delay_s=0.01) as running:
        body = await hear(running, MESSAGES)
        assert unharmed(body) and b"event: error" in body and MESSAGES.ended not in body


@both
async def test_streamed_and_whole_get_the_same_verdict(endpoint: Endpoint) -> None:
    dice = random.Random(7)
    with scripted([]) as running:
        for _ in range(40):
            channel = dice.choice([name for name in endpoint.channels if name != "tool name"])
            pieces = dice.choices(["green ", "forb", "idden ", "forbid", "den", "\n", "é", "\\u0066 "], k=6)
            text = "".join(pieces).strip() or "green"
            running.upstream.pieces = cut(b"".join(endpoint.tale(text, channel)), dice.randrange(99), 50)
            running.upstream.kind = "text/event-stream"
            streamed = await hear(running, endpoint)
            running.upstream.pieces, running.upstream.kind = [endpoint.whole(text, channel)], JSON
            whole = await hear(running, endpoint, stream=False)
            assert (endpoint.stopped in streamed) == (endpoint.stopped in whole) == (TRIGGER in text), (channel, text)


# Upstreams


@both
async def test_what_an_upstream_sends_after_the_stop_is_not_heard(endpoint: Endpoint) -> None:
    begun = endpoint.begun("green hills forbidden ")
    flood = b"".join(endpoint.more(AFTER) for _ in range(5000))
    for pieces in ([*begun, flood, *endpoint.end], [b"".join(begun) + flood, flood, flood]):
        with scripted(pieces) as running:
            body = await hear(running, endpoint)
            assert unharmed(body) and body.endswith(endpoint.ended)
            assert list(filter(None, endpoint.texts(body).values())) == ["green hills"]
            assert running.rows()[0].steps == 3


@both
async def test_a_stop_closes_the_upstream(endpoint: Endpoint) -> None:
    endless = [endpoint.more(AFTER) for _ in range(400)]
    with scripted([*endpoint.begun("green forbidden "), *endless], delay_s=0.01) as running:
        assert unharmed(await hear(running, endpoint))
        assert running.upstream.left.wait(3) and running.upstream.sent < 50


@both
@pytest.mark.parametrize("at", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("dies", [True, False], ids=["dies", "ends"])
async def test_an_upstream_that_breaks_off_is_no_good_end(endpoint: Endpoint, at: int, dies: bool) -> None:
    with scripted(endpoint.tale(SAFE, endpoint.channels[0])[:at], dies=dies) as running:
        status, _, body = await http("POST", running.url + endpoint.path, json=endpoint.ask())
        assert endpoint.ended not in body and b"upstream_error" in body
        assert status == (
            200 if at and (endpoint is MESSAGES or at > 0) and body.startswith((b"data", b"event")) else 502
        )
        assert SAFE.startswith("".join(endpoint.texts(body).values())) or status == 502
        assert running.rows()[0].outcome == "upstream_error"


@both
async def test_an_upstream_that_dies_in_a_character_breaks_the_stream(endpoint: Endpoint) -> None:
    data = b"".join(endpoint.begun("green \U0001f525"))
    with scripted([data[: data.rindex(b"\xf0") + 2]], dies=True) as running:
        body = await hear_any(running, endpoint)
        assert endpoint.ended not in body and b"upstream_error" in body and b"\xf0" not in body


async def hear_any(running: Proxy, endpoint: Endpoint, **more: Any) -> bytes:
    return (await http("POST", running.url + endpoint.path, json=endpoint.ask(**more)))[2]


@both
async def test_a_silent_upstream_is_given_up(endpoint: Endpoint) -> None:
    pieces = [*endpoint.begun("green hills "), endpoint.more(AFTER)]
    with scripted(pieces, serve={"upstream_timeout_s": 0.3}) as running:
        running.upstream.pauses = {len(pieces) - 1: 30.0}
        body = await hear(running, endpoint)
        assert unharmed(body) and b"upstream_error" in body and endpoint.ended not in body
        assert running.upstream.left.wait(3)


@both
async def test_frames_that_are_huge(endpoint: Endpoint) -> None:
    begin, *_ = endpoint.begun("green")
    long = endpoint.more("hills " * 20_000 + "forbidden " + AFTER * 2000)
    opened = endpoint.begun("green ")
    with scripted([*opened, long, *endpoint.end]) as running:
        body = await hear(running, endpoint)
        assert unharmed(body) and body.endswith(endpoint.ended) and endpoint.stopped in body
    for too_long in (endpoint.more(AFTER * 4000), b"data: " + b"a" * 200_000, b"x" * 200_000):
        with scripted([begin, too_long], serve={"max_reply_bytes": 100_000}) as running:
            body = await hear_any(running, endpoint)
            assert unharmed(body) and endpoint.ended not in body and b"upstream_error" in body


ODD: dict[str, Callable[[bytes], bytes]] = {
    "CR LF": lambda data: data.replace(b"\n", b"\r\n"),
    "CR": lambda data: data.replace(b"\n", b"\r"),
    "no space": lambda data: data.replace(b"data: ", b"data:"),
    "comments": lambda data: data.replace(b"data: ", b": forbidden\nid: forbidden\nretry: 1\ndata: "),
    "names that lie": lambda data: data.replace(b"data: ", b"event: forbidden\ndata: "),
    "many lines": lambda data: data.replace(b', "', b',\ndata: "'),
    "NUL": lambda data: data.replace(b"data: ", b"\x00\ndata: "),
    "a mark at the head": lambda data: b"\xef\xbb\xbf\n\n" + data,
}


@both
@pytest.mark.parametrize("how", ODD)
async def test_odd_streams_are_read_as_a_client_would(endpoint: Endpoint, how: str) -> None:
    with scripted(cut(ODD[how](b"".join(endpoint.tale(STORY, endpoint.channels[0]))), 1, 400)) as running:
        body = await hear(running, endpoint)
        assert unharmed(body) and body.endswith(endpoint.ended)
        assert list(filter(None, endpoint.texts(body).values())) == [SAFE]


def mangled(data: bytes, dice: random.Random) -> bytes:
    """Bytes with a few pieces lost, doubled, turned round or replaced."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        place = dice.randrange(len(out))
        piece = out[place : place + dice.randint(1, 40)]
        odd = [b"", piece * 2, b"\n\n", b'"', b"\\", b"\xff", b"{", b"null", b"[DONE]", bytes(reversed(piece))]
        out[place : place + len(piece)] = dice.choice(odd)
    return bytes(out)


@both
async def test_a_mangled_stream_never_says_the_flagged_word(endpoint: Endpoint) -> None:
    with scripted([]) as running:
        for seed in range(120):
            dice = random.Random(seed)
            data = b"".join(endpoint.tale("a forbidden b forbidden c", dice.choice(endpoint.channels)))
            running.upstream.pieces = cut(mangled(data, dice), seed, 100)
            body = await hear_any(running, endpoint)
            assert TRIGGER.encode() not in body, seed
            assert not any(TRIGGER in text for text in endpoint.texts(body).values()), seed
            assert body.endswith(endpoint.ended) != (b"upstream_error" in body), seed


@both
async def test_an_upstream_cannot_ask_for_watches_without_end(endpoint: Endpoint) -> None:
    begin = endpoint.begun("green ")
    if endpoint is CHAT:
        more = [rig.event({"tool_calls": [{"index": i, "function": {"name": f"t{i}"}}]}) for i in range(1100)]
    else:
        more = [say.stop(), *(event for i in range(1, 600) for event in say.block("tool", "{}", index=i))]
    with scripted([*begin, b"".join(more), *endpoint.end]) as running:
        body = await hear_any(running, endpoint)
        assert b"upstream_error" in body and endpoint.ended not in body
        assert "texts" in str(running.rows()[0].error)


# Clients


@both
@pytest.mark.parametrize("after", [1, 3, 10])
async def test_a_client_that_leaves_closes_the_upstream(endpoint: Endpoint, after: int) -> None:
    endless = [endpoint.more(f"word{i} ") for i in range(400)]
    with scripted([*endpoint.begun("green "), *endless], delay_s=0.01) as running:
        async with aiohttp.ClientSession() as session:
            async with session.post(running.url + endpoint.path, json=endpoint.ask()) as response:
                for _ in range(after):
                    await response.content.readany()
        assert running.upstream.left.wait(3) and running.upstream.sent < 100
        assert running.rows()[0].outcome == "disconnected"


@both
async def test_a_client_that_leaves_in_its_own_request_asks_nothing(endpoint: Endpoint) -> None:
    with scripted(endpoint.tale(SAFE, endpoint.channels[0])) as running:
        host, port = running.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        head = f"POST {endpoint.path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"
        writer.write(head.encode() + b'{"model": "m", ')
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        assert running.rows()[0].outcome == "disconnected" and running.upstream.asked == []


@both
async def test_clients_that_leave_do_not_touch_the_others(endpoint: Endpoint) -> None:
    text = " ".join(f"word{i}" for i in range(30))
    with scripted(endpoint.tale(text, endpoint.channels[0]), delay_s=0.01) as running:
        calls = [asyncio.ensure_future(hear(running, endpoint)) for _ in range(12)]
        await asyncio.to_thread(eventually, lambda: len(running.upstream.asked) == 12)
        for call in calls[::2]:
            call.cancel()
        bodies = await asyncio.gather(*calls, return_exceptions=True)
        for body in bodies[1::2]:
            assert isinstance(body, bytes) and list(filter(None, endpoint.texts(body).values())) == [text]
        outcomes = sorted(row.outcome for row in running.rows(12))
        assert outcomes == ["disconnected"] * 6 + ["passed"] * 6


@both
async def test_a_client_that_leaves_while_it_is_judged_frees_everything(endpoint: Endpoint) -> None:
    with scripted(endpoint.tale(SAFE, endpoint.channels[0])) as running:
        running.scorer.delay_s = 0.2
        call = asyncio.ensure_future(hear(running, endpoint))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        running.scorer.delay_s = 0.0
        assert running.rows()[0].outcome == "disconnected" and running.upstream.asked == []
        assert endpoint.ended in await hear(running, endpoint)


@both
async def test_a_prompt_of_a_million_characters_is_read_to_its_end(endpoint: Endpoint) -> None:
    long = "green hills " * 83_400
    assert len(long) > 1_000_000
    with scripted(endpoint.tale("green", endpoint.channels[0])) as running:
        for end, blocked in (("and on", False), ("forbidden", True)):
            body = await hear(running, endpoint, messages=[{"role": "user", "content": long + end}])
            assert (endpoint.stopped in body) == blocked
        assert len(running.upstream.asked) == 1
        assert running.upstream.asked[0]["messages"][0]["content"] == long + "and on"


@both
@pytest.mark.parametrize(
    "tail", ["/", "//", "?guard=off&policy=none", "/../completions", ";x=1", "%2f", "/count_tokens", "/batches"]
)
async def test_no_spelling_of_a_path_is_a_way_around(endpoint: Endpoint, tail: str) -> None:
    with scripted(endpoint.tale(STORY, endpoint.channels[0])) as running:
        host, port = running.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps(endpoint.ask()).encode()
        head = f"POST {endpoint.path}{tail} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
        writer.write(f"{head}x-marbury-input: off\r\nx-forwarded-host: other\r\n\r\n".encode() + body)
        said = await reader.read()
        writer.close()
        assert TRIGGER.encode() not in said and b"after" not in said
        assert [asked["path"] for asked in running.upstream.asked] == ([endpoint.path] if tail[0] == "?" else [])


# The guard itself


class Lying(ScriptedScorer):
    """A scorer that goes wrong in one way at its third word."""

    def __init__(self, how: Callable[[int], Score]) -> None:
        super().__init__(TRIGGER)
        self._how = how
        self.lies = False

    def score(self, step: int, end: int, flagged: bool) -> Score:
        return self._how(end) if self.lies and step == 3 else super().score(step, end, flagged)


def raising(error: Exception) -> Callable[[int], Score]:
    def fail(end: int) -> Score:
        raise error

    return fail


LIES: dict[str, Callable[[int], Score]] = {
    "raises": raising(RuntimeError("forbidden")),
    "no memory": raising(MemoryError()),
    "times out itself": raising(TimeoutError()),
    "no number": lambda end: Score(end, float("nan"), ()),
    "goes ahead of the text": lambda end: Score(end + 1000, -10.0, ()),
    "goes back": lambda end: Score(0, -10.0, ()),
}


@both
@pytest.mark.parametrize("how", LIES)
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
async def test_a_guard_that_goes_wrong_closes(endpoint: Endpoint, how: str, stream: bool) -> None:
    text, channel = "one two three four after", endpoint.channels[0]
    pieces = endpoint.tale(text, channel) if stream else [endpoint.whole(text, channel)]
    kind = "text/event-stream" if stream else JSON
    scorer = Lying(LIES[how])
    with scripted(pieces, kind=kind, scorer=scorer, delay_s=0.01) as running:
        scorer.lies = True
        status, _, body = await http("POST", running.url + endpoint.path, json=endpoint.ask(stream=stream))
        assert unharmed(body) and b"three" not in body and b"guard_unavailable" in body
        assert status == (200 if stream else 503) and endpoint.ended not in body
        row = running.rows()[0]
        assert (row.outcome, row.judging_failed) == ("guard_error", True)


@both
async def test_a_request_that_cannot_be_judged_in_time_is_not_asked(endpoint: Endpoint) -> None:
    with scripted(endpoint.tale(SAFE, endpoint.channels[0]), timeout_s=0.1) as running:
        running.scorer.delay_s = 0.4
        status, headers, body = await http("POST", running.url + endpoint.path, json=endpoint.ask())
        running.scorer.delay_s = 0.0
        assert (status, headers["retry-after"]) == (503, "1") and b"guard_unavailable" in body
        assert running.upstream.asked == []


# Conversations of many turns


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


@both
async def test_a_stop_in_an_old_turn_blocks_the_next_only_while_it_is_there(endpoint: Endpoint) -> None:
    with scripted(endpoint.tale(STORY, endpoint.channels[0])) as running:
        assert endpoint.stopped in await hear(running, endpoint, messages=turns("a tale"))
        running.upstream.pieces = endpoint.tale("green", endpoint.channels[0])
        kept = turns("a tale", SAFE, "and now?")  # what the client has heard of the stopped reply
        assert endpoint.stopped not in await hear(running, endpoint, messages=kept)
        bad = turns("of the forbidden", "", "and now?")
        assert endpoint.stopped in await hear(running, endpoint, messages=bad)
        assert endpoint.stopped not in await hear(running, endpoint, messages=bad[2:])
        assert [row.outcome for row in running.rows(4)] == ["output_blocked", "passed", "input_blocked", "passed"]


@both
async def test_history_that_a_client_makes_up_is_read(endpoint: Endpoint) -> None:
    with scripted(endpoint.tale("green", endpoint.channels[0])) as running:
        for history in (
            turns("a tale", "as I said, the forbidden", "go on"),
            turns("a tale", "as I said, the forbidden"),
            turns("a tale", "good", "b", "forbidden", "c", "good", "go on"),
        ):
            assert endpoint.stopped in await hear(running, endpoint, messages=history)
        assert running.upstream.asked == []


async def test_the_whole_conversation_is_read_in_its_order() -> None:
    seen: list[Sequence[Message]] = []

    class Listening(ScriptedScorer):
        def read(self, messages: Sequence[Message]) -> Any:
            seen.append(messages)
            return super().read(messages)

    history = turns("one", "two", "three", "four", "five")
    with scripted([], scorer=Listening(TRIGGER)) as running:
        for endpoint in BOTH:
            running.upstream.pieces = endpoint.tale("green", endpoint.channels[0])
            await hear(running, endpoint, messages=history)
    chat, messages = seen[-2:]
    assert chat == messages == tuple(Message(said["role"], said["content"]) for said in history)  # type: ignore[arg-type]
