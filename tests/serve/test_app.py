"""The proxy's endpoints, seen through the real client and plain HTTP."""

import json
import logging
import threading
from typing import Any

import openai
import pytest
from rig import ASK, LIMITS, Proxy, event, eventually, http, proxy, served, tale, upstream, usage_event, whole

from marbury.errors import SettingsError
from marbury.guard import Judge, Mode, ScriptedScorer
from marbury.serve import ServeSettings, create_app
from marbury.serve.journal import Entry, log_entry

BAD: Any = [{"role": "user", "content": "Tell me of the forbidden."}]
STREAM = {"model": "m", "messages": ASK, "stream": True}


async def post(running: Proxy, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
    return await http("POST", f"{running.url}/v1/chat/completions", json=body, headers=headers)


# Blocked requests


async def test_a_blocked_request_gets_an_ordinary_empty_answer() -> None:
    with proxy([whole({"content": "never"})]) as running:
        async with running.client() as client:
            reply = await client.chat.completions.create(model="tale-1", messages=BAD, n=2)
        assert [(c.message.content, c.finish_reason) for c in reply.choices] == [("", "content_filter")] * 2
        assert reply.model == "tale-1" and reply.usage is not None and reply.usage.total_tokens == 0
        assert running.upstream.asked == []
        row = running.rows()[0]
        assert row.outcome == "input_blocked" and row.status == 200 and row.error is None
        assert row.input is not None and row.input.category == "scripted"


async def test_a_blocked_stream_is_a_stream() -> None:
    with proxy(tale("never")) as running:
        async with running.client() as client:
            asked: Any = {"model": "m", "messages": BAD, "stream": True, "stream_options": {"include_usage": True}}
            chunks = [chunk async for chunk in await client.chat.completions.create(**asked)]
        finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert finishes == [None, "content_filter"]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].usage is not None
        status, headers, body = await post(running, {**STREAM, "messages": BAD})
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert body.endswith(b"data: [DONE]\n\n")
        assert running.upstream.asked == []


@pytest.mark.parametrize("stream", [True, False])
async def test_a_block_may_be_an_error_instead(stream: bool) -> None:
    with proxy([], serve={"block_status": 400}) as running:
        async with running.client() as client:
            with pytest.raises(openai.BadRequestError) as blocked:
                await client.chat.completions.create(model="m", messages=BAD, stream=stream)
        assert blocked.value.code == "content_filter" and blocked.value.param == "messages"
        assert running.upstream.asked == []
        assert running.rows()[0].outcome == "input_blocked"


async def test_the_client_is_never_told_which_rule_or_score() -> None:
    for serve in ({}, {"block_status": 400}):
        with proxy(tale("a forbidden b"), serve=serve) as running:
            for messages in (BAD, ASK):
                _, headers, body = await post(running, {**STREAM, "messages": messages})
                told = (str(headers) + body.decode()).lower()
                assert "scripted" not in told and "10.0" not in told and "forbidden" not in told


# Whole replies


async def test_a_harmless_reply_passes_whole() -> None:
    message = {
        "content": "green hills",
        "reasoning_content": "short thought",
        "annotations": [{"text": "dropped"}],
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}],
    }
    with proxy(
        [whole(message, system_fingerprint="fp_1", prompt_logprobs=[{"x": 1}])], kind="application/json"
    ) as running:
        async with running.client() as client:
            reply = await client.chat.completions.create(model="m", messages=ASK)
        said = reply.choices[0].message
        assert said.content == "green hills" and said.model_extra == {"reasoning_content": "short thought"}
        assert said.tool_calls is not None and said.tool_calls[0].model_dump() == message["tool_calls"][0]
        assert reply.usage is not None and reply.usage.total_tokens == 12
        assert (reply.id, reply.system_fingerprint) == ("chatcmpl-1", "fp_1")
        assert "dropped" not in reply.model_dump_json() and reply.model_extra == {}
        row = running.rows()[0]
        assert [output.channel for output in row.outputs] == [
            "reasoning_content",
            "content",
            "tool_calls[0].name",
            "tool_calls[0].arguments",
        ]


