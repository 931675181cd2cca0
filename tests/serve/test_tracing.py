"""Spans of requests, read from OpenTelemetry's exporter in memory."""

import builtins
import json
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from rig import ASK, LIMITS, Proxy, eventually, http, proxy, tale

from marbury.errors import SettingsError
from marbury.guard import Judge, ScriptedScorer
from marbury.serve import ServeSettings, create_app
from marbury.serve.tracing import Spans, Untraced, tracing_of

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "moonlit"  # a word of the reply, not of the code


def watched(behind: Proxy) -> InMemorySpanExporter:
    """Lets the proxy make spans and gives them."""
    exporter = InMemorySpanExporter()
    spans = Spans(InMemorySpanExporter())
    spans.provider.add_span_processor(SimpleSpanProcessor(exporter))
    behind.service.tracing = spans
    return exporter


async def asked(behind: Proxy, path: str = "/v1/chat/completions", **how: Any) -> Sequence[ReadableSpan]:
    """The spans of one request, in the order in which they ended; the whole request's is the last."""
    exporter = watched(behind)
    body = {"model": "tale-1", "messages": ASK, "stream": True}
    await http("POST", f"{behind.url}{path}", json=body | how.pop("body", {}), headers=how)
    eventually(lambda: any(span.name.startswith("POST") for span in exporter.get_finished_spans()))
    spans: Sequence[ReadableSpan] = exporter.get_finished_spans()
    return spans


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_request_is_a_span_with_its_phases_below() -> None:
    with proxy(tale(f"The {SECRET} lamp burns all night")) as behind:
        *phases, root = await asked(behind)
    assert [span.name for span in phases] == ["judge request", "upstream", "reply"]
    assert all(span.parent and root.context and span.parent.span_id == root.context.span_id for span in phases)
    assert all((a.end_time or 0) <= (b.start_time or 0) for a, b in zip(phases, phases[1:], strict=False))
    said = attributes(root)
    assert said["marbury.outcome"] == "passed" and said["marbury.policy"] == "abc123"
    assert said["gen_ai.request.model"] == "tale-1" and said["marbury.tokens_scored"] == 6
    assert said["marbury.input.score"] == -10 and said["marbury.output.limit"] == 0
    assert 0 < said["marbury.first_text_seconds"] < 5 and root.status.status_code is not StatusCode.ERROR


async def test_a_stop_is_no_error_and_names_the_verdict() -> None:
    with proxy(tale("The lamp is forbidden here")) as behind:
        *_, root = await asked(behind)
    assert attributes(root)["marbury.outcome"] == "output_blocked" and root.status.status_code is not StatusCode.ERROR
    flagged = [dict(event.attributes or {}) for event in root.events if (event.attributes or {}).get("flagged")]
    assert [(each["stage"], each["channel"], each["score"], each["limit"]) for each in flagged] == [
        ("output", "content", 10, 0)
    ]


async def test_a_failing_guard_is_an_error_and_asks_no_upstream() -> None:
    with proxy(tale("x"), scorer=ScriptedScorer("forbidden")) as behind:
        behind.scorer.fails_at = 0
        *phases, root = await asked(behind)
    assert [span.name for span in phases] == ["judge request"]
    assert root.status.status_code is StatusCode.ERROR and root.status.description == "guard_error"


@pytest.mark.parametrize("stream", [True, False])
async def test_no_text_is_in_any_span(stream: bool) -> None:
    hidden = {"tracestate": f"v={SECRET}", "traceparent": PARENT, "user-agent": SECRET}
    with proxy(tale(f"The {SECRET} lamp is forbidden")) as behind:
        body = {"messages": [{"role": "user", "content": f"Of the {SECRET} sea"}], "stream": stream}
        spans = await asked(behind, body=body, **hidden)
    assert len(spans) == 4
    for span in spans:
        assert SECRET not in str(span.to_json()) and SECRET not in str(span.context)


async def test_the_clients_trace_goes_on_to_the_upstream() -> None:
    with proxy(tale("All is well")) as behind:
        spans = await asked(behind, traceparent=PARENT, tracestate="vendor=text")
    upstream, root = spans[1], spans[-1]
    headers = behind.upstream.asked_headers[-1]
    assert root.parent is not None and f"{root.parent.span_id:016x}" == PARENT.split("-")[2]
    assert upstream.context is not None and "tracestate" not in headers
    assert headers["traceparent"] == f"{PARENT[:35]}-{upstream.context.span_id:016x}-01"


async def test_a_traceparent_that_is_none_begins_a_new_trace() -> None:
    with proxy(tale("All is well")) as behind:
        *_, root = await asked(behind, traceparent="00-say-anything-01")
        assert "anything" not in json.dumps(behind.upstream.asked_headers)
    assert root.parent is None


async def test_a_request_that_is_turned_away_is_a_span() -> None:
    with proxy(tale("x"), serve={"max_streams": 1}) as behind:
        behind.service.active = 1
        (root,) = await asked(behind)
    assert attributes(root)["marbury.outcome"] == "overloaded" and attributes(root)["http.response.status_code"] == 429


async def test_an_endpoint_that_asks_no_model_is_a_span() -> None:
    with proxy(tale("x"), serve={"moderations": True}) as behind:
        (root,) = await asked(behind, "/v1/moderations", body={"input": "a tale"})
    assert attributes(root)["marbury.route"] == "moderations"


async def test_without_an_endpoint_nothing_is_traced() -> None:
    assert isinstance(tracing_of(ServeSettings()), Untraced)
    with proxy(tale("All is well")) as behind:
        await http(
            "POST",
            f"{behind.url}/v1/chat/completions",
            json={"model": "m", "messages": ASK},
            headers={"traceparent": PARENT},
        )
        assert "traceparent" not in behind.upstream.asked_headers[-1]


def test_a_server_without_the_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    judge = Judge(ScriptedScorer("x"), LIMITS)
    with pytest.raises(SettingsError, match=r"otlp_endpoint.*pip install 'marbury\[otel\]'"):
        create_app(judge, ServeSettings(otlp_endpoint="http://127.0.0.1:4318/v1/traces"))
    judge.close()


def test_an_endpoint_must_be_a_url() -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        ServeSettings(otlp_endpoint="localhost:4318")
