"""Every text of a responses request is read, and what the guard cannot see is refused by name."""

import json
from typing import Any

import pytest

from marbury.errors import RequestError
from marbury.records import Message
from marbury.serve.protocols.responses.request import judged_messages, read_request

HELLO = {"role": "user", "content": "hello"}


def beside(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": "hello", **fields}


def within(*items: dict[str, Any]) -> dict[str, Any]:
    return {"model": "m", "input": [*items, HELLO]}


def message(role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": list(parts)}


BAD = {"type": "input_text", "text": "a forbidden thing"}
PLACES: dict[str, dict[str, Any]] = {
    "user": within({"role": "user", "content": "forbidden"}),
    "parts": within(message("user", {"type": "input_text", "text": "a"}, BAD)),
    "split parts": within(
        message("user", {"type": "input_text", "text": "forb"}, {"type": "input_text", "text": "idden"})
    ),
    "system": within(message("system", BAD)),
    "developer": within(message("developer", BAD)),
    "assistant": within(message("assistant", {"type": "output_text", "text": "forbidden", "annotations": []})),
    "refusal": within(message("assistant", {"type": "refusal", "refusal": "forbidden"})),
    "call name": within({"type": "function_call", "call_id": "c", "name": "forbidden", "arguments": "{}"}),
    "call arguments": within({"type": "function_call", "call_id": "c", "name": "x", "arguments": '{"a": "forbidden"}'}),
    "escaped arguments": within(
        {"type": "function_call", "call_id": "c", "name": "x", "arguments": '{"a": "\\u0066orbidden"}'}
    ),
    "call result": within({"type": "function_call_output", "call_id": "c", "output": "forbidden"}),
    "result parts": within({"type": "function_call_output", "call_id": "c", "output": [BAD]}),
    "custom input": within({"type": "custom_tool_call", "call_id": "c", "name": "x", "input": "forbidden"}),
    "custom result": within({"type": "custom_tool_call_output", "call_id": "c", "output": "forbidden"}),
    "summary": within({"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "forbidden"}]}),
    "reasoning": within(
        {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "forbidden"}]}
    ),
    "instructions": beside(instructions="forbidden"),
    "tool": beside(tools=[{"type": "function", "name": "x", "parameters": {}, "description": "a forbidden thing"}]),
    "custom tool": beside(tools=[{"type": "custom", "name": "x", "format": {"definition": "forbidden"}}]),
    "tool choice": beside(tool_choice={"type": "function", "name": "forbidden"}),
    "format": beside(text={"format": {"type": "json_schema", "name": "x", "schema": {"description": "forbidden"}}}),
    "metadata": beside(metadata={"note": "forbidden"}),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_text_is_read(place: str) -> None:
    messages = judged_messages(PLACES[place])
    assert any("forbidden" in message.content for message in messages)
    assert messages[-1] == Message("user", "hello")


def test_a_conversation_keeps_its_roles() -> None:
    items = [
        {"role": "developer", "content": "be brief"},
        {"type": "function_call", "call_id": "c", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "hills"},
        HELLO,
    ]
    messages = judged_messages({"input": items, "instructions": "be kind"})
    assert [(m.role, m.content) for m in messages] == [
        ("system", "be kind"),
        ("developer", "be brief"),
        ("assistant", "look\n{}"),
        ("tool", "hills"),
        ("user", "hello"),
    ]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "earlier response": (beside(previous_response_id="resp_1"), "previous_response_id"),
    "conversation": (beside(conversation="conv_1"), "conversation"),
    "conversation object": (beside(conversation={"id": "conv_1"}), "conversation"),
    "background": (beside(background=True), "background"),
    "store": (beside(store=True), "store"),
    "stored prompt": (beside(prompt={"id": "pmpt_1"}), "prompt"),
    "include": (beside(include=["reasoning.encrypted_content"]), "include"),
    "logprobs": (beside(top_logprobs=2), "top_logprobs"),
    "moderation": (beside(moderation={"model": "x"}), "moderation"),
    "compaction": (beside(context_management=[{"type": "compaction"}]), "context_management"),
    "unknown text": (beside(whisper="a"), "whisper"),
    "reasoning with more": (beside(reasoning={"effort": "low", "hint": "say it"}), "reasoning.hint"),
    "server tool": (beside(tools=[{"type": "web_search"}]), "tools[0].type"),
    "mcp": (beside(tools=[{"type": "mcp", "server_url": "http://127.0.0.1"}]), "tools[0].type"),
    "item reference": (within({"type": "item_reference", "id": "msg_1"}), "input[0].type"),
    "item by its id alone": (within({"id": "msg_1"}), "input[0].role"),
    "search call": (within({"type": "web_search_call", "id": "ws_1"}), "input[0].type"),
    "compacted": (within({"type": "compaction", "encrypted_content": "x"}), "input[0].type"),
    "encrypted": (
        within({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "AAAA"}),
        "input[0].encrypted_content",
    ),
    "image": (within(message("user", {"type": "input_image", "image_url": "data:x"})), "input[0].content[0].type"),
    "file in a result": (
        within({"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "f"}]}),
        "input[0].output[0].type",
    ),
    "annotations": (
        within(message("assistant", {"type": "output_text", "text": "a", "annotations": [{"title": "b"}]})),
        "input[0].content[0].annotations",
    ),
    "unknown role": (within({"role": "oracle", "content": "a"}), "input[0].role"),
    "a role of a call": (
        within({"type": "function_call", "role": "user", "call_id": "c", "name": "x", "arguments": ""}),
        "input[0].role",
    ),
    "an id that is a text": (within({**HELLO, "id": "a b"}), "input[0].id"),
    "no input": ({"model": "m"}, "input"),
    "an empty input": ({"input": []}, "input"),
    "too many items": ({"input": [HELLO] * 513}, "input"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_guarded_is_refused_by_name(what: str) -> None:
    request, param = REFUSED[what]
    with pytest.raises(RequestError) as refused:
        judged_messages(request)
    assert refused.value.param == param and refused.value.status == 400


def test_the_endpoint_is_told_to_remember_nothing_and_gets_no_id_that_it_knows() -> None:
    items = [
        {"type": "message", "id": "msg_secret", "role": "assistant", "content": "a", "status": "completed"},
        {"type": "reasoning", "id": "rs_secret", "summary": []},
        {"type": "function_call", "id": "fc_secret", "call_id": "c", "name": "x", "arguments": "{}"},
        HELLO,
    ]
    asked = read_request(json.dumps({"model": "m", "input": items, "store": False}).encode(), 9)
    sent = json.loads(asked.payload)
    assert sent["store"] is False
    assert [item.get("id") for item in sent["input"]] == ["msg_0", "rs_1", "fc_2", None]
    assert b"secret" not in asked.payload


def test_a_plain_request_is_read_as_it_stands() -> None:
    request = beside(
        temperature=0.5,
        stream=True,
        reasoning={"effort": "low", "summary": "auto"},
        text={"verbosity": "low"},
        max_output_tokens=9,
        parallel_tool_calls=False,
        truncation="auto",
        include=[],
        conversation=None,
        user="u-1",
    )
    asked = read_request(json.dumps(request).encode(), 9)
    assert asked.messages == (Message("user", "hello"),)
    assert (asked.model, asked.stream, asked.choices) == ("m", True, 1)
    assert json.loads(asked.payload) == request | {"store": False}
