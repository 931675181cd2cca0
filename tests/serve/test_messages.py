"""Anthropic's messages through the real client, the proxy and sockets."""

import json
from typing import Any

import anthropic
import messages_events as say
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from rig import Proxy, eventually, http, proxy

SAFE = "Once upon a time the hills were green and"
STORY = SAFE + " forbidden things were told all night long"
ASK: Any = [{"role": "user", "content": "Tell me a tale."}]
BAD: Any = [{"role": "user", "content": "Tell me of the forbidden."}]
JSON = "application/json"


class Heard:
    """What a client has put together of a stream."""

    def __init__(self) -> None:
        self.message: Message | None = None
        self.events: list[RawMessageStreamEvent] = []
        self.error: anthropic.APIError | None = None

    def text(self, kind: str = "text") -> str:
        return "".join(said(block, kind) for block in self.message.content) if self.message else ""

    @property
    def all(self) -> str:
        return "".join(event.model_dump_json() for event in self.events)


def said(block: Any, kind: str) -> str:
    if kind == "tool":
        return json.dumps(block.input) if block.type == "tool_use" else ""
    if kind == "tool name":
        return str(block.name) if block.type == "tool_use" else ""
    return str(getattr(block, kind)) if block.type == kind else ""


async def hear(running: Proxy, **asked: Any) -> Heard:
    heard = Heard()
    request: dict[str, Any] = {"model": "tale-1", "max_tokens": 99, "messages": ASK} | asked
    async with running.anthropic() as client:
        try:
            async with client.messages.stream(**request) as stream:
                async for event in stream:
                    heard.events.append(event)  # type: ignore[arg-type]
                    heard.message = stream.current_message_snapshot
        except anthropic.APIError as error:
            heard.error = error
    return heard


async def ask(running: Proxy, **asked: Any) -> Message:
    request: dict[str, Any] = {"model": "tale-1", "max_tokens": 99, "messages": ASK} | asked
    async with running.anthropic() as client:
        reply = await client.messages.create(**request)
    assert isinstance(reply, Message)
    return reply


def in_order(heard: Heard) -> list[str]:
    """The raw kinds of events, which must be those of a well-formed message."""
    raw = ("message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta")
    return [event.type for event in heard.events if event.type in (*raw, "message_stop")]


# Streams


@pytest.mark.parametrize("size", [1, 3, 40, 10_000])
async def test_a_stopped_stream_ends_before_the_flagged_word(size: int) -> None:
    data = b"".join(say.tale(STORY))
    with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
        heard = await hear(running)
        assert heard.text() == SAFE and heard.error is None
        assert heard.message is not None and heard.message.stop_reason == "refusal"
        details = heard.message.stop_details
        assert details is not None and (details.category, details.explanation) == (None, None)
        assert in_order(heard)[-3:] == ["content_block_stop", "message_delta", "message_stop"]
        row = running.rows()[0]
        assert (row.outcome, row.route, row.outputs[0].channel) == ("output_blocked", "messages", "text")


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_harmless_stream_arrives_whole(size: int) -> None:
    text = "Zwölf Öfen \U0001f319 und\n\nein Drache  in der Höhle "
    blocks = [
        say.block("thinking", "a short ", "thought \n"),
        say.block("text", text[:9], text[9:], index=1),
        say.block("tool", '{"wo', 'rd": "\\u00e9', "t\\u00e9 \\ud83c", '\\udf19\\n"}', index=2),
        say.block("text", "and ", "more", index=3),
    ]
    data = b"".join(say.streamed(*blocks, reason="tool_use"))
    with proxy([data[i : i + size] for i in range(0, len(data), size)]) as running:
        heard = await hear(running)
        assert heard.text("thinking") == "a short thought \n" and heard.text() == text + "and more"
        assert heard.message is not None and heard.message.stop_reason == "tool_use"
        assert [block.type for block in heard.message.content] == ["thinking", "text", "tool_use", "text"]
        tool = heard.message.content[2]
        assert tool.type == "tool_use" and (tool.id, tool.name) == ("toolu_2", "tell")
        assert tool.input == {"word": "été \U0001f319\n"}
        assert (heard.message.id, heard.message.model) == ("msg_1", "tale-1")
        assert (heard.message.usage.input_tokens, heard.message.usage.output_tokens) == (5, 7)
        assert running.rows()[0].outcome == "passed"


