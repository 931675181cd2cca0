"""Every channel of every endpoint that can carry a text: the one table behind test_channels.py and docs/channels.md.

A new endpoint adds its rows to REQUESTS and REPLIES; each row's text holds the trigger, and `guarded` says what must
become of it.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import messages_events as say
import test_messages_request as messages
import test_request as chat
from rig import CHANNELS, DONE, event, in_channel, tale, whole

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
BAD = "a forbidden thing"
ESCAPED = '{"a": "\\u0066orbidd\\u0065n thing"}'
Guarded = Literal["judged", "refused", "left out", "breaks off"]
# Rows of the requests that are refused for their shape: nothing in them is a text of its own.
SHAPES = frozenset(
    (
        "too many choices",
        "choices of another type",
        "no messages",
        "no list of messages",
        "no content",
        "a message that is a text",
        "a block that is a text",
        "a block without its text",
        "too many messages",
        "unknown role",
    )
)


class Request(NamedTuple):
    """A request with the trigger in one channel; `field` is what the refusal names."""

    endpoint: str
    channel: str
    guarded: Guarded
    body: dict[str, Any]
    field: str = ""


class Reply(NamedTuple):
    """A reply with the trigger in one channel, as the upstream streams it and says it whole."""

    endpoint: str
    channel: str
    guarded: Guarded
    streamed: list[bytes]
    whole: bytes
    status: int = 200


def asked(
    endpoint: str, read: Mapping[str, dict[str, Any]], refused: Mapping[str, tuple[dict[str, Any], str]]
) -> list[Request]:
    """The rows of an endpoint's requests."""
    rows = [Request(endpoint, name, "judged", body) for name, body in read.items()]
    return rows + [
        Request(endpoint, name, "refused", body, field) for name, (body, field) in refused.items() if name not in SHAPES
    ]


REQUESTS = [
    *asked(CHAT, chat.PLACES, chat.REFUSED),
    *asked(MESSAGES, messages.PLACES, messages.REFUSED),
]

ERROR = b'{"error": {"message": "a forbidden thing"}}'


def _chat(channel: str, guarded: Guarded, delta: dict[str, Any], **beside: Any) -> Reply:
    """A chat completion with one odd field, in the delta or message, or beside it in the choice."""
    choice = {"index": 0, "finish_reason": "stop", **beside}
    streamed = [
        event({"role": "assistant", "content": "green"}),
        event({}, choices=[{**choice, "delta": delta}]),
        DONE,
    ]
    message = {"role": "assistant", "content": "green", **delta}
    return Reply(CHAT, channel, guarded, streamed, whole({}, choices=[{**choice, "message": message}]))


def _message(channel: str, guarded: Guarded, block: dict[str, Any], *deltas: dict[str, Any], **top: Any) -> Reply:
    """A message with one odd block: as it begins and what follows, and whole."""
    events = [
        say.event("content_block_start", index=0, content_block=block),
        *(say.event("content_block_delta", index=0, delta=delta) for delta in deltas),
        say.stop(),
    ]
    return Reply(MESSAGES, channel, guarded, say.streamed(events), say.whole(block, **top))


_TEXT = {"type": "text", "text": "green"}
_LOGPROBS = {"content": [{"token": BAD, "logprob": -1, "bytes": None, "top_logprobs": []}]}

REPLIES = [
    *(Reply(CHAT, name, "judged", tale(BAD, name), whole(in_channel(name, BAD))) for name in CHANNELS),
    Reply(
        CHAT,
        "escaped arguments",
        "judged",
        tale(ESCAPED, "tool"),
        whole(in_channel("tool", ESCAPED)),
    ),
    _chat("logprobs", "left out", {}, logprobs=_LOGPROBS),
    _chat("audio", "left out", {"audio": {"id": "a", "transcript": BAD}}),
    _chat("annotations", "left out", {"annotations": [{"type": "url_citation", "url_citation": {"title": BAD}}]}),
    _chat("unknown field of a message", "left out", {"thoughts": BAD}),
    _chat("unknown field of a choice", "left out", {}, note=BAD),
    _chat("content that is no string", "breaks off", {"content": [{"type": "text", "text": BAD}]}),
    Reply(
        CHAT,
        "unknown field of a reply",
        "left out",
        [event({"content": "green"}, finish="stop", note=BAD), DONE],
        whole({"content": "green"}, note=BAD),
    ),
    Reply(
        CHAT,
        "a choice that was not asked for",
        "breaks off",
        [event({"content": BAD}, 1), DONE],
        whole({}, {"content": BAD}),
    ),
    Reply(CHAT, "error in a reply", "breaks off", [b"data: " + ERROR + b"\n\n"], ERROR),
    Reply(CHAT, "error message", "judged", [ERROR], ERROR, 422),
    *(Reply(MESSAGES, name, "judged", say.tale(BAD, name), say.whole(say.content(name, BAD))) for name in say.CHANNELS),
    Reply(
        MESSAGES,
        "escaped input",
        "judged",
        say.streamed(say.block("tool", ESCAPED[:9], ESCAPED[9:])),
        say.whole(say.content("tool", "x")).replace(b'{"tale": "x"}', ESCAPED.encode()),
    ),
    _message("text at the beginning of a block", "judged", {"type": "text", "text": BAD}),
    _message(
        "input at the beginning of a block",
        "judged",
        {"type": "tool_use", "id": "toolu_1", "name": "tell", "input": {"tale": BAD}},
    ),
    _message(
        "signature",
        "left out",
        {"type": "thinking", "thinking": "hm", "signature": BAD},
        {"type": "signature_delta", "signature": BAD},
    ),
    _message("redacted_thinking", "left out", {"type": "redacted_thinking", "data": BAD}),
    _message(
        "citations",
        "left out",
        {**_TEXT, "citations": [{"type": "char_location", "cited_text": BAD}]},
        {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": BAD}},
    ),
    _message("unknown field of a block", "left out", {**_TEXT, "note": BAD}),
    _message("unknown block", "breaks off", {"type": "song", "text": BAD}),
    _message("server_tool_use", "breaks off", {"type": "server_tool_use", "id": "a", "name": "b", "input": {"q": BAD}}),
    _message("text that is no string", "breaks off", {"type": "text", "text": [BAD]}),
    Reply(
        MESSAGES,
        "stop_sequence that was not asked for",
        "left out",
        say.streamed(say.block("text", "green"), reason="stop_sequence", sequence=BAD),
        say.whole(_TEXT, stop_reason="stop_sequence", stop_sequence=BAD),
    ),
    Reply(
        MESSAGES,
        "unknown field of a message",
        "left out",
        [say.begin(note=BAD), *say.block("text", "green"), *say.end()],
        say.whole(_TEXT, note=BAD),
    ),
    Reply(MESSAGES, "error in a reply", "breaks off", [say.event("error", error={"message": BAD})], ERROR),
    Reply(MESSAGES, "error message", "judged", [ERROR], ERROR, 422),
]
ENDPOINTS = sorted({row.endpoint for row in REQUESTS} | {row.endpoint for row in REPLIES})
