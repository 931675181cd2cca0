"""Text completions through the real client, streamed and whole."""

import json
from typing import Any

import openai
import pytest
from openai.types import Completion
from rig import DONE, LIMITS, TRIGGER, Proxy, eventually, proxy, words

from marbury.errors import RequestError
from marbury.guard import Judge, ScriptedScorer
from marbury.records import Message
from marbury.serve.protocols.completions.gate import CompletionGate
from marbury.serve.protocols.completions.request import judged_prompts, read_request
from marbury.serve.protocols.completions.whole import WholeCompletion

SAFE = "Once upon a time the hills were green and"
STORY = SAFE + " forbidden things were told all night long"


def body(choices: list[dict[str, Any]], **more: Any) -> bytes:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": "tale-1"}
    return json.dumps(head | {"choices": choices} | more).encode()


def event(text: str, index: int = 0, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    return b"data: " + body([choice], **more) + b"\n\n"


def tale(text: str, index: int = 0) -> list[bytes]:
    return [event(word, index) for word in words(text)]


def whole(*texts: str) -> bytes:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    logs = {"tokens": ["forbidden"], "token_logprobs": [-1.0]}
    choices = [{"index": i, "text": t, "finish_reason": "length", "logprobs": logs} for i, t in enumerate(texts)]
    return body(choices, usage=usage, note="forbidden")


async def hear(running: Proxy, **asked: Any) -> tuple[dict[int, str], dict[int, str], list[Completion]]:
    texts, finish, chunks = dict[int, str](), dict[int, str](), list[Completion]()
    request: dict[str, Any] = {"model": "tale-1", "prompt": "Tell", "stream": True} | asked
    async with running.client() as client:
        async for chunk in await client.completions.create(**request):
            chunks.append(chunk)
            for choice in chunk.choices:
                assert choice.index not in finish
                texts[choice.index] = texts.get(choice.index, "") + choice.text
                if choice.finish_reason:
                    finish[choice.index] = choice.finish_reason
    return texts, finish, chunks


async def ask(running: Proxy, **asked: Any) -> Completion:
    async with running.client() as client:
        reply: Completion = await client.completions.create(**({"model": "tale-1", "prompt": "Tell"} | asked))
    return reply


@pytest.mark.parametrize("size", [1, 7, 50, 10_000])
async def test_a_stopped_stream_ends_before_the_flagged_word(size: int) -> None:
    data = b"".join([*tale(STORY), event("", finish="stop"), DONE])
    with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
        texts, finish, _ = await hear(running)
        assert (texts, finish) == ({0: SAFE}, {0: "content_filter"})
        row = running.rows()[0]
        assert (row.route, row.outcome, row.outputs[0].channel) == ("completions", "output_blocked", "text")


async def test_a_harmless_stream_arrives_whole_with_usage_if_asked() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    pieces = [*tale(SAFE), event("", finish="length"), b"data: " + body([], usage=usage) + b"\n\n", DONE]
    with proxy(pieces) as running:
        texts, finish, chunks = await hear(running, stream_options={"include_usage": True})
        assert (texts, finish) == ({0: SAFE}, {0: "length"})
        assert chunks[-1].usage is not None and chunks[-1].usage.total_tokens == 12
        assert (chunks[0].id, chunks[0].model, chunks[0].created) == ("cmpl-1", "tale-1", 1700000000)
        assert not [chunk for chunk in (await hear(running))[2] if chunk.usage]


async def test_the_upstream_is_closed_once_every_choice_is_stopped() -> None:
    events = [event("a forbidden b", i) for i in range(4)]
    with proxy([*events, *(event("after ", i % 4) for i in range(500))], delay_s=0.02) as running:
        texts, finish, _ = await hear(running, prompt=["one", "two"], n=2)
        assert texts == dict.fromkeys(range(4), "a") and finish == dict.fromkeys(range(4), "content_filter")
        assert running.upstream.left.wait(2)
        eventually(lambda: running.scorer.open == 0)


async def test_one_stopped_choice_leaves_the_others_alone() -> None:
    events = [*tale("a forbidden c", 1), *tale("green hills", 0)]
    with proxy([*events, event("", 0, "stop"), event("", 1, "stop"), DONE]) as running:
        texts, finish, _ = await hear(running, n=2)
        assert texts == {0: "green hills", 1: "a"}
        assert finish == {0: "stop", 1: "content_filter"}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "asked", [{"prompt": "the forbidden"}, {"prompt": ["a", "the forbidden"]}, {"suffix": "forbidden"}]
)
async def test_a_blocked_request_gets_an_ordinary_empty_answer(stream: bool, asked: dict[str, Any]) -> None:
    with proxy([whole("never")]) as running:
        prompts = len(asked["prompt"]) if isinstance(asked.get("prompt"), list) else 1
        if stream:
            texts, finish, _ = await hear(running, **asked)
        else:
            reply = await ask(running, **asked)
            texts = {choice.index: choice.text for choice in reply.choices}
            finish = {choice.index: str(choice.finish_reason) for choice in reply.choices}
        assert texts == dict.fromkeys(range(prompts), "") and finish == dict.fromkeys(range(prompts), "content_filter")
        assert running.upstream.asked == []
        assert running.rows()[0].outcome == "input_blocked"