@pytest.mark.parametrize("kind", say.CHANNELS)
async def test_every_channel_is_watched_streamed_and_whole(kind: str) -> None:
    for text in ("allowed", "forbidden"):
        with proxy(say.tale(text, kind)) as streaming, proxy([say.whole(say.content(kind, text))], kind=JSON) as one:
            heard, reply = await hear(streaming), await ask(one)
            assert heard.message is not None
            assert heard.message.stop_reason == reply.stop_reason
            assert (reply.stop_reason == "refusal") == (text == "forbidden")
            assert reply.content == [] if text == "forbidden" else text in reply.model_dump_json()
            assert "forbidden" not in heard.all and (text == "forbidden" or text in heard.all)
            # Of a tool nothing is heard before its name has passed.
            assert ("content_block_start" in in_order(heard)) == (text == "allowed" or kind != "tool name")
            assert {o.channel for o in one.rows()[0].outputs} <= {o.channel for o in streaming.rows()[0].outputs}


SPLIT = {
    "deltas": say.block("text", "a forb", "idden thing"),
    "text blocks": [*say.block("text", "a forb"), *say.block("text", "idden thing", index=1)],
    "text blocks around a tool": [
        *say.block("text", "a forb"),
        *say.block("tool", "{}", index=1),
        *say.block("text", "idden thing", index=2),
    ],
    "three text blocks": [
        *say.block("text", "a for"),
        *say.block("thinking", "hm", index=1),
        *say.block("text", "bid", index=2),
        *say.block("tool", "{}", index=3),
        *say.block("text", "den thing", index=4),
    ],
    "escapes": say.block("tool", '{"a": "\\u0066orb', "idd\\u00", '65n thing"}'),
    "the beginning of a block": [
        say.event("content_block_start", index=0, content_block={"type": "text", "text": "a forb"}),
        say.delta("text", "idden thing"),
        say.stop(),
    ],
    "the input at once": [
        say.event(
            "content_block_start",
            index=0,
            content_block={"type": "tool_use", "id": "t", "name": "n", "input": {"a": "forbidden thing"}},
        ),
        say.stop(),
    ],
}


@pytest.mark.parametrize("how", SPLIT)
async def test_a_divided_word_is_read_as_one(how: str) -> None:
    with proxy(say.streamed(SPLIT[how])) as running:
        heard = await hear(running)
        assert heard.message is not None and heard.message.stop_reason == "refusal"
        assert "idden" not in heard.all and "den" not in heard.all and "thing" not in heard.all


async def test_a_word_that_the_client_has_begun_is_read_as_one() -> None:
    for end, reason in (("idden thing", "refusal"), ("ear thing", "end_turn")):
        prefilled = [*ASK, {"role": "assistant", "content": "It was the forb"}]
        reply = [say.whole(say.content("text", end))]
        with proxy(say.tale(end)) as streaming, proxy(reply, kind=JSON) as one:
            heard = await hear(streaming, messages=prefilled)
            assert heard.message is not None and heard.message.stop_reason == reason
            assert heard.text() == ("" if reason == "refusal" else end)
            assert (await ask(one, messages=prefilled)).stop_reason == reason


async def test_other_blocks_of_a_stopped_message_are_silent_too() -> None:
    blocks = [say.block("thinking", "the forbidden thing"), say.block("text", "after all", index=1)]
    for pieces in (say.streamed(*blocks), [b"".join(say.streamed(*blocks))]):
        with proxy(pieces) as running:
            heard = await hear(running)
            assert heard.text("thinking") == "the" and "after" not in heard.all


async def test_the_upstream_is_closed_at_the_stop() -> None:
    endless = [say.delta("text", f"after {i} ") for i in range(500)]
    with proxy([*say.streamed(say.block("text", "a forbidden thing "))[:-3], *endless], delay_s=0.02) as running:
        heard = await hear(running)
        assert heard.error is None and heard.text() == "a" and "after" not in heard.all
        assert running.upstream.left.wait(2) and running.upstream.sent < 50
        eventually(lambda: running.scorer.open == 0)


