"""Streams through the real client, proxy and sockets: nothing at or after a flag is released on any channel."""

import asyncio
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk
from rig import ASK, CHANNELS, DONE, Proxy, event, eventually, in_channel, proxy, tale, usage_event, whole, words

from marbury.guard import ScriptedScorer

SAFE = "Once upon a time the hills were green and"
STORY = SAFE + " forbidden things were told all night long"


class Heard:
    """What a client has put together of a stream."""

    def __init__(self) -> None:
        self.texts: dict[tuple[int, str], str] = {}
        self.finish: dict[int, str] = {}
        self.chunks: list[ChatCompletionChunk] = []
        self.error: openai.APIError | None = None

    def take(self, chunk: ChatCompletionChunk) -> None:
        self.chunks.append(chunk)
        for choice in chunk.choices:
            for name, value in choice.delta.model_dump(exclude_none=True, exclude={"role"}).items():
                for channel, text in flat(name, value):
                    key = (choice.index, channel)
                    self.texts[key] = self.texts.get(key, "") + text
            if choice.finish_reason:
                assert choice.index not in self.finish
                self.finish[choice.index] = choice.finish_reason

    def text(self, channel: str = "content", choice: int = 0) -> str:
        return self.texts.get((choice, channel), "")

    @property
    def all(self) -> str:
        return " ".join(self.texts.values())


def flat(name: str, value: Any) -> list[tuple[str, str]]:
    if name == "tool_calls":
        return [(f"tool{call['index']} {k}", v) for call in value for k, v in (call.get("function") or {}).items()] + [
            (f"tool{call['index']} id", call["id"]) for call in value if "id" in call
        ]
    if name == "function_call":
        return [(f"function {k}", v) for k, v in value.items()]
    return [(name, value)]


async def hear(proxy: Proxy, **asked: Any) -> Heard:
    heard = Heard()
    async with proxy.client() as client:
        request: dict[str, Any] = {"model": "tale-1", "messages": ASK, "stream": True} | asked
        try:
            async for chunk in await client.chat.completions.create(**request):
                heard.take(chunk)
        except openai.APIError as error:
            heard.error = error
    return heard


def heard_in(channel: str) -> str:
    names = {"tool": "tool0 arguments", "tool name": "tool0 name", "function_call": "function arguments"}
    return names.get(channel, channel)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 333, 10_000])
async def test_a_stopped_stream_ends_before_the_flagged_word(size: int) -> None:
    data = b"".join(tale(STORY))
    with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
        heard = await hear(running)
        assert heard.text() == SAFE
        assert heard.finish == {0: "content_filter"}
        assert heard.error is None
        assert running.rows()[0].outcome == "output_blocked"


@pytest.mark.parametrize("size", [1, 5, 50, 10_000])
async def test_a_harmless_stream_arrives_whole(size: int) -> None:
    text = "Zwölf Öfen \U0001f319 und\n\nein Drache  in der Höhle "
    data = b"".join(tale(text, finish="length"))
    with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
        heard = await hear(running)
        assert heard.text() == text
        assert heard.finish == {0: "length"}
        assert (heard.chunks[0].id, heard.chunks[0].model, heard.chunks[0].created) == (
            "chatcmpl-1",
            "tale-1",
            1700000000,
        )
        row = running.rows()[0]
        assert (row.outcome, row.status) == ("passed", 200)
        assert row.steps == running.scorer.steps == len(text.split()) + 1  # the last space is a token


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("split", [False, True])
async def test_every_channel_is_watched(channel: str, split: bool) -> None:
    deltas = [in_channel(channel, "forbid"), in_channel(channel, "den", first=False)]
    if not split:
        deltas = [in_channel(channel, "forbidden")]
    if channel == "tool name":
        deltas.append(in_channel("tool", " {}", first=False))
    last = in_channel("tool" if channel == "tool name" else channel, " more", first=False)
    events = [event({"role": "assistant"}), *map(event, deltas), event(last)]
    with proxy([*events, event({"content": "and more"}), event({}, finish="stop"), DONE]) as running:
        heard = await hear(running)
        assert "forbid" not in heard.all and "more" not in heard.all
        assert heard.finish == {0: "content_filter"}


@pytest.mark.parametrize("channel", [c for c in CHANNELS if c != "tool name"])
async def test_every_channel_passes_when_it_is_harmless(channel: str) -> None:
    with proxy(tale(SAFE, channel)) as running:
        heard = await hear(running)
        assert heard.text(heard_in(channel)) == SAFE
        assert heard.finish == {0: "stop"}


