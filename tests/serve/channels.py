"""Every channel of every endpoint that can carry a text: the one table behind test_channels.py and docs/channels.md.

A new endpoint adds its rows to REQUESTS and REPLIES; each row's text holds the trigger, and `guarded` says what must
become of it.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import messages_events as say
import rig_responses as responses
import test_completions as completions
import test_litellm as litellm
import test_messages_request as messages
import test_request as chat
import test_responses_request as responses_request
from rig import ASK, CHANNELS, DONE, event, in_channel, tale, whole

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, LITELLM = "/v1/messages", "/beta/litellm_basic_guardrail_api"
# A harmless request of each endpoint that asks a model.
HARMLESS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": ASK},
    COMPLETIONS: {"prompt": "Tell me a tale."},
    RESPONSES: {"input": "Tell me a tale."},
    MESSAGES: {"messages": ASK, "max_tokens": 9},
}
BAD = "a forbidden thing"
ESCAPED = '{"a": "\\u0066orbidd\\u0065n thing"}'
Guarded = Literal["judged", "refused", "left out", "breaks off"]
# Rows of the requests that are refused for their shape: nothing in them is a text of its own.
SHAPES = frozenset(
    (
        "too many choices",
        "choices of another type",
        "no prompt",
        "no input",
        "an empty list",
        "an empty input",
        "too many prompts",
        "too many items",
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


PROMPTS: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": BAD},
    "list of prompts": {"prompt": ["green", BAD]},
    "suffix": {"prompt": "green", "suffix": BAD},
    "stop": {"prompt": "green", "stop": ["hills", BAD]},
}


def to_litellm(kind: str, **fields: Any) -> dict[str, Any]:
    return {**litellm.ABOUT, "input_type": kind, "texts": [], **fields}


REQUESTS = [
    *asked(CHAT, chat.PLACES, chat.REFUSED),
    *asked(COMPLETIONS, PROMPTS, completions.REFUSED),
    *asked(RESPONSES, responses_request.PLACES, responses_request.REFUSED),
    *asked(MESSAGES, messages.PLACES, messages.REFUSED),
    *(Request(LITELLM, name, "judged", to_litellm("request", **fields)) for name, fields in litellm.BAD.items()),
    Request(LITELLM, "escapes in a call", "judged", to_litellm("request", tool_calls=[litellm.CALL])),
    Request(LITELLM, "unknown text", "refused", to_litellm("request", documents=[BAD]), "documents"),
    Request(LITELLM, "a reply's texts", "judged", to_litellm("response", texts=["green", BAD])),
    Request(LITELLM, "a reply's call", "judged", to_litellm("response", tool_calls=[litellm.TOOL])),
    Request(LITELLM, "escapes in a reply's call", "judged", to_litellm("response", tool_calls=[litellm.CALL])),
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


def _completion(channel: str, guarded: Guarded, choice: dict[str, Any], **beside: Any) -> Reply:
    said = {"index": 0, "text": "green", "finish_reason": "stop", **choice}
    streamed = [b"data: " + completions.body([said], **beside) + b"\n\n", DONE]
    return Reply(COMPLETIONS, channel, guarded, streamed, completions.body([said], **beside))


def _event(kind: str, **values: Any) -> list[bytes]:
    """A streamed response with one odd event."""
    speech = responses.Speech()
    speech.say(kind, **values)
    speech.item("output_text", "green")
    return speech.end()


def _response(channel: str, guarded: Guarded, item: dict[str, Any]) -> Reply:
    """A response with one odd item."""
    streamed = _event("response.output_item.added", output_index=1, item=item)
    return Reply(RESPONSES, channel, guarded, streamed, responses.whole(item))


_GREEN = responses.whole(responses.item_of("output_text", "green"))
_PART = {"type": "output_text", "text": "green", "annotations": [{"title": BAD}], "logprobs": [{"token": BAD}]}

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
    _completion("text", "judged", {"text": BAD}),
    _completion("logprobs", "left out", {"logprobs": {"tokens": [BAD], "token_logprobs": [-1.0]}}),
    _completion("unknown field of a choice", "left out", {"note": BAD}),
    _completion("unknown field of a reply", "left out", {}, note=BAD),
    _completion("text that is no string", "breaks off", {"text": [BAD]}),
    _completion("a choice that was not asked for", "breaks off", {"index": 3, "text": BAD}),
    Reply(COMPLETIONS, "error in a reply", "breaks off", [b"data: " + ERROR + b"\n\n"], ERROR),
    Reply(COMPLETIONS, "error message", "judged", [ERROR], ERROR, 422),
    *(
        Reply(RESPONSES, name, "judged", responses.spoken(name, BAD), responses.whole(responses.item_of(name, BAD)))
        for name in responses.CHANNELS
    ),
    Reply(
        RESPONSES,
        "escaped arguments",
        "judged",
        responses.spoken("arguments", ESCAPED),
        responses.whole(responses.item_of("arguments", ESCAPED)),
    ),
    _response(
        "annotations and logprobs",
        "left out",
        {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [_PART]},
    ),
    Reply(
        RESPONSES,
        "unknown field of a reply",
        "left out",
        _event("response.queued", note=BAD),
        responses.whole(responses.item_of("output_text", "green"), note=BAD),
    ),
    Reply(RESPONSES, "unknown event", "left out", _event("response.audio.transcript.delta", delta=BAD), _GREEN),
    _response("unknown item", "breaks off", {"type": "web_search_call", "id": "w", "query": BAD}),
    _response(
        "unknown part",
        "breaks off",
        {"type": "message", "id": "m", "content": [{"type": "output_audio", "transcript": BAD}]},
    ),
    Reply(RESPONSES, "error in a reply", "breaks off", [b"data: " + ERROR + b"\n\n"], ERROR),
    Reply(RESPONSES, "error message", "judged", [ERROR], ERROR, 422),
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
