"""Images, audio and files beside text: refused by default, passed on unscored where the operator allows it."""

import json
from typing import Any

import aiohttp
import anthropic
import openai
import pytest
from messages_events import content as say
from messages_events import whole as message
from rig import proxy, whole
from rig_responses import item_of
from rig_responses import whole as response

from marbury.errors import RequestError
from marbury.serve import ServeSettings
from marbury.serve.protocols.media import set_aside

TEXT = {"type": "text", "text": "What is in it?"}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}
LINK = {"type": "image_url", "image_url": {"url": "http://orvane.example/hill.png"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "hills.pdf"}}


def messages(*parts: dict[str, Any]) -> Any:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize("part", [IMAGE, LINK, AUDIO, FILE])
async def test_a_part_that_is_no_text_is_refused_by_default_and_passed_where_allowed(part: dict[str, Any]) -> None:
    asked: Any = {"model": "m", "messages": messages(TEXT, part)}
    with proxy([whole({"content": "green"})], kind="application/json") as running:
        async with running.client() as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(**asked)
        assert refused.value.param == "messages[0].content[1].type"
        assert running.upstream.asked == []
    with proxy([whole({"content": "green"})], kind="application/json", serve={"media": "allow"}) as running:
        async with running.client() as client:
            reply = await client.chat.completions.create(**asked)
        assert reply.choices[0].message.content == "green"
        assert running.upstream.asked[0]["messages"] == asked["messages"]
        assert running.rows()[0].media == 1


async def test_text_beside_them_is_judged_all_the_same() -> None:
    bad = {"type": "text", "text": "a forbidden thing"}
    for parts in ([bad, IMAGE], [IMAGE, bad], [{**FILE, "file": {"file_id": "f-1", "filename": "the forbidden"}}]):
        with proxy([], serve={"media": "allow"}) as running:
            async with running.client() as client:
                reply = await client.chat.completions.create(model="m", messages=messages(*parts))
            assert reply.choices[0].finish_reason == "content_filter"
            assert running.upstream.asked == []


async def test_words_that_are_split_by_an_image_are_read_joined() -> None:
    with proxy([], serve={"media": "allow"}) as running:
        parts: list[dict[str, Any]] = [{"type": "text", "text": "forb"}, IMAGE, {"type": "text", "text": "idden"}]
        async with running.client() as client:
            reply = await client.chat.completions.create(model="m", messages=messages(*parts))
        assert reply.choices[0].finish_reason == "content_filter"


async def test_responses_hold_to_the_setting_too() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:x", "detail": "auto"}]
    asked: Any = {"model": "m", "input": [{"role": "user", "content": parts}]}
    body = [response(item_of("output_text", "green"))]
    with proxy(body, kind="application/json") as running:
        async with running.client() as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(**asked)
        assert refused.value.param == "input[0].content[1].type"
    with proxy(body, kind="application/json", serve={"media": "allow"}) as running:
        async with running.client() as client:
            assert (await client.responses.create(**asked)).output_text == "green"
        assert running.upstream.asked[0]["input"] == asked["input"]


PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
PDF = {"type": "document", "title": "hills", "source": {"type": "url", "url": "http://orvane.example/hills.pdf"}}
PAGE = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "green hills"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [TEXT, PNG]}


@pytest.mark.parametrize("part", [PNG, PDF, PAGE, RESULT])
async def test_messages_hold_to_the_setting_too(part: dict[str, Any]) -> None:
    asked: Any = {"model": "m", "max_tokens": 9, "messages": messages(TEXT, part)}
    with proxy([message(say("text", "green"))], kind="application/json") as running:
        async with running.anthropic() as client:
            with pytest.raises(anthropic.BadRequestError) as refused:
                await client.messages.create(**asked)
        assert "messages[0].content[1]" in str(refused.value.body) and running.upstream.asked == []
    with proxy([message(say("text", "green"))], kind="application/json", serve={"media": "allow"}) as running:
        async with running.anthropic() as client:
            assert (await client.messages.create(**asked)).stop_reason == "end_turn"
        assert running.upstream.asked[0]["messages"] == asked["messages"]
        assert running.rows()[0].media == 1


@pytest.mark.parametrize(
    "part",
    [
        {**PDF, "title": "the forbidden"},
        {**PAGE, "context": "forbidden"},
        {**PAGE, "source": {**PAGE["source"], "data": "a forbidden thing"}},  # type: ignore[dict-item]
        {**RESULT, "content": [PNG, {"type": "text", "text": "forbidden"}]},
    ],
)
async def test_what_is_text_in_a_messages_documents_is_judged(part: dict[str, Any]) -> None:
    with proxy([], serve={"media": "allow"}) as running:
        async with running.anthropic() as client:
            reply = await client.messages.create(model="m", max_tokens=9, messages=messages(TEXT, part))
        assert reply.stop_reason == "refusal" and running.upstream.asked == []


async def test_readiness_says_what_is_allowed() -> None:
    for media in ("refuse", "allow"):
        with proxy([], serve={"media": media}) as running:
            async with aiohttp.ClientSession() as session, session.get(f"{running.url}/readyz") as reply:
                assert json.loads(await reply.read())["media"] == media


def test_what_is_text_in_them_takes_their_place() -> None:
    told, places = set_aside(messages(TEXT, LINK, AUDIO, FILE), "messages")
    assert [part["text"] for part in told[0]["content"]] == [
        "What is in it?",
        "http://orvane.example/hill.png",
        "",
        "hills.pdf",
    ]
    assert places == ("messages[0].content[1]", "messages[0].content[2]", "messages[0].content[3]")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({**IMAGE, "caption": "green"}, "messages[0].content[0].caption"),
        ({"type": "image_url", "image_url": {"url": 5}}, "messages[0].content[0].image_url.url"),
        (
            {"type": "input_audio", "input_audio": {"data": "A", "transcript": "b"}},
            "messages[0].content[0].input_audio.transcript",
        ),
    ],
)
def test_an_odd_part_is_refused_even_where_they_are_allowed(part: dict[str, Any], param: str) -> None:
    with pytest.raises(RequestError) as refused:
        set_aside(messages(part), "messages")
    assert refused.value.param == param


def test_the_setting_has_two_values() -> None:
    with pytest.raises(ValueError, match="media is one of refuse, allow"):
        ServeSettings(media="some")  # type: ignore[arg-type]
