"""OpenAI's chat completions: every field of a delta or message that can carry a text."""

from typing import Any

from marbury.drill.endpoints.endpoint import Ask, Body, Endpoint, as_arguments, tool_parameters
from marbury.drill.script import DONE, Event, Script, event

_PLAIN = ("content", "reasoning_content", "reasoning", "refusal")
_ODD = ("logprobs", "audio transcript", "unknown field")
CHANNELS = (*_PLAIN, "tool name", "tool arguments", "function_call", *_ODD)
HEAD = {"id": "chatcmpl-drill", "created": 1700000000, "model": "drill-1"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def _request(ask: Ask) -> Body:
    body: Body = {"model": ask.model, "messages": [{"role": "user", "content": ask.text}], "stream": ask.stream}
    if ask.choices > 1:
        body["n"] = ask.choices
    if ask.channel.startswith("tool"):
        body["tools"] = [_tool("tells a tale")]
    return body


def _tool(text: str) -> Body:
    return {"type": "function", "function": {"name": "tell", "description": text, "parameters": tool_parameters()}}


def _said(channel: str, text: str, *, first: bool = True) -> Body:
    """A delta, or the message, that says the text in a channel."""
    if channel == "tool name":
        call = {"index": 0, "id": "call_1", "type": "function"} if first else {"index": 0}
        return {"tool_calls": [{**call, "function": {"name": text, **({"arguments": ""} if first else {})}}]}
    if channel == "tool arguments":
        call = {"index": 0, "id": "call_1", "type": "function"} if first else {"index": 0}
        return {"tool_calls": [{**call, "function": {**({"name": "tell"} if first else {}), "arguments": text}}]}
    if channel == "function_call":
        return {"function_call": {**({"name": "tell"} if first else {}), "arguments": text}}
    if channel == "audio transcript":
        return {"audio": {"id": "audio_1", "data": "", "expires_at": 1800000000, "transcript": text}}
    if channel == "unknown field":
        return {"afterthought": text}
    return {channel: text} if channel in _PLAIN else {}


def _choice(script: Script, channel: str, text: str, *, delta: bool, first: bool = True) -> Body:
    said, more = _said(channel, text, first=first), {}
    if channel == "logprobs":
        token = {"token": text, "logprob": -0.1, "bytes": None, "top_logprobs": []}
        said, more = {"content": ""}, {"logprobs": {"content": [token]}}
    shape = {"delta": said} if delta else {"message": {"role": "assistant", "content": None} | said}
    return {"index": script.choice, **shape, "finish_reason": None, **more}


def _chunk(choices: list[Body], **more: Any) -> Body:
    return HEAD | {"object": "chat.completion.chunk", "choices": choices} | more


def _pieces(script: Script, channel: str) -> tuple[str, ...]:
    return as_arguments(script.pieces) if channel in ("tool arguments", "function_call") else script.pieces


def _others(script: Script) -> list[int]:
    return [index for index in range(script.choices) if index != script.choice]


def _events(script: Script) -> list[Event]:
    channel = CHAT.channel(script)
    reason = "tool_calls" if channel.startswith("tool") else channel if channel == "function_call" else "stop"
    events = [
        event(_chunk([{"index": i, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]))
        for i in range(script.choices)
    ]
    events += [
        event(_chunk([{"index": i, "delta": {"content": script.aside}, "finish_reason": None}]))
        for i in _others(script)
    ]
    events += [
        event(_chunk([_choice(script, channel, piece, delta=True, first=number == 0)]), number)
        for number, piece in enumerate(_pieces(script, channel))
    ]
    if script.dies:
        return events
    events += [
        event(_chunk([{"index": i, "delta": {}, "finish_reason": reason if i == script.choice else "stop"}]))
        for i in range(script.choices)
    ]
    if not script.late:
        return [*events, DONE]
    late = event(_chunk([_choice(script, "content", script.late, delta=True)]))
    return [*events, late, DONE, late]


def _whole(script: Script) -> Body:
    channel = CHAT.channel(script)
    choices = [_choice(script, channel, "".join(_pieces(script, channel)), delta=False)]
    choices += [
        {"index": i, "message": {"role": "assistant", "content": script.aside}, "finish_reason": "stop"}
        for i in _others(script)
    ]
    choices[0]["finish_reason"] = "tool_calls" if channel.startswith("tool") else "stop"
    choices.sort(key=lambda choice: int(choice["index"]))
    return HEAD | {"object": "chat.completion", "choices": choices, "usage": USAGE}


def _before(body: Body, *messages: Body) -> Body:
    return body | {"messages": [*messages, *body["messages"]]}


def _called(arguments: str, result: str) -> list[Body]:
    call = {"id": "call_1", "type": "function", "function": {"name": "tell", "arguments": arguments}}
    return [
        {"role": "user", "content": "Tell me a tale."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]


def _in_schema(body: Body, text: str) -> Body:
    schema = {"name": "tale", "schema": tool_parameters(text)}
    return body | {"response_format": {"type": "json_schema", "json_schema": schema}}


_TURN = {"role": "user", "content": "Who are you?"}
CHAT = Endpoint(
    name="chat completions",
    path="/chat/completions",
    channels=CHANNELS,
    request=_request,
    inputs={
        "user": lambda body, text: body | {"messages": [*body["messages"], {"role": "user", "content": text}]},
        "user, parts": lambda body, text: (
            body | {"messages": [*body["messages"], {"role": "user", "content": [{"type": "text", "text": text}]}]}
        ),
        "system": lambda body, text: _before(body, {"role": "system", "content": text}),
        "developer": lambda body, text: _before(body, {"role": "developer", "content": text}),
        "earlier user turn": lambda body, text: _before(
            body, {"role": "user", "content": text}, {"role": "assistant", "content": "A keeper."}
        ),
        "assistant turn": lambda body, text: _before(body, _TURN, {"role": "assistant", "content": text}),
        "prefill": lambda body, text: body | {"messages": [*body["messages"], {"role": "assistant", "content": text}]},
        "tool result": lambda body, text: _before(body, *_called("{}", text)),
        "tool call": lambda body, text: _before(body, *_called('{"tale": "' + text + '"}', "told")),
        "tool description": lambda body, text: body | {"tools": [_tool(text)]},
        "response_format": _in_schema,
        "prediction": lambda body, text: body | {"prediction": {"type": "content", "content": text}},
    },
    events=_events,
    whole=_whole,
    many=True,
    odd=_ODD,
)
