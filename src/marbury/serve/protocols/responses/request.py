"""What a responses request asks for, and every text in it that a model could be told.

What the endpoint would fetch from its own memory (earlier responses, conversations, stored prompts and items) is
refused: the guard never saw it. Nor is the endpoint to remember: `store` is sent as false, and the ids of items, under
which it could look something up, are replaced.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from marbury.errors import RequestError
from marbury.records import Message, Role
from marbury.serve.protocols import fields
from marbury.serve.protocols.fields import Check
from marbury.serve.protocols.media import set_aside
from marbury.serve.protocols.protocol import Asked

_ROLES: dict[str, Role] = {"system": "system", "developer": "developer", "user": "user", "assistant": "assistant"}


def read_request(body: bytes, max_messages: int) -> Asked:
    """The request in a body.

    Raises:
        RequestError: it is not JSON, or has a field that cannot be read or guarded.
    """
    request = fields.decoded(body)
    plain, unread = set_aside(request.get("input"), "input")
    messages = judged_messages({**request, "input": plain}, max_messages)
    return Asked(
        messages=messages,
        model=request.get("model") or "",
        stream=bool(request.get("stream")),
        include_usage=True,
        choices=1,
        payload=msgspec.json.encode({**request, "input": _renamed(request["input"]), "store": False}),
        unread=unread,
    )


def judged_messages(request: Mapping[str, Any], max_messages: int = 512) -> tuple[Message, ...]:
    """Every text of a request, as a conversation: what stands beside the input comes first, as system text.

    Raises:
        RequestError: a field cannot be read or guarded; `param` names it.
    """
    beside = fields.beside(request, "input", _FIELDS)
    asked = request.get("input")
    if isinstance(asked, str):
        return (*beside, Message("user", asked))
    if not isinstance(asked, list) or not asked:
        raise RequestError("input must be a string or a list of at least one item", "input")
    if len(asked) > max_messages:
        raise RequestError(f"{len(asked)} items are more than the {max_messages} allowed", "input")
    return (*beside, *(_item(item, f"input[{i}]") for i, item in enumerate(asked)))


def _item(item: Any, where: str) -> Message:
    """All texts of an item in one, in a fixed order."""
    if not isinstance(item, dict):
        raise RequestError(f"{where} must be an object", where)
    kind = item.get("type") or "message"
    if not isinstance(kind, str) or kind not in _ITEMS:
        raise RequestError(f"only items of type {', '.join(_ITEMS)} can be guarded", f"{where}.type")
    known, texts = _ITEMS[kind], list[str]()
    order = [*known, *sorted(field for field in item if field not in known)]
    for field in order:
        value = item.get(field)
        if value is not None and field not in ("type", "role"):
            texts += known.get(field, fields.nothing)(value, f"{where}.{field}")
    return Message(_role(kind, item, where), "\n".join(text for text in texts if text))


def _role(kind: str, item: Mapping[str, Any], where: str) -> Role:
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise RequestError(f"unknown role: one of {', '.join(_ROLES)}", f"{where}.role")
        return _ROLES[role]
    if item.get("role") is not None:
        raise RequestError(f"an item of type {kind} has no role: leave it out", f"{where}.role")
    return "tool" if kind.endswith("_output") else "assistant"


def _renamed(asked: Any) -> Any:
    """Items under ids that the endpoint does not know."""
    if not isinstance(asked, list):
        return asked
    return [
        {**item, "id": f"{_PREFIXES[item.get('type') or 'message']}_{i}"} if item.get("id") is not None else item
        for i, item in enumerate(asked)
    ]


def _state(value: Any, where: str) -> list[str]:
    """A field that brings what the endpoint remembers, or makes it remember, unless it is switched off."""
    if value in (False, None) or value in ("", [], {}):
        return []
    raise RequestError(f"{where} is the endpoint's own memory, which the guard cannot see: leave it out", where)


def _tools(value: Any, where: str) -> list[str]:
    return fields.read_each(value, where, ("function", "custom"))


def _reasoning(value: Any, where: str) -> list[str]:
    words = dict.fromkeys(("effort", "summary", "generate_summary"), fields.word)
    return fields.record(value, where, words)


def _text(value: Any, where: str) -> list[str]:
    return fields.record(value, where, {"format": fields.read, "verbosity": fields.word})


_FIELDS: dict[str, Check] = {
    "model": fields.word,
    "user": fields.word,
    "safety_identifier": fields.word,
    "prompt_cache_key": fields.word,
    "prompt_cache_retention": fields.word,
    "service_tier": fields.word,
    "truncation": fields.word,
    "instructions": fields.text,
    "tools": _tools,
    "tool_choice": fields.choice,
    "text": _text,
    "reasoning": _reasoning,
    "metadata": fields.read,
    "stream": fields.switch,
    "stream_options": fields.options,
    "top_logprobs": fields.refused,
    "previous_response_id": _state,
    "conversation": _state,
    "background": _state,
    "prompt": _state,
    "store": _state,
}
_content = fields.content(
    {
        "input_text": "text",
        "output_text": "text",
        "text": "text",
        "summary_text": "text",
        "reasoning_text": "text",
        "refusal": "refusal",
    }
)
_ANY: dict[str, Check] = {"id": fields.word, "status": fields.word}
_CALL: dict[str, Check] = {**_ANY, "call_id": fields.word, "namespace": fields.text, "name": fields.text}
_ITEMS: dict[str, dict[str, Check]] = {
    "message": {**_ANY, "phase": fields.word, "content": _content},
    "reasoning": {**_ANY, "summary": _content, "content": _content},
    "function_call": {**_CALL, "arguments": fields.arguments},
    "function_call_output": {**_CALL, "output": _content},
    "custom_tool_call": {**_CALL, "input": fields.text},
    "custom_tool_call_output": {**_CALL, "output": _content},
}
_PREFIXES = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}