async def test_what_cannot_be_read_is_left_out() -> None:
    signed = [
        say.event("content_block_start", index=0, content_block={"type": "redacted_thinking", "data": "forbidden"}),
        say.stop(),
        say.event("content_block_start", index=1, content_block={"type": "thinking", "thinking": "", "signature": "x"}),
        say.delta("thinking", "hm", 1),
        say.event("content_block_delta", index=1, delta={"type": "signature_delta", "signature": "forbidden"}),
        say.stop(1),
        say.event("content_block_start", index=2, content_block={"type": "text", "text": "", "citations": []}),
        say.event("ping"),
        say.delta("text", "green", 2),
        say.event(
            "content_block_delta", index=2, delta={"type": "citations_delta", "citation": {"cited_text": "forbidden"}}
        ),
        say.stop(2),
    ]
    body = say.whole(
        {"type": "redacted_thinking", "data": "forbidden"},
        {"type": "thinking", "thinking": "hm", "signature": "forbidden"},
        {"type": "text", "text": "green", "citations": [{"type": "char_location", "cited_text": "forbidden"}]},
        container={"id": "forbidden"},
    )
    with proxy(say.streamed(signed)) as running, proxy([body], kind=JSON) as one:
        heard = await hear(running)
        assert heard.message is not None
        for message in (heard.message, await ask(one)):
            assert [block.type for block in message.content] == ["thinking", "text"]
            assert "forbidden" not in message.model_dump_json() and message.stop_reason == "end_turn"
        assert "forbidden" not in heard.all


async def test_a_stop_sequence_passes_if_it_was_asked_for() -> None:
    for asked, seen in ((["THE END"], "THE END"), (["x"], None)):
        pieces = say.streamed(say.block("text", "a"), reason="stop_sequence", sequence="THE END")
        body = say.whole(say.content("text", "a"), stop_reason="stop_sequence", stop_sequence="THE END")
        with proxy(pieces) as running, proxy([body], kind=JSON) as one:
            heard = await hear(running, stop_sequences=asked)
            assert heard.message is not None
            for message in (heard.message, await ask(one, stop_sequences=asked)):
                assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", seen)


async def test_a_refusal_of_the_upstream_looks_like_one_of_the_guard() -> None:
    pieces = say.streamed(say.block("text", "a"), reason="refusal")
    told = json.dumps({"stop_reason": "refusal", "stop_details": {"type": "refusal", "explanation": "forbidden"}})
    pieces[-2] = b'event: message_delta\ndata: {"type": "message_delta", "delta": %s}\n\n' % told.encode()
    with proxy(pieces) as running:
        heard = await hear(running)
        assert heard.message is not None and heard.message.stop_reason == "refusal"
        assert heard.message.stop_details is not None and heard.message.stop_details.explanation is None
        assert "forbidden" not in heard.all and running.rows()[0].outcome == "passed"


async def test_nothing_is_heard_after_the_ending() -> None:
    pieces = say.streamed(say.block("text", "green"))
    late = [*say.block("text", " and late", index=1), *say.block("tool", "{}", index=2)]
    with proxy([*pieces[:-1], *late, pieces[-2], pieces[-1]]) as running:
        heard = await hear(running)
        assert heard.text() == "green" and in_order(heard) == [
            "message_start",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop",
        ]


async def test_a_block_that_the_upstream_forgets_to_end_is_ended() -> None:
    first, second = say.block("text", "green ")[:-1], say.block("tool", "{}", index=1)[:-1]
    with proxy(say.streamed(first, second)) as running:
        heard = await hear(running)
        assert heard.text() == "green " and heard.message is not None
        assert [block.type for block in heard.message.content] == ["text", "tool_use"]
        assert in_order(heard).count("content_block_stop") == 2


async def test_the_beta_client_is_guarded_too() -> None:
    with proxy([say.whole(say.content("text", "a forbidden thing"))], kind=JSON) as running:
        async with running.anthropic() as client:
            asked: Any = {"model": "m", "max_tokens": 9, "messages": ASK, "betas": ["context-1m-2025-08-07"]}
            reply = await client.beta.messages.create(**asked)
        assert (reply.content, reply.stop_reason) == ([], "refusal")
        assert running.upstream.asked[0]["path"] == "/v1/messages"
        assert running.upstream.asked_headers[0]["anthropic-beta"] == "context-1m-2025-08-07"


BROKEN: dict[str, list[bytes]] = {
    "no JSON": [b"data: {oops\n\n"],
    "no UTF-8": [b'data: {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "\xff"}}\n\n'],
    "another shape": [say.event("content_block_delta", delta={"type": "text_delta", "text": ["forbidden"]})],
    "an error": [say.event("error", error={"type": "overloaded_error", "message": "forbidden"})],
    "an unknown event": [say.event("whisper", text="forbidden")],
    "an unknown block": [
        say.event("content_block_start", index=1, content_block={"type": "song", "text": "forbidden"})
    ],
    "a server tool": [
        say.event("content_block_start", index=1, content_block={"type": "server_tool_use", "id": "a", "name": "b"})
    ],
    "an unknown delta": [say.event("content_block_delta", index=0, delta={"type": "song_delta", "text": "forbidden"})],
    "a delta of another kind": [say.delta("thinking", "forbidden")],
    "a delta of a closed block": [say.delta("text", "forbidden", 7)],
    "two beginnings": [say.begin()],
    "an input that is no object": [
        say.event("content_block_start", index=1, content_block={"type": "tool_use", "input": ["forbidden"]})
    ],
    "no ending": [say.event("message_stop")],
    "no end": [],
}


