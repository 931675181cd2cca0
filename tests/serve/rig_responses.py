"""What an endpoint of OpenAI's responses says, streamed as OpenAI does and whole."""

import json
from typing import Any

from rig import words

USAGE: dict[str, Any] = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 1},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": 12,
}
CHANNELS = [
    "output_text",
    "refusal",
    "reasoning_text",
    "summary_text",
    "arguments",
    "name",
    "input",
    "custom name",
]
_OF = {
    "output_text": ("response.output_text", "content_index", "response.content_part"),
    "refusal": ("response.refusal", "content_index", "response.content_part"),
    "reasoning_text": ("response.reasoning_text", "content_index", "response.content_part"),
    "summary_text": ("response.reasoning_summary_text", "summary_index", "response.reasoning_summary_part"),
    "arguments": ("response.function_call_arguments", "", ""),
    "input": ("response.custom_tool_call_input", "", ""),
}


def item_of(channel: str, text: str, index: int = 0, status: str = "completed") -> dict[str, Any]:
    """An item that says the text in a channel."""
    item: dict[str, Any] = {"id": f"item_{index}", "status": status}
    if channel in ("output_text", "refusal"):
        part = {"type": channel, "refusal" if channel == "refusal" else "text": text, "annotations": [{"title": "odd"}]}
        return {**item, "type": "message", "role": "assistant", "content": [part]}
    if channel == "summary_text":
        return {**item, "type": "reasoning", "summary": [{"type": channel, "text": text}]}
    if channel == "reasoning_text":
        return {**item, "type": "reasoning", "summary": [], "content": [{"type": channel, "text": text}]}
    call = {**item, "call_id": f"call_{index}", "name": text if "name" in channel else "look"}
    if channel in ("arguments", "name"):
        return {**call, "type": "function_call", "arguments": "{}" if channel == "name" else text}
    return {**call, "type": "custom_tool_call", "input": "go" if channel == "custom name" else text}


def response(output: list[dict[str, Any]], status: str = "completed", **more: Any) -> dict[str, Any]:
    """A response, with fields that nobody asked for."""
    head = {"id": "resp_1", "object": "response", "created_at": 1700000000, "model": "tale-1", "instructions": "odd"}
    return {**head, "status": status, "output": output, "usage": USAGE, "error": None, **more}


def whole(*items: dict[str, Any], **more: Any) -> bytes:
    """A response that is not streamed."""
    return json.dumps(response(list(items), **more)).encode()


class Speech:
    """The events of one streamed response."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.items: list[dict[str, Any]] = []
        self.say("response.created", response=response([], "in_progress"))
        self.say("response.in_progress", response=response([], "in_progress"))

    def say(self, kind: str, **values: Any) -> None:
        """One event."""
        data = json.dumps({"type": kind, "sequence_number": len(self.events), **values}, ensure_ascii=False)
        self.events.append(f"event: {kind}\ndata: {data}\n\n".encode())

    def item(self, channel: str, text: str, *, pieces: list[str] | None = None) -> None:
        """An item that says the text word by word, or in these pieces, and then all of it again as OpenAI does."""
        index, full = len(self.items), item_of(channel, text, len(self.items))
        self.items.append(full)
        bare: dict[str, Any] = (
            {"content": []} if full["type"] == "message" else {"summary": []} if full["type"] == "reasoning" else {}
        )
        bare |= {name: "" for name in ("arguments", "input") if name in full}
        self.say("response.output_item.added", output_index=index, item={**full, **bare, "status": "in_progress"})
        said = "arguments" if channel == "name" else "input" if channel == "custom name" else channel
        stem, number, part = _OF[said]
        at = {"item_id": f"item_{index}", "output_index": index} | ({number: 0} if number else {})
        field = {"refusal": "refusal", "arguments": "arguments", "input": "input"}.get(said, "text")
        if part:
            self.say(f"{part}.added", **at, part={"type": said, field: ""})
        text = text if said == channel else str(full[said])
        for piece in words(text) if pieces is None else pieces:
            self.say(f"{stem}.delta", **at, delta=piece, logprobs=[{"token": piece, "logprob": -1}], obfuscation="odd")
        self.say(f"{stem}.done", **at, **{field: text})
        if part:
            self.say(f"{part}.done", **at, part={"type": said, field: text})
        self.say("response.output_item.done", output_index=index, item=full)

    def end(self, status: str = "completed", **more: Any) -> list[bytes]:
        """The last event, and all of them."""
        self.say(f"response.{status}", response=response(self.items, status, **more))
        return self.events


def spoken(channel: str, text: str) -> list[bytes]:
    """A streamed response of one item."""
    speech = Speech()
    speech.item(channel, text)
    return speech.end()
