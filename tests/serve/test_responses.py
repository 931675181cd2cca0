"""Responses through the real client, streamed and whole: nothing at or after a flag is released in any item."""

import json
from typing import Any

import aiohttp
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from rig import Proxy, eventually, proxy
from rig_responses import CHANNELS, Speech, item_of, response, spoken, whole

SAFE = "Once upon a time the hills were green and"
STORY = SAFE + " forbidden things were told all night long"


class Heard:
    """What a client has put together of a stream."""

    def __init__(self) -> None:
        self.events: list[ResponseStreamEvent] = []
        self.error: openai.APIError | None = None

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    @property
    def last(self) -> Response:
        event: Any = self.events[-1]
        said: Response = event.response
        return said

    @property
    def deltas(self) -> str:
        return "".join(str(getattr(event, "delta", "")) for event in self.events if event.type.endswith(".delta"))

    @property
    def all(self) -> str:
        return " ".join(event.model_dump_json() for event in self.events)


async def hear(running: Proxy, **asked: Any) -> Heard:
    heard = Heard()
    request: dict[str, Any] = {"model": "tale-1", "input": "Tell", "stream": True} | asked
    async with running.client() as client:
        try:
            async for event in await client.responses.create(**request):
                heard.events.append(event)
        except openai.APIError as error:
            heard.error = error
    if heard.error is None:
        assert [event.sequence_number for event in heard.events] == list(range(len(heard.events)))
    return heard


async def ask(running: Proxy, **asked: Any) -> Response:
    async with running.client() as client:
        reply: Response = await client.responses.create(**({"model": "tale-1", "input": "Tell"} | asked))
    return reply


def nested(heard: Heard) -> None:
    """Everything that is opened is closed, once and in order."""
    opened: list[tuple[Any, ...]] = []
    for event in heard.events:
        at = (getattr(event, "output_index", None), getattr(event, "content_index", None))
        if event.type.endswith(("_item.added", "_part.added")):
            opened.append((event.type.removesuffix("added"), *at))
        elif event.type.endswith(("_item.done", "_part.done")):
            assert opened.pop() == (event.type.removesuffix("done"), *at)
    assert opened == []


# Streams


@pytest.mark.parametrize("size", [1, 2, 7, 40, 333, 10_000])
async def test_a_stopped_stream_ends_before_the_flagged_word(size: int) -> None:
    data = b"".join(spoken("output_text", STORY))
    with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
        heard = await hear(running)
        assert heard.error is None and heard.deltas == SAFE
        assert heard.kinds[-4:] == [
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.incomplete",
        ]
        nested(heard)
        item: Any = heard.last.output[0]
        assert (heard.last.status, heard.last.output_text, item.status) == ("incomplete", SAFE, "incomplete")
        assert heard.last.incomplete_details is not None
        assert heard.last.incomplete_details.reason == "content_filter"
        assert heard.last.moderation is not None and heard.last.moderation.output.type == "moderation_result"
        assert "forbidden" not in heard.all and "scripted" not in heard.all
        row = running.rows()[0]
        assert (row.route, row.outcome) == ("responses", "output_blocked")


@pytest.mark.parametrize("channel", CHANNELS)
async def test_every_channel_passes_when_it_is_harmless(channel: str) -> None:
    with proxy(spoken(channel, "green")) as running:
        heard = await hear(running)
        assert heard.error is None and heard.kinds[-1] == "response.completed"
        nested(heard)
        item = heard.last.output[0].model_dump(exclude_none=True, exclude_unset=True)
        assert item == {**item_of(channel, "green"), **({"content": item["content"]} if "content" in item else {})}
        assert "green" in json.dumps(item) and "odd" not in heard.all
        assert heard.last.usage is not None and heard.last.usage.total_tokens == 12
        assert (heard.last.id, heard.last.model, heard.last.created_at) == ("resp_1", "tale-1", 1700000000)