@pytest.mark.parametrize("channel", CHANNELS)
async def test_streamed_and_whole_replies_get_the_same_verdict(channel: str) -> None:
    for text in ("forbidden", "allowed"):
        with (
            proxy(tale(text, channel)) as streaming,
            proxy([whole(in_channel(channel, text))], kind="application/json") as one,
        ):
            heard = await hear(streaming)
            async with one.client() as client:
                reply = await client.chat.completions.create(model="m", messages=ASK)
            assert heard.finish[0] == reply.choices[0].finish_reason
            assert (heard.finish[0] == "content_filter") == (text == "forbidden")


async def test_a_tool_call_is_first_heard_of_with_id_and_name() -> None:
    calls: list[Any] = [
        {"index": 0, "id": "call_a", "type": "function", "function": {"name": "look_", "arguments": ""}},
        {"index": 0, "function": {"name": "up"}},
        {"index": 0, "function": {"arguments": '{"word": '}},
        {"index": 0, "function": {"arguments": '"hill"}'}},
        {"index": 1, "id": "call_b", "type": "function", "function": {"name": "rest", "arguments": ""}},
    ]
    events = [event({"tool_calls": [call]}) for call in calls]
    with proxy([*events, event({}, finish="tool_calls"), DONE]) as running:
        heard = await hear(running)
        first = [c for chunk in heard.chunks for choice in chunk.choices for c in choice.delta.tool_calls or []]
        assert first[0].id == "call_a" and first[0].function is not None and first[0].function.name == "look_up"
        assert heard.text("tool0 arguments") == '{"word": "hill"}'
        assert (heard.text("tool1 name"), heard.text("tool1 id")) == ("rest", "call_b")
        assert heard.finish == {0: "tool_calls"}


async def test_other_channels_of_a_stopped_choice_are_silent_too() -> None:
    events = [
        event({"content": "green hills "}),
        event({"reasoning_content": "the forbidden thing "}),
        event({"content": "after all "}),
        event(in_channel("tool", "after all")),
    ]
    for pieces in ([*events, event({}, finish="stop"), DONE], [b"".join(events) + event({}, finish="stop") + DONE]):
        with proxy(pieces) as running:
            heard = await hear(running)
            assert heard.text() == "green hills"
            assert heard.text("reasoning_content") == "the"
            assert "after" not in heard.all


async def test_one_stopped_choice_leaves_the_other_alone() -> None:
    events = []
    for safe, bad in zip(words("one two three four five six"), words("a b forbidden d e f"), strict=True):
        events += [event({"content": bad}, 1), event({"content": safe}, 0)]
    ends = [event({}, 1, "stop"), event({}, 0, "stop"), usage_event(), DONE]
    with proxy([*events, *ends]) as running:
        heard = await hear(running, n=2, stream_options={"include_usage": True})
        assert (heard.text(choice=0), heard.text(choice=1)) == ("one two three four five six", "a b")
        assert heard.finish == {0: "stop", 1: "content_filter"}
        assert heard.chunks[-1].usage is not None and not heard.chunks[-1].choices


@pytest.mark.parametrize("n", [1, 2])
async def test_the_upstream_is_closed_once_every_choice_is_stopped(n: int) -> None:
    events = [event({"content": f"word forbidden more{i} "}, i) for i in range(n)]
    endless = [event({"content": f"after {i} "}, i % n) for i in range(500)]
    with proxy([*events, *endless], delay_s=0.02) as running:
        heard = await hear(running, n=n)
        assert heard.finish == dict.fromkeys(range(n), "content_filter")
        assert heard.error is None and "after" not in heard.all
        assert running.upstream.left.wait(2)
        assert running.upstream.sent < 50
        eventually(lambda: running.scorer.open == 0)


async def test_usage_comes_when_it_is_asked_for() -> None:
    with proxy([*tale(SAFE)[:-1], usage_event(), DONE]) as running:
        heard = await hear(running, stream_options={"include_usage": True})
        assert heard.chunks[-1].usage is not None and heard.chunks[-1].usage.total_tokens == 12
        assert not [chunk for chunk in (await hear(running)).chunks if chunk.usage]
    with proxy(tale(STORY)) as running:
        heard = await hear(running, stream_options={"include_usage": True})
        assert heard.chunks[-1].usage is not None and heard.chunks[-1].choices == []


async def test_unknown_text_and_logprobs_are_dropped() -> None:
    odd = event(
        {"content": "green hills", "thoughts": "forbidden", "audio": {"transcript": "forbidden"}}, note="forbidden"
    )
    logs = {"content": [{"token": "forbidden", "logprob": -1, "bytes": None, "top_logprobs": []}]}
    choices = [
        {"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": logs, "message": {"content": "forbidden"}}
    ]
    last = event({}, choices=choices)
    with proxy([odd, last, DONE]) as running:
        heard = await hear(running)
        assert heard.text() == "green hills"
        assert "forbidden" not in "".join(chunk.model_dump_json() for chunk in heard.chunks)
        assert heard.finish == {0: "stop"}