@pytest.mark.parametrize("how", BROKEN)
async def test_a_broken_upstream_gives_a_broken_stream(how: str) -> None:
    begun = say.streamed(say.block("text", "green hills "))[:3]
    with proxy([*begun, *BROKEN[how]], delay_s=0.02) as running:
        heard = await hear(running)
        assert heard.text().strip() == "green hills"
        assert heard.error is not None and "upstream_error" in str(heard.error.body)
        assert "forbidden" not in str(heard.error.body) + heard.all
        assert "message_stop" not in in_order(heard)
        assert running.rows()[0].outcome == "upstream_error"


@pytest.mark.parametrize("step", [1, 2, 4])
async def test_a_failing_guard_breaks_the_stream(step: int) -> None:
    with proxy(say.tale(SAFE), delay_s=0.02) as running:
        running.scorer.fails_at = step
        heard = await hear(running)
        assert heard.text().split() == SAFE.split()[: step - 1]
        assert heard.error is not None
        body: Any = heard.error.body
        assert body["type"] == "error" and body["error"]["type"] == "api_error"
        assert body["error"]["code"] == "guard_unavailable"
        assert running.rows()[0].outcome == "guard_error"
        eventually(lambda: running.scorer.open == 0)


async def test_shadow_changes_no_byte_and_remembers() -> None:
    blocks = say.block("text", *STORY.split(" "))[:-1], say.block("tool", '{"a": "\\u0066orbidden"}', index=1)
    pieces = say.streamed(*blocks)
    with proxy(pieces, modes=("shadow", "shadow")) as running:
        asked = {"model": "m", "max_tokens": 9, "stream": True, "messages": BAD}
        _, _, body = await http("POST", f"{running.url}/v1/messages", json=asked)
        assert body == b"".join(pieces)
        row = running.rows()[0]
        assert row.outcome == "passed" and row.input is not None and row.input.flagged
        assert [(one.channel, one.verdict.flagged) for one in row.outputs] == [
            ("text", True),
            ("tool_use[0].name", False),
            ("tool_use[0].input", True),
        ]


@pytest.mark.parametrize("size", [30, 10_000])
async def test_a_guard_that_fails_open_says_the_whole_message(size: int) -> None:
    blocks = [
        say.block("text", "green ", "hills"),
        say.block("tool", '{"a": "\\u00', "e9t\\u00e9 far aw", 'ay"}', index=1),
        say.block("text", "and more", index=2),
    ]
    data = b"".join(say.streamed(*blocks))
    for step in (1, 3, 6):
        with proxy([data[i : i + size] for i in range(0, len(data), size)], fail_open=True) as running:
            running.scorer.fails_at = step
            heard = await hear(running)
            assert heard.text() == "green hillsand more" and heard.message is not None
            assert json.loads(heard.text("tool")) == {"a": "été far away"}
            assert heard.message.stop_reason == "end_turn" and running.rows()[0].passed_unread


# Requests and whole replies


async def test_a_blocked_request_gets_an_ordinary_empty_message() -> None:
    with proxy([say.whole()], kind=JSON) as running:
        reply, heard = await ask(running, messages=BAD), await hear(running, messages=BAD)
        assert heard.message is not None
        for message in (reply, heard.message):
            assert (message.content, message.stop_reason, message.model) == ([], "refusal", "tale-1")
            assert message.stop_details is not None and message.stop_details.category is None
            assert message.usage.output_tokens == 0
        assert in_order(heard) == ["message_start", "message_delta", "message_stop"]
        assert running.upstream.asked == []
        assert [row.outcome for row in running.rows(2)] == ["input_blocked"] * 2


async def test_a_block_may_be_an_error_instead() -> None:
    with proxy([], serve={"block_status": 400}) as running:
        with pytest.raises(anthropic.BadRequestError) as blocked:
            await ask(running, messages=BAD)
        body: Any = blocked.value.body
        assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
        assert running.upstream.asked == []