@pytest.mark.parametrize("channel", CHANNELS)
@pytest.mark.parametrize("stream", [True, False])
async def test_every_channel_is_watched(channel: str, stream: bool) -> None:
    speech = Speech()
    speech.item("output_text", "green hills")
    speech.item(channel, "a forbidden thing")
    speech.item("output_text", "and more")
    pieces = speech.end() if stream else [whole(*speech.items)]
    with proxy(pieces, kind="text/event-stream" if stream else "application/json") as running:
        if stream:
            heard = await hear(running)
            nested(heard)
            last, told = heard.last, heard.all
            assert last.output_text.startswith("green hills")
        else:
            last = await ask(running)
            told = last.model_dump_json()
            assert last.output_text == ""
        assert last.status == "incomplete" and last.incomplete_details is not None
        assert last.incomplete_details.reason == "content_filter"
        assert "forbidden" not in told and "thing" not in told and "more" not in told
        row = running.rows()[0]
        assert row.outcome == "output_blocked"
        assert [output.channel for output in row.outputs if output.verdict.flagged] == [
            {"name": "output[1].name", "custom name": "output[1].name"}.get(channel, f"output[1].{channel}[0]")
        ]


async def test_the_upstream_is_closed_at_a_stop() -> None:
    speech = Speech()
    speech.item("output_text", STORY + " after" * 300)
    with proxy(speech.end(), delay_s=0.01) as running:
        heard = await hear(running)
        assert heard.deltas == SAFE
        assert running.upstream.left.wait(2)
        eventually(lambda: running.scorer.open == 0)


async def test_arguments_that_were_stopped_are_never_done() -> None:
    with proxy(spoken("arguments", '{"a": "green forbidden"}')) as running:
        heard = await hear(running)
        assert "response.function_call_arguments.done" not in heard.kinds
        assert heard.kinds[-2:] == ["response.output_item.done", "response.incomplete"]
        item: Any = heard.last.output[0]
        assert (item.status, item.arguments) == ("incomplete", '{"a": "green')


async def test_texts_that_come_only_at_their_end_are_judged_too() -> None:
    for channel in ("output_text", "arguments", "input", "summary_text"):
        for text in ("green hills", "green forbidden"):
            speech = Speech()
            speech.item(channel, text, pieces=[])
            with proxy(speech.end()) as running:
                heard = await hear(running)
                assert heard.deltas == ("green hills" if text == "green hills" else "green")
                assert heard.kinds[-1] == ("response.completed" if text == "green hills" else "response.incomplete")


async def test_an_output_that_comes_only_with_the_last_event_is_judged_too() -> None:
    for text, end in (("green hills", "completed"), ("green forbidden", "incomplete")):
        speech = Speech()
        speech.items = [item_of("output_text", text)]
        with proxy(speech.end()) as running:
            heard = await hear(running)
            nested(heard)
            assert heard.last.status == end and heard.last.output_text == text.removesuffix(" forbidden")


async def test_an_end_that_says_something_else_changes_nothing() -> None:
    speech = Speech()
    speech.item("output_text", "another forbidden text", pieces=["green ", "hills"])
    with proxy(speech.end()) as running:
        heard = await hear(running)
        assert heard.last.output_text == "green hills" and heard.last.status == "completed"
        assert "forbidden" not in heard.all


async def test_an_incomplete_reply_of_the_upstream_stays_one() -> None:
    speech = Speech()
    speech.item("output_text", "green")
    with proxy(speech.end("incomplete", incomplete_details={"reason": "max_output_tokens"})) as running:
        heard = await hear(running)
        assert heard.last.status == "incomplete" and heard.last.incomplete_details is not None
        assert heard.last.incomplete_details.reason == "max_output_tokens"
        assert heard.last.moderation is None
        assert running.rows()[0].outcome == "passed"


