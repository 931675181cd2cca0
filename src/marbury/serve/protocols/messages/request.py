"""What a request for a message asks for, and every text in it that a model could be told.

Fields are an allow-list. What carries text is read; what cannot be read is refused by name. That holds for a
signature and for redacted thinking too: they are another text in a code that only the upstream can read.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import Any

import msgspec

from marbury.errors import RequestError
from marbury.records import Message, Role
from marbury.serve.protocols import fields
from marbury.serve.protocols.fields import Check
from marbury.serve.protocols.media import ANTHROPIC, set_aside
from marbury.serve.protocols.protocol import Asked

_ROLES: tuple[Role, ...] = ("user", "assistant", "system")
_CHOICES = ("auto", "any", "tool", "none")


def read_request(body: bytes, max_messages: int) -> Asked:
    """The request in a body.

    Raises:
        RequestError: it is not JSON, or has a field that cannot be read or guarded.
    """
    request = fields.decoded(body)
    plain, unread = set_aside(request.get("messages"), "messages", ANTHROPIC)
    messages = judged_messages({**request, "messages": plain}, max_messages)
    return Asked(
        messages=messages,
        model=request.get("model") or "",
        stream=bool(request.get("stream")),
        include_usage=True,
        choices=1,
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
    read = [part for i, message in enumerate(messages) for part in _message(message, f"messages[{i}]")]
    return (*beside, *_joined(read))


def _joined(messages: list[Message]) -> list[Message]:
    """Messages of one role that follow each other are one turn to the upstream: a word may go across their border."""
    read: list[Message] = []
    for role, group in groupby(messages, lambda message: message.role):
        turn = [message.content for message in group]
        read += [Message(role, text) for text in turn]
        if len(turn) > 1 and (more := fields.both_ways(turn)[1:]):
            read[-1] = Message(role, "\n".join([turn[-1], *more]))
    return read


def _message(message: Any, where: str) -> list[Message]:
    """The texts of a message; results of tools, which stand in a user's message, are messages of their own."""
    if not isinstance(message, dict):
        raise RequestError(f"{where} must be an object", where)
    role = message.get("role")
    if role not in _ROLES:
        raise RequestError(f"unknown role: one of {', '.join(_ROLES)}", f"{where}.role")
    for field, value in message.items():
        if field not in ("role", "content"):
            fields.nothing(value, f"{where}.{field}")
    content = message.get("content")
    if isinstance(content, str):
        return [Message(role, content)]
    if not isinstance(content, list):
        raise RequestError(f"{where}.content must be a string or a list of content blocks", f"{where}.content")
    blocks = [_block(block, f"{where}.content[{i}]") for i, block in enumerate(content)]
    if not blocks:
        return [Message(role, "")]
    read = []
    for is_result, group in groupby(blocks, lambda block: block[0] == "tool_result"):
        same = list(group)
        read.append(Message("tool" if is_result else role, "\n".join(_texts(same))))
    return read


def _texts(blocks: list[tuple[str, list[str]]]) -> list[str]:
    """What blocks say; text blocks that meet inside a word are read joined as well: upstreams differ in joining."""
    texts = [text for _, said in blocks for text in said if text]
    return texts + fields.both_ways([text for kind, said in blocks if kind == "text" for text in said])[1:]


def _block(block: Any, where: str) -> tuple[str, list[str]]:
    """The kind of a content block, and its texts."""
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or kind not in _BLOCKS:
        known = "text, thinking, tool_use and tool_result"
        raise RequestError(f"only {known} can be guarded: images, documents and the rest are refused", f"{where}.type")
    for needed in _NEEDED[kind]:
        if block.get(needed) is None:
            raise RequestError(f"a block of type {kind} needs {needed!r}", f"{where}.{needed}")
    return kind, fields.record({k: v for k, v in block.items() if k != "type"}, where, _BLOCKS[kind])


def _text_blocks(value: Any, where: str) -> list[str]:
    """A string, or a list of text blocks."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise RequestError(f"{where} must be a string or a list of text blocks", where)
    blocks = [_block(block, f"{where}[{i}]") for i, block in enumerate(value)]
    for i, (kind, _) in enumerate(blocks):
        if kind != "text":
            raise RequestError("only text can stand here", f"{where}[{i}].type")
    return ["\n".join(_texts(blocks))]


def _unread(value: Any, where: str) -> list[str]:
    """A signature: it may hold the whole of a thought, encrypted."""
    if value in ("", None):
        return []
    raise RequestError(f"{where} cannot be read, so it is refused: send the block without it", where)


def _user(value: Any, where: str) -> list[str]:
    """An id, which is not read; where it is more than a word, it is read like any text."""
    if isinstance(value, str) and not fields.is_word(value):
        return [value]
    return fields.word(value, where)


def _tools(value: Any, where: str) -> list[str]:
    if not isinstance(value, list):
        raise RequestError(f"{where} must be a list", where)
    return [_tool(tool, f"{where}[{i}]") for i, tool in enumerate(value)]


def _tool(tool: Any, where: str) -> str:
    kind = tool.get("type") if isinstance(tool, dict) else ""
    if kind not in (None, "custom"):
        raise RequestError("only tools that the client runs itself can be guarded", f"{where}.type")
    texts = fields.record({k: v for k, v in tool.items() if k != "type"}, where, _IN_TOOL)
    return "\n".join(text for text in texts if text)


def _callers(value: Any, where: str) -> list[str]:
    if value != ["direct"]:
        raise RequestError("a tool may be called by the model alone: leave it out", where)
    return []


def _choice(value: Any, where: str) -> list[str]:
    return fields.record(value, where, {"type": _choice_type, "name": fields.text})


def _choice_type(value: Any, where: str) -> list[str]:
    if value not in _CHOICES:
        raise RequestError(f"{where} is one of {', '.join(_CHOICES)}", where)
    return []


def _in(known: dict[str, Check]) -> Check:
    """An object with these fields."""
    return lambda value, where: fields.record(value, where, known)


_FIELDS: dict[str, Check] = {
    "model": fields.word,
    "stream": fields.switch,
    "system": _text_blocks,
    "stop_sequences": fields.read,
    "metadata": _in({"user_id": _user}),
    "service_tier": fields.word,
    "inference_geo": fields.word,
    "speed": fields.word,
    "thinking": fields.words,
    "cache_control": fields.words,
    "output_config": _in({"effort": fields.word, "format": fields.read}),
    "output_format": fields.read,
    "tools": _tools,
    "tool_choice": _choice,
}
_IN_TOOL: dict[str, Check] = {
    "name": fields.text,
    "description": fields.text,
    "input_schema": fields.read,
    "input_examples": fields.read,
    "cache_control": fields.words,
    "allowed_callers": _callers,
}
_BLOCKS: dict[str, dict[str, Check]] = {
    "text": {"text": fields.text, "cache_control": fields.words},
    "thinking": {"thinking": fields.text, "signature": _unread},
    "tool_use": {
        "id": fields.word,
        "name": fields.text,
        "input": fields.read,
        "cache_control": fields.words,
        "caller": fields.words,
    },
    "tool_result": {"tool_use_id": fields.word, "content": _text_blocks, "cache_control": fields.words},
}
_NEEDED = {"text": ["text"], "thinking": ["thinking"], "tool_use": ["name", "input"], "tool_result": []}