async def test_a_flagged_choice_is_withheld_whole_and_the_others_pass() -> None:
    bad = {"content": "a good beginning", "reasoning_content": "then the forbidden"}
    with proxy([whole({"content": "green"}, bad, {"content": "hills"})], kind="application/json") as running:
        async with running.client() as client:
            reply = await client.chat.completions.create(model="m", messages=ASK, n=3)
        assert [(c.message.content, c.finish_reason) for c in reply.choices] == [
            ("green", "stop"),
            ("", "content_filter"),
            ("hills", "stop"),
        ]
        assert "forbidden" not in reply.model_dump_json() and "beginning" not in reply.model_dump_json()
        assert running.rows()[0].outcome == "output_blocked"


@pytest.mark.parametrize("step", [0, 2])
async def test_a_failing_guard_is_503_and_no_block(step: int) -> None:
    with proxy([whole({"content": "green hills far away"})], kind="application/json") as running:
        running.scorer.fails_at = step
        async with running.client() as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await client.chat.completions.create(model="m", messages=ASK)
        assert failed.value.status_code == 503 and failed.value.code == "guard_unavailable"
        assert failed.value.response.headers["retry-after"] == "1"
        assert len(running.upstream.asked) == (step > 0)
        row = running.rows()[0]
        assert (row.outcome, row.judging_failed) == ("guard_error", True)
        assert "RuntimeError" in str(row.error) and "scripted failure" not in str(row.error)


# The upstream


async def test_what_is_asked_reaches_the_upstream() -> None:
    with proxy(tale("green hills")) as running:
        await post(running, STREAM, authorization="Bearer client-key", cookie="a=b", **{"x-other": "c"})
        assert running.upstream.asked == [{**STREAM, "path": "/v1/chat/completions"}]
        headers = running.upstream.asked_headers[0]
        assert headers["authorization"] == "Bearer client-key"
        assert "cookie" not in headers and "x-other" not in headers


async def test_a_key_of_the_proxy_replaces_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALE_KEY", "proxy-key")
    with proxy(tale("green hills"), serve={"key_env": "TALE_KEY"}) as running:
        await post(running, STREAM, authorization="Bearer client-key", **{"api-key": "client-key"})
        assert running.upstream.asked_headers[0]["authorization"] == "Bearer proxy-key"
        assert "client-key" not in str(running.upstream.asked_headers)


def test_a_key_that_is_not_there_is_a_wrong_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TALE_KEY", raising=False)
    with pytest.raises(SettingsError, match="TALE_KEY"):
        create_app(lambda: Judge(ScriptedScorer("x"), LIMITS), ServeSettings(key_env="TALE_KEY"))


async def test_an_upstream_that_is_not_there_is_502() -> None:
    with upstream() as gone:
        url = gone.url
    with proxy([], serve={}) as running:
        running.service.upstream._base = url
        status, headers, body = await post(running, STREAM)
        assert (status, headers["retry-after"]) == (502, "1")
        assert json.loads(body)["error"]["code"] == "upstream_error"


@pytest.mark.parametrize(("status", "seen"), [(400, 400), (401, 401), (429, 429), (500, 502), (302, 502)])
async def test_an_upstreams_refusal_is_handed_on(status: int, seen: int) -> None:
    said = json.dumps({"error": {"message": "context too long", "code": "context_length_exceeded"}}).encode()
    with proxy([said], status=status, kind="application/json", headers="retry-after: 7\r\n") as running:
        found, headers, body = await post(running, STREAM)
        error = json.loads(body)["error"]
        assert (found, headers["retry-after"]) == (seen, "7")
        assert (error["message"], error["code"]) == ("context too long", "context_length_exceeded")
        assert running.rows()[0].outcome == "upstream_error"


@pytest.mark.parametrize("said", [b'{"error": {"message": "could not parse: forbidden"}}', b"forbidden", b"[1]", b""])
async def test_an_upstreams_refusal_is_judged_too(said: bytes) -> None:
    with proxy([said], status=422, kind="application/json") as running:
        status, _, body = await post(running, STREAM)
        assert status == 422 and b"forbidden" not in body
        assert json.loads(body)["error"]["message"] == "The upstream refused the request with HTTP status 422."


