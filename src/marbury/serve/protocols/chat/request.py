"""What a chat completion request asks for, and every text in it that a model could be told.

Fields are an allow-list. What carries text is read; what cannot be read, or would answer on a channel that is not
watched, is refused by name. The upstream gets the request as it was understood here, not the client's bytes, so that
two readers of odd JSON cannot understand two things.
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

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}


def read_request(body: bytes, max_messages: int) -> Asked:
    """The request in a body.

    Raises:
        RequestError: it is not JSON, or has a field that cannot be read or guarded.
    """
    request = fields.decoded(body)
    plain, unread = set_aside(request.get("messages"), "messages")
    messages = judged_messages({**request, "messages": plain}, max_messages)
    return Asked(
        messages=messages,
        model=request.get("model") or "",
        stream=bool(request.get("stream")),
        include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        choices=request.get("n") or 1,
        payload=msgspec.json.encode(request),
        unread=unread,
    )


def judged_messages(request: Mapping[str, Any], max_messages: int = 512) -> tuple[Message, ...]:
    """Every text of a request, as a conversation: what stands beside the messages comes first, as system text.

    Raises:
        RequestError: a field cannot be read or guarded; `param` names it.
    """
    beside = fields.beside(request, "messages", _FIELDS)
    messages = fields.filled(request.get("messages"), "messages", max_messages, "messages")
    return (*beside, *(_message(message, f"messages[{i}]") for i, message in enumerate(messages)))


def _message(message: Any, where: str) -> Message:
    """All texts of a message in one, in a fixed order."""
    if not isinstance(message, dict):
        raise RequestError(f"{where} must be an object", where)
    role = message.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestError(f"unknown role: one of {', '.join(_ROLES)}", f"{where}.role")
    texts: list[str] = []
    for field in sorted(message, key=_order):
        value = message[field]
        if value is not None and field != "role":
            texts += _IN_MESSAGE.get(field, fields.nothing)(value, f"{where}.{field}")
    return Message(_ROLES[role], "\n".join(text for text in texts if text))


def _order(field: str) -> int:
    return _ORDER.index(field) if field in _ORDER else len(_ORDER)


def _tool_calls(value: Any, where: str) -> list[str]:
    if not isinstance(value, list):
        raise RequestError(f"{where} must be a list", where)
    texts: list[str] = []
    for i, call in enumerate(value):
        texts += fields.record(call, f"{where}[{i}]", _IN_TOOL_CALL)
    return texts


def _function(value: Any, where: str) -> list[str]:
    return fields.record(value, where, {"name": fields.text, "arguments": fields.arguments})


_FIELDS: dict[str, Check] = {
    "model": fields.word,
    "user": fields.word,
    "safety_identifier": fields.word,
    "prompt_cache_key": fields.word,
    "prompt_cache_retention": fields.word,
    "service_tier": fields.word,
    "reasoning_effort": fields.word,
    "verbosity": fields.word,
    "stream": fields.switch,
    "stream_options": fields.options,
    "n": fields.count,
    "logit_bias": fields.biases,
    "logprobs": fields.refused,
    "top_logprobs": fields.refused,
    "audio": fields.refused,
    "modalities": fields.modalities,
    "tools": fields.read_each,
    "functions": fields.read_each,
    "tool_choice": fields.choice,
    "function_call": fields.choice,
    "response_format": fields.read,
    "prediction": fields.read,
    "stop": fields.read,
    "metadata": fields.read,
}
_IN_MESSAGE: dict[str, Check] = {
    "name": fields.text,
    "content": fields.content({"text": "text", "refusal": "refusal"}),
    "reasoning_content": fields.text,
    "reasoning": fields.text,
    "refusal": fields.text,
    "tool_calls": _tool_calls,
    "function_call": _function,
    "tool_call_id": fields.word,
}
_ORDER = tuple(_IN_MESSAGE)
_IN_TOOL_CALL: dict[str, Check] = {
    "id": fields.word,
    "type": fields.word,
    "index": fields.nothing,
    "function": _function,
}
