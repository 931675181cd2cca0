"""Anthropic's messages as a scripted upstream says them, streamed and whole."""

import json
from typing import Any

from rig import words

CHANNELS = ["text", "thinking", "tool", "tool name"]
DELTAS = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking")}
USAGE = {"input_tokens": 5, "output_tokens": 7}


def event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, ensure_ascii=False).encode()
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), data)


def message(content: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "tale-1",
        "content": content,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": USAGE,
    } | more


def whole(*content: dict[str, Any], **more: Any) -> bytes:
    """A message that is not streamed."""
    return json.dumps(message(list(content), **more)).encode()


def begin(**more: Any) -> bytes:
    return event(
        "message_start", message=message([], stop_reason=None, usage={"input_tokens": 5, "output_tokens": 1}, **more)
    )


def end(reason: str = "end_turn", sequence: str | None = None) -> list[bytes]:
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return [event("message_delta", delta=delta, usage={"output_tokens": 7}), event("message_stop")]


def delta(kind: str, text: str, index: int = 0) -> bytes:
    name, field = DELTAS.get(kind, ("input_json_delta", "partial_json"))
    return event("content_block_delta", index=index, delta={"type": name, field: text})


def block(kind: str, *texts: str, index: int = 0, name: str = "tell") -> list[bytes]:
    """A content block of kind text, thinking or tool, one delta for each text."""
    empty: dict[str, Any] = {"type": kind, kind: ""}
    if kind == "thinking":
        empty["signature"] = ""
    if kind == "tool":
        empty = {"type": "tool_use", "id": f"toolu_{index}", "name": name, "input": {}}
    deltas = [delta(kind, text, index) for text in texts]
    return [event("content_block_start", index=index, content_block=empty), *deltas, stop(index)]


def stop(index: int = 0) -> bytes:
    return event("content_block_stop", index=index)


def streamed(*blocks: list[bytes], reason: str = "end_turn", sequence: str | None = None) -> list[bytes]:
    return [begin(), *(one for each in blocks for one in each), *end(reason, sequence)]


def tale(text: str, kind: str = "text") -> list[bytes]:
    """A streamed message that says the text word by word in a channel."""
    if kind == "tool name":
        return streamed(block("tool", "{}", name=text))
    return streamed(block(kind, *(words(as_input(text)) if kind == "tool" else words(text))))


def as_input(text: str) -> str:
    return json.dumps({"tale": text})


def content(kind: str, text: str) -> dict[str, Any]:
    """A block of a whole message that says the text in a channel."""
    if kind in ("text", "thinking"):
        return {"type": kind, kind: text} | ({"signature": "c2ln"} if kind == "thinking" else {})
    name, given = (text, {}) if kind == "tool name" else ("tell", {"tale": text})
    return {"type": "tool_use", "id": "toolu_0", "name": name, "input": given}