BROKEN: dict[str, list[bytes]] = {
    "no JSON": [b"data: {oops\n\n"],
    "no UTF-8": [b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n'],
    "another shape": [b'data: {"choices": [{"delta": {"content": ["forbidden"]}}]}\n\n'],
    "an error": [b'data: {"error": {"message": "forbidden"}}\n\n'],
    "a foreign choice": [event({"content": "forbidden"}, 3)],
    "no finish": [DONE],
    "no end": [],
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_upstream_gives_a_broken_stream(how: str) -> None:
    begin = [event({"role": "assistant", "content": ""}), event({"content": "green hills "})]
    with proxy([*begin, *BROKEN[how]], delay_s=0.02) as running:
        heard = await hear(running)
        assert heard.text().strip() == "green hills"
        assert heard.finish == {} and heard.error is not None
        assert heard.error.code == "upstream_error"
        assert "forbidden" not in str(heard.error.body)
        assert running.rows()[0].outcome == "upstream_error"


async def test_an_upstream_that_dies_gives_a_broken_stream() -> None:
    with proxy([event({"content": "green hills "})], dies=True) as running:
        heard = await hear(running)
        assert heard.finish == {} and heard.error is not None and heard.error.code == "upstream_error"


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("how", ["fails_at", "nan_at"])
async def test_a_failing_guard_breaks_the_stream_and_releases_nothing_more(step: int, how: str) -> None:
    with proxy(tale(SAFE), delay_s=0.02) as running:
        setattr(running.scorer, how, step)
        heard = await hear(running)
        assert heard.text().split() == SAFE.split()[: step - 1]
        assert heard.finish == {} and heard.error is not None and heard.error.code == "guard_unavailable"
        row = running.rows()[0]
        assert row.outcome == "guard_error" and row.judging_failed
        eventually(lambda: running.scorer.open == 0)


async def test_a_guard_that_is_too_slow_breaks_the_stream() -> None:
    with proxy(tale(SAFE), delay_s=0.02, timeout_s=0.2) as running:
        asyncio.get_running_loop().call_later(0.1, setattr, running.scorer, "delay_s", 0.5)
        heard = await hear(running)
        running.scorer.delay_s = 0.0
        assert heard.error is not None and heard.error.code == "guard_unavailable"
        assert len(heard.text()) < len(SAFE)


async def test_a_client_that_leaves_frees_everything() -> None:
    with proxy([event({"content": f"word{i} "}) for i in range(500)], delay_s=0.02) as running:
        async with running.client() as client:
            stream = await client.chat.completions.create(model="m", messages=ASK, stream=True)
            await anext(aiter(stream))
            await stream.close()
        assert running.upstream.left.wait(2)
        assert running.rows()[0].outcome == "disconnected"
        eventually(lambda: running.scorer.open == 0)


async def test_a_client_that_leaves_a_silent_upstream_is_noticed() -> None:
    with proxy([b"", event({"content": "late"})], delay_s=30.0) as running:
        async with running.client() as client:
            call = asyncio.ensure_future(client.chat.completions.create(model="m", messages=ASK, stream=True))
            while not running.upstream.asked:
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert running.upstream.left.wait(2)
        assert running.rows()[0].outcome == "disconnected"


async def test_shadow_changes_no_byte_and_remembers() -> None:
    pieces = [*tale(STORY), b": a comment\n\n"]
    with proxy(pieces, modes=("shadow", "shadow"), scorer=ScriptedScorer("forbidden")) as running:
        heard = await hear(running, logprobs=True)
        assert heard.text() == STORY and heard.finish == {0: "stop"}
        row = running.rows()[0]
        assert row.error is not None and "logprobs" in row.error  # not refused, but not judged either
        heard = await hear(running)
        assert heard.text() == STORY
        row = running.rows(2)[1]
        assert (row.outcome, row.outputs[0].verdict.flagged) == ("passed", True)
        assert 'marbury_decisions_total{action="would_block",category="scripted",stage="output"} 1.0' in (
            running.service.metrics.text().decode()
        )


async def test_one_step_per_token_whatever_the_chunking() -> None:
    data = b"".join(tale(SAFE * 20))
    for size in (11, 4000):
        with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
            await hear(running)
            assert running.scorer.steps == len((SAFE * 20).split())