@pytest.mark.parametrize(
    "reply",
    [b"no json", b'{"choices": []}', b'{"choices": [{"message": {"content": 7}}]}', b'{"error": {"message": "x"}}'],
)
async def test_a_reply_that_cannot_be_read_is_502(reply: bytes) -> None:
    with proxy([reply], kind="application/json") as running:
        status, _, body = await post(running, {"model": "m", "messages": ASK})
        assert status == 502 and json.loads(body)["error"]["code"] == "upstream_error"


async def test_a_stream_that_is_none_is_502() -> None:
    with proxy([whole({"content": "green"})], kind="application/json") as running:
        assert (await post(running, STREAM))[0] == 502


async def test_a_reply_that_is_too_long_is_502() -> None:
    with proxy([whole({"content": "green" * 99})], kind="application/json", serve={"max_reply_bytes": 100}) as running:
        assert (await post(running, {"model": "m", "messages": ASK}))[0] == 502


# Refusals


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/responses/resp_1/cancel"),
        ("POST", "/v1/messages/count_tokens"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1//chat/completions"),
        ("GET", "/v1/models/tale-1"),
        ("GET", "/"),
    ],
)
async def test_every_other_endpoint_is_refused(method: str, path: str) -> None:
    with proxy([]) as running:
        status, _, body = await http(method, running.url + path)
        error = json.loads(body)["error"]
        assert status in (404, 405) and error["code"] == "endpoint_not_guarded"
        assert "not guarded" in error["message"]
        assert running.upstream.asked == []


async def test_an_unguarded_field_is_refused_by_name() -> None:
    with proxy([]) as running:
        async with running.client() as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.chat.completions.create(model="m", messages=ASK, logprobs=True)
        assert (refused.value.param, refused.value.code) == ("logprobs", "not_guarded")
        assert running.upstream.asked == []
        assert running.rows()[0].outcome == "refused"


async def test_a_body_that_is_too_long_is_413() -> None:
    with proxy([], serve={"max_body_bytes": 100}) as running:
        status, _, body = await post(running, {"messages": [{"role": "user", "content": "a" * 200}]})
        assert status == 413 and json.loads(body)["error"]["code"] == "body_too_large"


@pytest.mark.parametrize(("one", "other"), [("off", "enforce"), ("enforce", "off")])
async def test_a_side_that_is_off_does_not_look(one: Mode, other: Mode) -> None:
    with proxy(tale("a forbidden b"), modes=(one, other)) as running:
        _, _, good = await post(running, STREAM)
        _, _, bad = await post(running, {**STREAM, "messages": BAD})
        assert (b"content_filter" in good) == (other == "enforce")
        assert (b"forbidden" in good) == (other == "off")
        assert (len(running.upstream.asked) == 2) == (one == "off")
        assert b"content_filter" in bad


async def test_shadow_hands_on_the_very_bytes() -> None:
    stream = b"".join([*tale("a forbidden b")[:-1], b": aside\r\n\r\n", usage_event(), b"data: [DONE]\n\n"])
    reply = whole({"content": "a forbidden b", "extra": 1})
    for said, kind, body in ((stream, "text/event-stream", STREAM), (reply, "application/json", {"messages": BAD})):
        with proxy([said], kind=kind, modes=("shadow", "shadow")) as running:
            assert (await post(running, body))[2] == said
            row = running.rows()[0]
            assert row.outcome == "passed" and row.outputs[0].verdict.flagged
            assert row.input is not None and row.input.flagged == (body != STREAM)


async def test_shadow_hands_on_what_it_cannot_read() -> None:
    for said, status in ((b"data: {oops\n\n", 200), (b"what?", 500)):
        with proxy([said], modes=("shadow", "shadow"), status=status) as running:
            found, _, body = await post(running, {**STREAM, "documents": ["a"]} if status == 500 else STREAM)
            assert (found, body) == (status, said)
            assert running.rows()[0].outcome == "passed"


# Operation