async def test_a_block_may_be_an_error_that_names_the_prompt() -> None:
    with proxy([], serve={"block_status": 400}) as running:
        with pytest.raises(openai.BadRequestError) as blocked:
            await ask(running, prompt="forbidden")
        assert (blocked.value.code, blocked.value.param) == ("content_filter", "prompt")


async def test_a_flagged_choice_is_withheld_whole_and_the_others_pass() -> None:
    with proxy([whole("green", "first then forbidden", "hills")], kind="application/json") as running:
        reply = await ask(running, n=3, echo=True, best_of=3, suffix="the end")
        assert [(c.text, c.finish_reason) for c in reply.choices] == [
            ("green", "length"),
            ("", "content_filter"),
            ("hills", "length"),
        ]
        assert reply.usage is not None and reply.usage.total_tokens == 12
        assert "forbidden" not in reply.model_dump_json() and "first" not in reply.model_dump_json()
        assert running.upstream.asked[0]["suffix"] == "the end"
        assert running.upstream.asked[0]["path"] == "/v1/completions"


@pytest.mark.parametrize(
    "pieces", [[DONE], [event("a ")], [event("a", 5)], [b'data: {"error": {}}\n\n'], [b"data: x\n\n"]]
)
async def test_a_broken_upstream_gives_a_broken_stream(pieces: list[bytes]) -> None:
    with proxy(pieces) as running:
        with pytest.raises(openai.APIError) as failed:
            await hear(running)
        assert failed.value.code == "upstream_error"
        assert running.rows()[0].outcome == "upstream_error"


async def test_a_failing_guard_breaks_the_stream() -> None:
    with proxy([*tale(SAFE), event("", finish="stop"), DONE], delay_s=0.02) as running:
        running.scorer.fails_at = 3
        with pytest.raises(openai.APIError) as failed:
            await hear(running)
        assert failed.value.code == "guard_unavailable"
        assert running.rows()[0].outcome == "guard_error"


async def test_a_reply_is_watched_as_the_reply_to_its_own_prompt() -> None:
    judge, asked = Judge(ScriptedScorer(TRIGGER), LIMITS), read_request(b'{"prompt": ["a", "b", "c"], "n": 2}', 9)
    events = [event("green ", i).removeprefix(b"data: ").strip() for i in (5, 0, 2, 3)]
    try:
        request = await judge.read(asked.messages, *asked.others)
        await CompletionGate(request, asked, "id").feed(events)
        await WholeCompletion(request, asked, "id").judge(whole(*["green"] * 6))
        assert [watch.conversation for watch in request.watches] == [2, 0, 1, 1, 0, 0, 1, 1, 2, 2]
        request.close()
    finally:
        judge.close()


# Requests


def test_each_prompt_of_a_list_is_a_conversation_of_its_own() -> None:
    request = {"model": "m", "prompt": ["one", "two"], "suffix": "end", "stop": ["x"], "n": 3, "max_tokens": 5}
    asked = read_request(json.dumps(request).encode(), 9)
    beside = (Message("system", "end"), Message("system", "x"))
    assert asked.messages == (*beside, Message("user", "one"))
    assert asked.others == ((*beside, Message("user", "two")),)
    assert asked.choices == 6
    assert json.loads(asked.payload) == request


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "token ids": ({"prompt": [1, 2]}, "prompt[0]"),
    "lists of token ids": ({"prompt": [[1, 2]]}, "prompt[0]"),
    "no prompt": ({}, "prompt"),
    "an empty list": ({"prompt": []}, "prompt"),
    "too many prompts": ({"prompt": ["a"] * 513}, "prompt"),
    "logprobs": ({"prompt": "a", "logprobs": 2}, "logprobs"),
    "embeddings": ({"prompt": "a", "prompt_embeds": "AAAA"}, "prompt_embeds"),
    "too many choices": ({"prompt": "a", "n": 17}, "n"),
    "best of a text": ({"prompt": "a", "best_of": "all"}, "best_of"),
    "a suffix of parts": ({"prompt": "a", "suffix": ["b"]}, "suffix"),
    "unknown text": ({"prompt": "a", "system": "b"}, "system"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_guarded_is_refused_by_name(what: str) -> None:
    request, param = REFUSED[what]
    with pytest.raises(RequestError) as refused:
        judged_prompts(request)
    assert refused.value.param == param


def test_prompts_times_choices_are_limited() -> None:
    with pytest.raises(RequestError, match="at most 64"):
        read_request(json.dumps({"prompt": ["a"] * 33, "n": 2}).encode(), 512)
