"""The conversation of one imported row, from its columns of text or its list of messages."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import msgspec

from marbury.dataset.columns import Columns, parts_of
from marbury.records import Message, Role

_ROLES: dict[str, Role] = {
    "human": "user", "prompter": "user", "gpt": "assistant", "bot": "assistant", "ai": "assistant",
    "model": "assistant", "chatgpt": "assistant", "function": "tool",
}  # fmt: skip


def talk_of(columns: Columns, row: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation, ending with a request or a reply.

    Raises:
        ValueError: it cannot be one; says why.
    """
    if "messages" not in columns:
        return tuple(_from_text(columns, row))
    messages = tuple(_message(_role(turn), _content(turn)) for turn in turns_in(columns, row))
    if not any(message.role == "user" for message in messages):
        raise ValueError("the conversation has no user turn")
    if messages[-1].role not in ("user", "assistant"):
        raise ValueError("the conversation ends with neither a request nor a reply")
    return messages


def turns_in(columns: Columns, row: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The messages of a row as they stand in the file; a cell of text may hold them as JSON.

    Raises:
        ValueError: it is no list of objects.
    """
    value = row.get(columns["messages"])
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError):
            value = None
    if not isinstance(value, list) or not value or not all(isinstance(turn, Mapping) for turn in value):
        raise ValueError(f"column {columns['messages']!r} is not a list of messages with role and content")
    return value


def without_reply(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation up to its last request."""
    return messages[: max(number for number, one in enumerate(messages, 1) if one.role == "user")]


def _from_text(columns: Columns, row: Mapping[str, Any]) -> list[Message]:
    system, reply = row.get(columns.get("system", "")), row.get(columns.get("reply", ""))
    parts = [row.get(name) for name in parts_of(columns["request"], row)]
    told = [part for part in parts if part not in (None, "")]
    request = "\n\n".join(told) if all(isinstance(part, str) for part in told) else None
    messages = [_message("system", system)] if system not in (None, "") else []
    messages.append(_message("user", request))
    if reply not in (None, ""):
        messages.append(_message("assistant", reply))
    return messages


def _role(turn: Mapping[str, Any]) -> str:
    role = str(turn.get("role") or turn.get("from") or "").casefold()
    return _ROLES.get(role, role)


def _content(turn: Mapping[str, Any]) -> Any:
    """The text of a message, which may come in parts as in OpenAI's format."""
    content = next((turn[name] for name in ("content", "value", "text") if name in turn), None)
    if isinstance(content, list) and all(isinstance(part, Mapping) and "text" in part for part in content):
        return "\n".join(str(part["text"]) for part in content)
    return content


def _message(role: str, content: Any) -> Message:
    if role not in get_args(Role):
        raise ValueError(f"a message has the unknown role {role!r}")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"the text of a {role} message is missing, empty, or no text")
    try:
        content.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the text of a {role} message is no valid Unicode") from error
    return Message(role, content)  # type: ignore[arg-type]