async def test_the_clients_own_accumulator_understands_a_stop() -> None:
    speech = Speech()
    speech.item("summary_text", "a thought")
    speech.item("output_text", STORY)
    with proxy(speech.end()) as running:
        async with running.client() as client, client.responses.stream(model="m", input="Tell") as stream:
            kinds = [event.type async for event in stream]
        assert kinds[-1] == "response.incomplete"


async def test_events_that_are_not_known_are_dropped() -> None:
    speech = Speech()
    speech.say("response.queued", response=response([], "queued"))
    speech.say("response.audio.transcript.delta", delta="forbidden")
    speech.say("response.output_text.annotation.added", output_index=0, annotation={"title": "forbidden"})
    speech.say("response.mcp_call_arguments.delta", output_index=3, delta="forbidden")
    speech.item("output_text", "green")
    with proxy(speech.end()) as running:
        heard = await hear(running)
        assert heard.last.output_text == "green" and "forbidden" not in heard.all


def broken(kind: str, *, after: dict[str, Any] | None = None, **values: Any) -> list[bytes]:
    """A response that is in order but for one event, perhaps while an item is open."""
    speech = Speech()
    speech.item("output_text", "green")
    if after is not None:
        speech.say("response.output_item.added", output_index=1, item=after)
    speech.say(kind, **values)
    return speech.end()


