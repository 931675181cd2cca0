"""OpenAI's responses: items with typed events, and the whole text once more in the events that close them."""

from typing import Any

from marbury.drill.endpoints.endpoint import Ask, Body, Endpoint, as_arguments, tool_parameters
from marbury.drill.script import Event, Script, event

_ODD = ("closing events", "unknown event")
CHANNELS = ("content", "reasoning_content", "refusal", "tool name", "tool arguments", *_ODD)


def _request(ask: Ask) -> Body:
    body: Body = {"model": ask.model, "input": ask.text, "stream": ask.stream}
    return body | ({"tools": [_tool("tells a tale")]} if ask.channel.startswith("tool") else {})


def _tool(text: str) -> Body:
    return {"type": "function", "name": "tell", "description": text, "parameters": tool_parameters(), "strict": False}


def _part(channel: str, text: str) -> Body:
    if channel == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": []}


def _item(channel: str, text: str, status: str) -> Body:
    """The output item that holds the text."""
    if channel == "reasoning_content":
        return {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": text}] if text else []}
    if channel.startswith("tool"):
        name, arguments = (text or "tell", "{}") if channel == "tool name" else ("tell", text)
        call = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "status": status}
        return call | {"name": name, "arguments": arguments}
    content = [_part(channel, text)] if text else []
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": status, "content": content}


def _response(status: str, output: list[Body]) -> Body:
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 12,
    }
    return {
        "id": "resp_drill",
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "model": "drill-1",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": usage if status == "completed" else None,
    }


_DELTAS: dict[str, tuple[str, Body, str]] = {
    "content": ("response.output_text", {"content_index": 0}, "text"),
    "refusal": ("response.refusal", {"content_index": 0}, "refusal"),
    "reasoning_content": ("response.reasoning_summary_text", {"summary_index": 0}, "text"),
    "tool arguments": ("response.function_call_arguments", {}, "arguments"),
}


class _Said:
    """Events with their running number."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: str, piece: int | None = None, **fields: Any) -> None:
        value = {"type": kind, "sequence_number": len(self.events), **fields}
        self.events.append(event(value, piece, kind))


def _open(said: _Said, channel: str) -> None:
    said.add("response.created", response=_response("in_progress", []))
    said.add("response.output_item.added", output_index=0, item=_item(channel, "", "in_progress"))
    if channel in ("content", "refusal", "closing events", "unknown event"):
        part = _part(channel, "")
        said.add("response.content_part.added", item_id="msg_1", output_index=0, content_index=0, part=part)
    elif channel == "reasoning_content":
        part = {"type": "summary_text", "text": ""}
        said.add("response.reasoning_summary_part.added", item_id="rs_1", output_index=0, summary_index=0, part=part)


def _events(script: Script) -> list[Event]:
    channel, said = RESPONSES.channel(script), _Said()
    pieces = as_arguments(script.pieces) if channel == "tool arguments" else script.pieces
    text, closing = "".join(pieces), script.flag if script.flag is not None else 0
    item_id = _item(channel, "", "")["id"]
    where: Body = {"item_id": item_id, "output_index": 0}
    if channel != "tool name":
        _open(said, channel)
    if channel in _DELTAS:
        kind, place, field = _DELTAS[channel]
        for number, piece in enumerate(pieces):
            said.add(f"{kind}.delta", number, **where, **place, delta=piece)
        if not script.dies:
            said.add(f"{kind}.done", None, **(where | place | {field: text}))
    elif channel == "unknown event":
        for number, piece in enumerate(pieces):
            said.add("response.afterthought.delta", number, **where, delta=piece)
        text = ""
    elif channel == "tool name":  # a name is said in one piece
        said.add("response.created", response=_response("in_progress", []))
        said.add("response.output_item.added", closing, output_index=0, item=_item(channel, text, "in_progress"))
    if script.dies:
        return said.events
    item = _item(channel, text, "completed")
    said.add("response.output_item.done", closing if channel == "closing events" else None, output_index=0, item=item)
    said.add("response.completed", response=_response("completed", [item]))
    if script.late:
        said.add("response.output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta=script.late)
    return said.events


def _whole(script: Script) -> Body:
    channel = RESPONSES.channel(script)
    text = "".join(as_arguments(script.pieces)) if channel == "tool arguments" else script.text
    if channel == "unknown event":
        return _response("completed", [{"type": "afterthought", "id": "at_1", "text": text}])
    return _response("completed", [_item(channel, text, "completed")])


def _turns(body: Body, *items: Body) -> Body:
    return body | {"input": [*items, {"role": "user", "content": body["input"]}]}


def _called(arguments: str, result: str) -> list[Body]:
    return [
        {"type": "function_call", "call_id": "call_1", "name": "tell", "arguments": arguments},
        {"type": "function_call_output", "call_id": "call_1", "output": result},
    ]


def _format(body: Body, text: str) -> Body:
    schema = {"type": "json_schema", "name": "tale", "schema": tool_parameters(text)}
    return body | {"text": {"format": schema}}


RESPONSES = Endpoint(
    name="responses",
    path="/responses",
    channels=CHANNELS,
    request=_request,
    inputs={
        "input": lambda body, text: body | {"input": f"{body['input']} {text}"},
        "input, parts": lambda body, text: _turns(
            body, {"role": "user", "content": [{"type": "input_text", "text": text}]}
        ),
        "instructions": lambda body, text: body | {"instructions": text},
        "system": lambda body, text: _turns(body, {"role": "system", "content": text}),
        "assistant turn": lambda body, text: _turns(
            body, {"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": text}
        ),
        "tool result": lambda body, text: _turns(body, *_called("{}", text)),
        "tool call": lambda body, text: _turns(body, *_called('{"tale": "' + text + '"}', "told")),
        "tool description": lambda body, text: body | {"tools": [_tool(text)]},
        "text.format": _format,
    },
    events=_events,
    whole=_whole,
    odd=_ODD,
)