async def test_readiness_waits_for_the_guard() -> None:
    loaded = threading.Event()

    def make() -> Judge:
        loaded.wait(5)
        return Judge(ScriptedScorer("x"), LIMITS, output_mode="shadow", version="abc123")

    app = create_app(make, settings := ServeSettings())
    with served(app, settings) as url:
        assert (await http("GET", f"{url}/healthz"))[0] == 200
        status, _, body = await http("GET", f"{url}/readyz")
        assert (status, json.loads(body)) == (503, {"status": "loading"})
        status, headers, body = await http("POST", f"{url}/v1/chat/completions", json=STREAM)
        assert (status, json.loads(body)["error"]["code"]) == (503, "guard_unavailable")
        assert headers["retry-after"] == "1"
        loaded.set()
        eventually(lambda: app.state.service.judge is not None)
        status, _, body = await http("GET", f"{url}/readyz")
        ready = {"status": "ready", "input": "enforce", "output": "shadow", "constitution": "abc123"}
        ready |= {"on_error": "closed", "media": "refuse"}
        assert (status, json.loads(body)) == (200, ready)


async def test_a_guard_that_cannot_warm_up_is_never_ready() -> None:
    app = create_app(Judge(ScriptedScorer("x", fails_at=1), LIMITS), settings := ServeSettings())
    with served(app, settings) as url:
        eventually(lambda: app.state.service.failure is not None)
        status, _, body = await http("GET", f"{url}/readyz")
        assert (status, json.loads(body)) == (503, {"status": "failed"})


async def test_metrics_count_what_was_decided() -> None:
    with proxy(tale("a forbidden b")) as running:
        for messages in (ASK, BAD):
            await post(running, {**STREAM, "messages": messages})
        running.rows(2)
        status, _, body = await http("GET", f"{running.url}/metrics")
        lines = body.decode().splitlines()
        for line in (
            'marbury_requests_total{outcome="input_blocked",route="chat_completions",stream="true"} 1.0',
            'marbury_requests_total{outcome="output_blocked",route="chat_completions",stream="true"} 1.0',
            'marbury_decisions_total{action="block",category="scripted",stage="input"} 1.0',
            'marbury_decisions_total{action="block",category="scripted",stage="output"} 1.0',
            "marbury_tokens_scored_total 2.0",
            'marbury_guard_seconds_count{stage="input"} 2.0',
            'marbury_guard_seconds_count{stage="output"} 1.0',
            "marbury_queue 0.0",
            "marbury_streams_active 0.0",
            'marbury_policy_info{input="enforce",on_error="closed",output="enforce",version="abc123"} 1.0',
        ):
            assert line in lines
        assert "python_info" not in body.decode()


async def test_every_answer_has_a_request_id_that_the_journal_knows() -> None:
    with proxy(tale("green hills")) as running:
        _, good, _ = await post(running, STREAM)
        _, bad, _ = await post(running, {"messages": 1})
        assert [row.id for row in running.rows(2)] == [
            good["x-marbury-request-id"],
            bad["x-marbury-request-id"],
        ]


def test_the_log_line_is_json_without_any_text(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "marbury.serve"):
        log_entry(Entry(id="1", time=0.0, route="chat_completions", outcome="passed", status=200))
    row = json.loads(caplog.messages[0])
    assert row["outcome"] == "passed" and set(row) == set(Entry.__struct_fields__)


async def test_no_text_of_a_conversation_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), proxy([event({"content": "sotto voce "}), b"data: {sotto\n\n"]) as running:
        asked = {**STREAM, "messages": [{"role": "user", "content": "psst secretly"}]}
        await post(running, asked, authorization="Bearer client-key")
        assert "upstream_error" in str(running.rows())
        log_entry(running.journal[0])
    logged = caplog.text
    assert "sotto" not in logged and "psst" not in logged and "client-key" not in logged


async def test_models_are_listed_by_word_and_number() -> None:
    listed = {"object": "list", "data": [{"id": "tale-1", "created": 5, "owned_by": "us", "permission": ["forbidden"]}]}
    with proxy([json.dumps(listed).encode()], kind="application/json") as running:
        async with running.client() as client:
            models = [model async for model in client.models.list()]
        assert [model.model_dump(exclude_none=True) for model in models] == [
            {"id": "tale-1", "created": 5, "owned_by": "us", "object": "model"}
        ]
        assert running.upstream.asked_headers[0]["authorization"] == "Bearer client-key"


async def test_models_that_cannot_be_listed_are_502() -> None:
    for said, status in ((b"{}", 200), (b"[]", 200), (b"{}", 404)):
        with proxy([said], kind="application/json", status=status) as running:
            assert (await http("GET", f"{running.url}/v1/models"))[0] == 502
