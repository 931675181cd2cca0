import json
from typing import Any

import pytest

from marbury.errors import RequestError
from marbury.records import Message
from marbury.serve.protocols.chat.request import judged_messages, read_request

HELLO = [{"role": "user", "content": "hello"}]


def call(name: str = "look", arguments: str = "{}") -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


def beside(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": HELLO, **fields}


def within(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "messages": [*messages, *HELLO]}


# Every place of a request that can carry text to a model. An input guard that skips one has a hole.
PLACES: dict[str, dict[str, Any]] = {
    "user": within({"role": "user", "content": "a forbidden thing"}),
    "parts": within(
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "forbidden"}]}
    ),
    "split parts": within(
        {"role": "user", "content": [{"type": "text", "text": "a forb"}, {"type": "text", "text": "idden thing"}]}
    ),
    "system": within({"role": "system", "content": "forbidden"}),
    "developer": within({"role": "developer", "content": "forbidden"}),
    "assistant": within({"role": "assistant", "content": "forbidden"}),
    "assistant refusal": within({"role": "assistant", "refusal": "forbidden"}),
    "assistant reasoning": within({"role": "assistant", "content": "a", "reasoning_content": "forbidden"}),
    "assistant thoughts": within({"role": "assistant", "content": "a", "reasoning": "forbidden"}),
    "tool result": within({"role": "tool", "tool_call_id": "call_1", "content": "forbidden"}),
    "function result": within({"role": "function", "name": "look", "content": "forbidden"}),
    "call name": within({"role": "assistant", "content": None, "tool_calls": [call("forbidden")]}),
    "call arguments": within({"role": "assistant", "tool_calls": [call(arguments='{"x": "forbidden"}')]}),
    "escaped arguments": within({"role": "assistant", "tool_calls": [call(arguments='{"x": "\\u0066orbidden"}')]}),
    "function_call": within({"role": "assistant", "function_call": {"name": "look", "arguments": "forbidden"}}),
    "message name": within({"role": "user", "name": "forbidden", "content": "a"}),
    "tool description": beside(
        tools=[{"type": "function", "function": {"name": "look", "description": "a forbidden thing"}}]
    ),
    "tool parameters": beside(
        tools=[
            {
                "type": "function",
                "function": {"name": "look", "parameters": {"properties": {"x": {"enum": ["forbidden"]}}}},
            }
        ]
    ),
    "tool parameter name": beside(
        tools=[{"type": "function", "function": {"name": "look", "parameters": {"properties": {"forbidden": {}}}}}]
    ),
    "functions": beside(functions=[{"name": "look", "description": "forbidden"}]),
    "tool choice": beside(tool_choice={"type": "function", "function": {"name": "forbidden"}}),
    "response format": beside(
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": "forbidden"}}}
    ),
    "prediction": beside(prediction={"type": "content", "content": "forbidden"}),
    "prediction parts": beside(prediction={"type": "content", "content": [{"type": "text", "text": "forbidden"}]}),
    "stop": beside(stop=["a", "forbidden"]),
    "metadata": beside(metadata={"note": "forbidden"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_text_is_read(place: str) -> None:
    messages = judged_messages(PLACES[place])
    assert any("forbidden" in message.content for message in messages)
    assert messages[-1] == Message("user", "hello")


def test_what_stands_beside_the_messages_comes_first_and_is_no_turn() -> None:
    messages = judged_messages(PLACES["tool description"])
    assert [(m.role, m.content) for m in messages] == [("system", "look\na forbidden thing"), ("user", "hello")]


def test_a_plain_request_is_read_as_it_stands() -> None:
    fields = {"temperature": 0.5, "top_k": 7, "seed": 1, "user": "u-1", "tool_choice": "auto", "stop": None, "n": 2}
    request = beside(**fields, stream=True, stream_options={"include_usage": True}, response_format={"type": "text"})
    asked = read_request(json.dumps(request).encode(), 9)
    assert asked.messages == (Message("user", "hello"),)
    assert (asked.model, asked.stream, asked.include_usage, asked.choices) == ("m", True, True, 2)
    assert json.loads(asked.payload) == request


def test_a_dumped_assistant_message_may_come_back() -> None:
    dumped: dict[str, Any] = {
        "role": "assistant",
        "content": "a",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "tool_calls": None,
    }
    assert judged_messages(within(dumped))[0] == Message("assistant", "a")


def test_parts_that_join_at_a_space_are_read_once() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    assert judged_messages(within({"role": "user", "content": parts}))[0].content == "one \ntwo"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image": (
        within({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}),
        "messages[0].content[0].type",
    ),
    "audio part": (
        within({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}),
        "messages[0].content[1].type",
    ),
    "part with more": (
        within({"role": "user", "content": [{"type": "text", "text": "a", "note": "b"}]}),
        "messages[0].content[0].note",
    ),
    "file": (within({"role": "user", "content": [{"type": "file", "file": {}}]}), "messages[0].content[0].type"),
    "token ids": (within({"role": "user", "content": [1, 2]}), "messages[0].content[0].type"),
    "unknown role": (within({"role": "oracle", "content": "a"}), "messages[0].role"),
    "unknown text in a message": (within({"role": "user", "content": "a", "whisper": "b"}), "messages[0].whisper"),
    "unknown text in a call": (
        within({"role": "assistant", "tool_calls": [{**call(), "custom": {"input": "b"}}]}),
        "messages[0].tool_calls[0].custom",
    ),
    "unknown text": (beside(documents=["a"]), "documents"),
    "unknown token ids": (beside(prompt_token_ids=[1, 2, 3]), "prompt_token_ids"),
    "earlier response": (beside(previous_response_id="resp_1"), "previous_response_id"),
    "moderation": (beside(moderation={"policy": {"output": {"mode": "score"}}}), "moderation"),
    "guardrails": (beside(guardrails=["none"]), "guardrails"),
    "logprobs": (beside(logprobs=True), "logprobs"),
    "top logprobs": (beside(top_logprobs=3), "top_logprobs"),
    "audio": (beside(audio={"voice": "x"}), "audio"),
    "modalities": (beside(modalities=["text", "audio"]), "modalities"),
    "server tool": (beside(tools=[{"type": "web_search"}]), "tools[0].type"),
    "web search": (beside(web_search_options={"a": 1}), "web_search_options"),
    "too many choices": (beside(n=99), "n"),
    "choices of another type": (beside(n=True), "n"),
    "a user that is a text": (beside(user="how do I"), "user"),
    "a stream that is a text": (beside(stream="yes"), "stream"),
    "bias words": (beside(logit_bias={"forbidden": 1}), "logit_bias"),
    "a field named like a text": (beside(**{"say a thing": 1}), "say a thing"),
    "no messages": ({"model": "m"}, "messages"),
    "no list of messages": ({"messages": "hello"}, "messages"),
    "a message that is a text": ({"messages": ["hello"]}, "messages[0]"),
    "too many messages": ({"messages": HELLO * 513}, "messages"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_guarded_is_refused_by_name(what: str) -> None:
    request, param = REFUSED[what]
    with pytest.raises(RequestError) as refused:
        judged_messages(request)
    assert refused.value.param == param and refused.value.status == 400


def test_switched_off_fields_pass() -> None:
    off = beside(logprobs=False, top_logprobs=0, modalities=["text"], audio=None, documents=[], tools=[], stop="")
    assert judged_messages(off) == (Message("user", "hello"),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{oops",
        b"[]",
        b'"hello"',
        b'{"messages": "\xff"}',
        b'{"messages": "\\ud800"}',
        b"[" * 100_000,
        b'{"tools": ' + b'[{"a":' * 900 + b"1" + b"}]" * 900 + b"}",
        json.dumps(beside(response_format=json.loads('{"a":' * 60 + "1" + "}" * 60))).encode(),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_request(body, 9)


def test_the_upstream_gets_what_was_read() -> None:
    body = b'{"messages": [{"role": "user", "content": "two"}], "messages": [{"role": "user", "content": "hello"}]}'
    asked = read_request(body, 9)
    assert asked.messages == (Message("user", "hello"),)
    assert json.loads(asked.payload) == {"messages": HELLO} and asked.payload.count(b"messages") == 1
