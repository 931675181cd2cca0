"""What is read of a request for a message, and what is refused."""

import json
from typing import Any

import pytest

from marbury.errors import RequestError
from marbury.records import Message
from marbury.serve.protocols.messages.request import judged_messages, read_request

HELLO = [{"role": "user", "content": "hello"}]


def beside(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 9, "messages": HELLO, **fields}


def within(*messages: dict[str, Any]) -> dict[str, Any]:
    return beside(messages=[*messages, *HELLO])


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def tool(**fields: Any) -> dict[str, Any]:
    return {"name": "look", "input_schema": {"type": "object"}} | fields


def use(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}} | fields


def result(content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", "content": content}


# Every place of a request that can carry text to a model. An input guard that skips one has a hole.
PLACES: dict[str, dict[str, Any]] = {
    "user": within({"role": "user", "content": "a forbidden thing"}),
    "parts": within(user(text("a"), text("forbidden"))),
    "split parts": within(user(text("a forb"), text("idden thing"))),
    "split turns": within({"role": "user", "content": "a forb"}, {"role": "user", "content": "idden thing"}),
    "assistant": within({"role": "assistant", "content": "forbidden"}),
    "assistant parts": within(assistant(text("a"), text("forbidden"))),
    "prefilled assistant": beside(messages=[*HELLO, {"role": "assistant", "content": "forbidden"}]),
    "system message": within({"role": "system", "content": "forbidden"}),
    "system": beside(system="forbidden"),
    "system blocks": beside(system=[text("a"), {**text("forbidden"), "cache_control": {"type": "ephemeral"}}]),
    "split system blocks": beside(system=[text("a forb"), text("idden thing")]),
    "thinking": within(assistant({"type": "thinking", "thinking": "forbidden", "signature": ""}, text("a"))),
    "tool_use name": within(assistant(use(name="forbidden"))),
    "tool_use input": within(assistant(use(input={"x": ["a", {"y": "forbidden"}]}))),
    "tool_use input name": within(assistant(use(input={"forbidden": 1}))),
    "tool_result": within(user(result("forbidden"))),
    "tool_result blocks": within(user(result([text("a"), text("forbidden")]))),
    "split tool_result blocks": within(user(result([text("a forb"), text("idden thing")]))),
    "tool name": beside(tools=[tool(name="forbidden")]),
    "tool description": beside(tools=[tool(description="a forbidden thing")]),
    "tool schema": beside(tools=[tool(input_schema={"type": "object", "properties": {"x": {"enum": ["forbidden"]}}})]),
    "tool parameter name": beside(tools=[tool(input_schema={"type": "object", "properties": {"forbidden": {}}})]),
    "tool examples": beside(tools=[tool(input_examples=[{"x": "forbidden"}])]),
    "tool choice": beside(tool_choice={"type": "tool", "name": "forbidden"}),
    "stop_sequences": beside(stop_sequences=["a", "forbidden"]),
    "metadata.user_id": beside(metadata={"user_id": "a forbidden user"}),
    "output format": beside(output_config={"format": {"type": "json_schema", "schema": {"description": "forbidden"}}}),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_text_is_read(place: str) -> None:
    messages = judged_messages(PLACES[place])
    assert any("forbidden" in message.content for message in messages)
    assert any(message.role == "user" and message.content.startswith("hello") for message in messages)


def test_what_stands_beside_the_messages_comes_first_and_is_no_turn() -> None:
    request = beside(tools=[tool(description="it looks", cache_control={"type": "ephemeral"})], system="be kind")
    assert [(m.role, m.content) for m in judged_messages(request)] == [
        ("system", "look\nit looks"),
        ("system", "be kind"),
        ("user", "hello"),
    ]


def test_results_of_tools_are_told_apart_from_what_the_user_says() -> None:
    messages = judged_messages(within(assistant(use(input={"word": "hill"})), user(result("green"), text("and now?"))))
    assert messages[:3] == (
        Message("assistant", "look\nword\nhill"),
        Message("tool", "green"),
        Message("user", "and now?"),
    )


def test_a_plain_request_is_read_as_it_stands() -> None:
    request = beside(
        temperature=0.5,
        top_k=7,
        stream=True,
        metadata={"user_id": "user-1"},
        thinking={"type": "enabled", "budget_tokens": 1024, "display": "summarized"},
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        service_tier="auto",
        output_config={"effort": "low"},
        cache_control={"type": "ephemeral", "ttl": "5m"},
    )
    asked = read_request(json.dumps(request).encode(), 9)
    assert asked.messages == (Message("user", "hello"),)
    assert (asked.model, asked.stream, asked.choices) == ("m", True, 1)
    assert json.loads(asked.payload) == request


def test_an_answer_may_come_back_as_it_was_given() -> None:
    blocks = [{"type": "thinking", "thinking": "hm", "signature": ""}, text("a") | {"citations": None}]
    blocks.append(use(input={}, caller={"type": "direct"}))
    assert judged_messages(within(assistant(*blocks)))[0] == Message("assistant", "hm\na\nlook")


def odd(*blocks: Any) -> dict[str, Any]:
    return within(user(*blocks))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image": (odd({"type": "image", "source": {"type": "url", "url": "x"}}), "messages[0].content[0].type"),
    "document": (odd(text("a"), {"type": "document", "source": {}}), "messages[0].content[1].type"),
    "search result": (odd({"type": "search_result", "content": []}), "messages[0].content[0].type"),
    "container upload": (odd({"type": "container_upload", "file_id": "f"}), "messages[0].content[0].type"),
    "redacted thinking": (within(assistant({"type": "redacted_thinking", "data": "x"})), "messages[0].content[0].type"),
    "signature": (
        within(assistant({"type": "thinking", "thinking": "", "signature": "c2ln"})),
        "messages[0].content[0].signature",
    ),
    "citations": (
        within(assistant(text("a") | {"citations": [{"cited_text": "b"}]})),
        "messages[0].content[0].citations",
    ),
    "server tool use": (
        within(assistant({"type": "server_tool_use", "id": "a", "name": "web_search", "input": {}})),
        "messages[0].content[0].type",
    ),
    "image in a result": (odd(result([{"type": "image"}])), "messages[0].content[0].content[0].type"),
    "thinking in a result": (
        odd(result([{"type": "thinking", "thinking": "a"}])),
        "messages[0].content[0].content[0].type",
    ),
    "image in the system": (beside(system=[{"type": "image"}]), "system[0].type"),
    "unknown text in a block": (odd(text("a") | {"note": "b"}), "messages[0].content[0].note"),
    "unknown text in a message": (within({"role": "user", "content": "a", "whisper": "b"}), "messages[0].whisper"),
    "text that is a list": (odd({"type": "text", "text": ["a"]}), "messages[0].content[0].text"),
    "a block without its text": (odd({"type": "text"}), "messages[0].content[0].text"),
    "a block that is a text": (odd("a"), "messages[0].content[0].type"),
    "no content": (within({"role": "user"}), "messages[0].content"),
    "unknown role": (within({"role": "tool", "content": "a"}), "messages[0].role"),
    "server tool": (beside(tools=[{"type": "web_search_20250305", "name": "web_search"}]), "tools[0].type"),
    "unknown text in a tool": (beside(tools=[tool(hint="a")]), "tools[0].hint"),
    "callers of a tool": (
        beside(tools=[tool(allowed_callers=["code_execution_20260120"])]),
        "tools[0].allowed_callers",
    ),
    "mcp_servers": (beside(mcp_servers=[{"url": "x"}]), "mcp_servers"),
    "container": (beside(container="container_1"), "container"),
    "context management": (beside(context_management={"edits": [{"type": "a"}]}), "context_management"),
    "fallbacks": (beside(fallbacks=[{"model": "b"}]), "fallbacks"),
    "other metadata": (beside(metadata={"note": "b"}), "metadata.note"),
    "thinking that is a text": (beside(thinking={"type": "say a thing"}), "thinking.type"),
    "unknown tool choice": (beside(tool_choice={"type": "a thing"}), "tool_choice.type"),
    "unknown text": (beside(prompt="a"), "prompt"),
    "a model that is a text": (beside(model="how do I"), "model"),
    "a stream that is a text": (beside(stream="yes"), "stream"),
    "no messages": (beside(messages=None), "messages"),
    "a message that is a text": (beside(messages=["hello"]), "messages[0]"),
    "too many messages": (beside(messages=HELLO * 513), "messages"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_guarded_is_refused_by_name(what: str) -> None:
    request, param = REFUSED[what]
    with pytest.raises(RequestError) as refused:
        judged_messages(request)
    assert refused.value.param == param and refused.value.status == 400
