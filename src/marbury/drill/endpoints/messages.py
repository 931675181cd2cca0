"""Anthropic's messages: content blocks that open, grow and close."""

from typing import Any

from marbury.drill.endpoints.endpoint import Ask, Body, Endpoint, as_arguments, tool_parameters
from marbury.drill.script import Event, Script, event

_ODD = ("citation", "unknown block")
CHANNELS = ("content", "reasoning_content", "tool name", "tool arguments", *_ODD)


def _request(ask: Ask) -> Body:
    message = {"role": "user", "content": ask.text}
    body: Body = {"model": ask.model, "max_tokens": 400, "messages": [message], "stream": ask.stream}
    return body | ({"tools": [_tool("tells a tale")]} if ask.channel.startswith("tool") else {})


def _tool(text: str) -> Body:
    return {"name": "tell", "description": text, "input_schema": tool_parameters()}


def _named(kind: str, piece: int | None = None, **fields: Any) -> Event:
    return event({"type": kind, **fields}, piece, kind)


def _message(content: list[Body], reason: str | None) -> Body:
    return {
        "id": "msg_drill",
        "type": "message",
        "role": "assistant",
        "model": "drill-1",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 7},
    }


def _block(channel: str, text: str) -> Body:
    """A content block with its text, or as it opens."""
    if channel == "reasoning_content":
        return {"type": "thinking", "thinking": text, "signature": ""}
    if channel == "tool name":
        return {"type": "tool_use", "id": "toolu_1", "name": text, "input": {}}
    if channel == "tool arguments":
        return {"type": "tool_use", "id": "toolu_1", "name": "tell", "input": {"tale": text} if text else {}}
    if channel == "unknown block":
        return {"type": "afterthought", "afterthought": text}
    if channel == "citation":
        return {"type": "text", "text": "", "citations": [_citation(text)] if text else []}
    return {"type": "text", "text": text}


def _citation(text: str) -> Body:
    place = {"document_index": 0, "document_title": None, "start_char_index": 0, "end_char_index": 1}
    return {"type": "char_location", "cited_text": text, **place}


def _delta(channel: str, text: str) -> Body:
    if channel == "reasoning_content":
        return {"type": "thinking_delta", "thinking": text}
    if channel == "tool arguments":
        return {"type": "input_json_delta", "partial_json": text}
    if channel == "citation":
        return {"type": "citations_delta", "citation": _citation(text)}
    if channel == "unknown block":
        return {"type": "afterthought_delta", "afterthought": text}
    return {"type": "text_delta", "text": text}


def _events(script: Script) -> list[Event]:
    channel = MESSAGES.channel(script)
    pieces = as_arguments(script.pieces) if channel == "tool arguments" else script.pieces
    events = [_named("message_start", message=_message([], None))]
    if channel == "tool name":  # a name is said in one piece
        events.append(_named("content_block_start", script.flag, index=0, content_block=_block(channel, script.text)))
    else:
        events.append(_named("content_block_start", index=0, content_block=_block(channel, "")))
        events += [
            _named("content_block_delta", number, index=0, delta=_delta(channel, piece))
            for number, piece in enumerate(pieces)
        ]
    if script.dies:
        return events
    reason = "tool_use" if channel.startswith("tool") else "end_turn"
    events += [
        _named("content_block_stop", index=0),
        _named("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": 7}),
        _named("message_stop"),
    ]
    if script.late:
        events.append(_named("content_block_delta", index=0, delta=_delta("content", script.late)))
    return events


def _whole(script: Script) -> Body:
    channel = MESSAGES.channel(script)
    return _message([_block(channel, script.text)], "tool_use" if channel.startswith("tool") else "end_turn")


def _before(body: Body, *messages: Body) -> Body:
    return body | {"messages": [*messages, *body["messages"]]}


def _called(tale: str, result: str) -> list[Body]:
    use = {"type": "tool_use", "id": "toolu_1", "name": "tell", "input": {"tale": tale}}
    answer = {"type": "tool_result", "tool_use_id": "toolu_1", "content": result}
    return [
        {"role": "user", "content": "Tell me a tale."},
        {"role": "assistant", "content": [use]},
        {"role": "user", "content": [answer]},
        {"role": "assistant", "content": "Told."},
    ]


_TURN = {"role": "user", "content": "Who are you?"}
MESSAGES = Endpoint(
    name="messages",
    path="/messages",
    channels=CHANNELS,
    request=_request,
    inputs={
        "user": lambda body, text: _before(
            body, {"role": "user", "content": text}, {"role": "assistant", "content": "I see."}
        ),
        "user, parts": lambda body, text: (
            body
            | {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {"type": "text", "text": body["messages"][0]["content"]},
                            {"type": "text", "text": text},
                        ],
                    }
                ]
            }
        ),
        "system": lambda body, text: body | {"system": text},
        "system, parts": lambda body, text: body | {"system": [{"type": "text", "text": text}]},
        "assistant turn": lambda body, text: _before(body, _TURN, {"role": "assistant", "content": text}),
        "prefill": lambda body, text: body | {"messages": [*body["messages"], {"role": "assistant", "content": text}]},
        "tool result": lambda body, text: _before(body, *_called("of the quay", text)),
        "tool call": lambda body, text: _before(body, *_called(text, "told")),
        "tool description": lambda body, text: body | {"tools": [_tool(text)]},
    },
    events=_events,
    whole=_whole,
    odd=_ODD,
)