BROKEN: dict[str, list[bytes]] = {
    "an item that is not known": broken(
        "response.output_item.added",
        output_index=1,
        item={"type": "web_search_call", "id": "ws_1", "query": "forbidden"},
    ),
    "a part that is not known": broken(
        "response.output_item.added",
        output_index=1,
        item={"type": "message", "id": "m", "content": [{"type": "output_audio", "transcript": "forbidden"}]},
    ),
    "a part of another item": broken(
        "response.output_item.added",
        output_index=1,
        item={"type": "reasoning", "summary": [], "content": [{"type": "output_text", "text": "forbidden"}]},
    ),
    "a text of another item": broken(
        "response.function_call_arguments.delta", after={"type": "message"}, output_index=1, delta="forbidden"
    ),
    "an item that ends as another": broken(
        "response.output_item.done",
        after={"type": "message"},
        output_index=1,
        item={"type": "reasoning", "summary": [{"type": "summary_text", "text": "forbidden"}]},
    ),
    "a text of no item": broken("response.output_text.delta", output_index=7, content_index=0, delta="forbidden"),
    "a text after its end": broken("response.output_text.delta", output_index=0, content_index=0, delta="forbidden"),
    "an item twice": broken("response.output_item.added", output_index=0, item=item_of("output_text", "forbidden")),
    "an error": broken("error", message="forbidden", code="x"),
    "a failure": broken("response.failed", response=response([], "failed", error={"message": "forbidden"})),
    "no JSON": [*broken("response.queued")[:-1], b"data: {oops\n\n"],
    "another shape": broken("response.output_text.delta", output_index=0, delta=["forbidden"]),
    "no end": broken("response.queued")[:-1],
    "an early done": [*broken("response.queued")[:-1], b"data: [DONE]\n\n"],
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_upstream_gives_a_broken_stream(how: str) -> None:
    with proxy(BROKEN[how], delay_s=0.01) as running:
        heard = await hear(running)
        assert heard.error is not None and heard.error.code == "upstream_error"
        assert heard.deltas == "green" and "forbidden" not in heard.all
        assert not {"response.completed", "response.incomplete"} & set(heard.kinds)
        assert running.rows()[0].outcome == "upstream_error"


@pytest.mark.parametrize("step", [1, 4])
@pytest.mark.parametrize("how", ["fails_at", "nan_at"])
async def test_a_failing_guard_breaks_the_stream_and_releases_nothing_more(step: int, how: str) -> None:
    with proxy(spoken("output_text", SAFE), delay_s=0.01) as running:
        setattr(running.scorer, how, step)
        heard = await hear(running)
        assert heard.deltas.split() == SAFE.split()[: step - 1]
        assert heard.error is not None and heard.error.code == "guard_unavailable"
        assert running.rows()[0].outcome == "guard_error"


# Whole


async def test_a_harmless_reply_passes_whole() -> None:
    items = [item_of(channel, "green", i) for i, channel in enumerate(CHANNELS)]
    with proxy([whole(*items, service_tier="default", whisper="odd")], kind="application/json") as running:
        reply = await ask(running, instructions="be kind", metadata={"a": "b"}, store=False)
        assert reply.status == "completed" and reply.output_text == "green"
        assert (reply.id, reply.instructions, reply.metadata, reply.service_tier) == (
            "resp_1",
            "be kind",
            {"a": "b"},
            "default",
        )
        assert "odd" not in reply.model_dump_json()
        assert [item.type for item in reply.output] == [item["type"] for item in items]
        assert running.upstream.asked[0]["store"] is False and running.upstream.asked[0]["path"] == "/v1/responses"


@pytest.mark.parametrize(
    "body",
    [
        whole(status="failed", error={"message": "forbidden"}),
        whole(status="in_progress"),
        whole({"type": "image_generation_call", "result": "forbidden"}),
        whole({"type": "message", "content": [{"type": "output_audio", "transcript": "forbidden"}]}),
        b"[]",
    ],
)
async def test_a_reply_that_cannot_be_judged_is_502(body: bytes) -> None:
    with proxy([body], kind="application/json") as running:
        with pytest.raises(openai.InternalServerError) as failed:
            await ask(running)
        assert failed.value.status_code == 502 and "forbidden" not in str(failed.value)


# Blocked requests


@pytest.mark.parametrize("asked", [{"input": "the forbidden"}, {"instructions": "forbidden"}])
async def test_a_blocked_request_gets_an_ordinary_empty_answer(asked: dict[str, Any]) -> None:
    with proxy([whole(item_of("output_text", "never"))]) as running:
        reply = await ask(running, **asked)
        assert (reply.status, reply.output_text, reply.model) == ("incomplete", "", "tale-1")
        assert reply.incomplete_details is not None and reply.incomplete_details.reason == "content_filter"
        part: Any = reply.output[0]
        assert part.content[0].text == ""
        assert running.upstream.asked == []
        assert running.rows()[0].outcome == "input_blocked"


async def test_a_blocked_stream_looks_like_one_that_was_stopped_at_its_first_word() -> None:
    with proxy(spoken("output_text", "forbidden tales")) as running:
        blocked, stopped = await hear(running, input="the forbidden"), await hear(running)
        assert len(running.upstream.asked) == 1
        assert blocked.kinds == stopped.kinds
        nested(blocked)
        shapes = [
            heard.last.model_dump(exclude={"id", "created_at", "instructions", "output"})
            for heard in (blocked, stopped)
        ]
        assert shapes[0] == shapes[1]


async def test_a_block_may_be_an_error_that_names_the_input() -> None:
    with proxy([], serve={"block_status": 400}) as running:
        with pytest.raises(openai.BadRequestError) as blocked:
            await ask(running, input="forbidden")
        assert (blocked.value.code, blocked.value.param) == ("content_filter", "input")


async def test_a_field_that_is_not_guarded_is_named() -> None:
    with proxy([]) as running:
        with pytest.raises(openai.BadRequestError) as refused:
            await ask(running, previous_response_id="resp_1")
        assert (refused.value.code, refused.value.param) == ("not_guarded", "previous_response_id")
        assert running.upstream.asked == []


async def test_shadow_changes_no_byte_and_remembers() -> None:
    pieces = spoken("output_text", STORY)
    with proxy(pieces, modes=("shadow", "shadow")) as running:
        async with aiohttp.ClientSession() as session:
            asked = {"model": "m", "input": "Tell", "stream": True}
            async with session.post(f"{running.url}/v1/responses", json=asked) as reply:
                assert await reply.read() == b"".join(pieces)
        row = running.rows()[0]
        assert row.outcome == "passed" and row.outputs[0].verdict.flagged