async def test_the_client_is_never_told_which_rule_or_score() -> None:
    for serve in ({}, {"block_status": 400}):
        with proxy(say.tale("a forbidden b"), serve=serve) as running:
            for messages in (BAD, ASK):
                asked = {"model": "m", "max_tokens": 9, "stream": True, "messages": messages}
                _, headers, body = await http("POST", f"{running.url}/v1/messages", json=asked)
                told = (str(headers) + body.decode()).lower()
                assert "scripted" not in told and "10.0" not in told and "forbidden" not in told


async def test_a_harmless_message_passes_whole() -> None:
    content = [
        say.content("thinking", "short thought"),
        say.content("text", "green hills"),
        say.content("tool", "of \u00e9lves") | {"caller": {"type": "direct"}},
    ]
    with proxy([say.whole(*content, stop_reason="tool_use")], kind=JSON) as running:
        reply = await ask(running)
        thought, text, tool = reply.content
        assert thought.type == "thinking" and (thought.thinking, thought.signature) == ("short thought", "")
        assert text.type == "text" and text.text == "green hills"
        assert tool.type == "tool_use" and (tool.id, tool.name, tool.input) == ("toolu_0", "tell", {"tale": "of élves"})
        assert (reply.id, reply.stop_reason, reply.usage.output_tokens) == ("msg_1", "tool_use", 7)
        channels = ["thinking", "text", "tool_use[0].name", "tool_use[0].input"]
        assert [output.channel for output in running.rows()[0].outputs] == channels


async def test_an_escaped_input_is_read() -> None:
    body = say.whole(say.content("tool", "x")).replace(b'"x"', b'"\\u0066orbidden"')
    with proxy([body], kind=JSON) as running:
        assert (await ask(running)).stop_reason == "refusal"


@pytest.mark.parametrize(
    "body", [b"no json", b"{}", b'{"type": "message", "content": [{"type": "song"}]}', say.whole()[:-9], b"[1]"]
)
async def test_a_reply_that_cannot_be_read_is_502(body: bytes) -> None:
    with proxy([body], kind=JSON) as running:
        with pytest.raises(anthropic.InternalServerError) as failed:
            await ask(running)
        assert failed.value.status_code == 502 and "upstream_error" in str(failed.value.body)


@pytest.mark.parametrize(
    ("status", "kind"), [(401, "authentication_error"), (429, "rate_limit_error"), (529, "api_error")]
)
async def test_an_upstreams_refusal_is_handed_on(status: int, kind: str) -> None:
    told = json.dumps({"type": "error", "error": {"type": kind, "message": "come again"}}).encode()
    with proxy([told], status=status, kind=JSON) as running:
        with pytest.raises(anthropic.APIStatusError) as failed:
            await ask(running)
        body: Any = failed.value.body
        assert (body["error"]["type"], body["error"]["message"]) == (kind, "come again")
        assert failed.value.status_code == (status if status < 500 else 502)


async def test_an_unguarded_field_is_refused_by_name() -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}}
    with proxy([]) as running:
        with pytest.raises(anthropic.BadRequestError) as refused:
            await ask(running, messages=[{"role": "user", "content": [image]}])
        assert "messages[0].content[0].type" in str(refused.value.body)
        status, _, body = await http("POST", f"{running.url}/v1/messages/count_tokens", json={})
        assert status == 404 and json.loads(body)["error"]["code"] == "endpoint_not_guarded"
        assert running.upstream.asked == []


# Headers

SENT = {"anthropic-beta": "interleaved-thinking-2025-05-14", "x-api-key": "another-key", "x-other": "no"}


async def test_the_protocols_headers_reach_the_upstream() -> None:
    with proxy(say.tale(SAFE)) as running:
        await hear(running, extra_headers=SENT)
        headers = running.upstream.asked_headers[0]
        # Which of the two a client's key comes in depends on the version of its SDK.
        assert (headers["authorization"], headers["x-api-key"]) == ("Bearer client-key", "another-key")
        assert headers["anthropic-beta"] == SENT["anthropic-beta"] and headers["anthropic-version"]
        assert "x-other" not in headers
        assert running.upstream.asked[0]["path"] == "/v1/messages"


async def test_a_key_of_the_proxy_replaces_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALE_KEY", "proxy-key")
    with proxy(say.tale(SAFE), serve={"key_env": "TALE_KEY"}) as running:
        await hear(running, extra_headers=SENT)
        headers = running.upstream.asked_headers[0]
        assert headers["x-api-key"] == "proxy-key" and "authorization" not in headers
        assert headers["anthropic-beta"] == SENT["anthropic-beta"] and "another-key" not in str(headers)
