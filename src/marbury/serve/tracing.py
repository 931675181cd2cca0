"""One OpenTelemetry span per request, with a child for each of its phases; nothing at all unless an endpoint is set.

Spans say what a row of the journal says: names, numbers and verdicts, never a text. The client's `traceparent` is
continued and handed on to the upstream; its `tracestate` is not, for that could be any text. OpenTelemetry (extra
`otel`) is imported only when it is used, and sends from a thread of its own: no stream waits for it.
"""

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from marbury import __version__
from marbury.errors import SettingsError
from marbury.serve.journal import Entry
from marbury.serve.settings import ServeSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

FAILED = ("guard_error", "upstream_error", "timeout")  # a block is no error
_CLOSE_MS = 5000  # how long the last spans may take to leave at the end


class Trace(Protocol):
    """The span of one request."""

    def enter(self, phase: str) -> Mapping[str, str]:
        """The next phase begins and the one before ends; gives the headers that hand the trace on."""
        ...

    def end(self, entry: Entry) -> None:
        """The request has ended as this row says."""
        ...


class Tracing(Protocol):
    """Makes a trace for each request."""

    def begin(self, route: str, headers: Mapping[str, str]) -> Trace:
        """A request with these headers has come."""
        ...

    def close(self) -> None:
        """Send what waits. May take a while."""
        ...


class Untraced:
    """No trace at all."""

    def begin(self, route: str, headers: Mapping[str, str]) -> Trace:
        """A trace that is none."""
        return self

    def enter(self, phase: str) -> Mapping[str, str]:
        """No headers."""
        return {}

    def end(self, entry: Entry) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


def tracing_of(settings: ServeSettings) -> Tracing:
    """What the settings ask for.

    Raises:
        SettingsError: spans are to be sent and the extra `otel` is not installed.
    """
    if not settings.otlp_endpoint:
        return Untraced()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise SettingsError(
            "[serve] otlp_endpoint: OpenTelemetry is not installed: pip install 'marbury[otel]', or leave it empty"
        ) from error
    return Spans(OTLPSpanExporter(endpoint=settings.otlp_endpoint))


class Spans:
    """Makes spans and gives them to an exporter, in a thread of its own."""

    def __init__(self, exporter: "SpanExporter") -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({"service.name": "marbury", "service.version": __version__})
        self.provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self.provider.get_tracer("marbury.serve")

    def begin(self, route: str, headers: Mapping[str, str]) -> Trace:
        """The span of a request, a child of the client's if it says which."""
        return _Spanned(self._tracer, route, headers.get("traceparent", ""))

    def close(self) -> None:
        """Send what waits, for five seconds at most."""
        self.provider.force_flush(_CLOSE_MS)
        self.provider.shutdown()


class _Spanned:
    def __init__(self, tracer: Any, route: str, parent: str) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()
        self._began = time.time_ns()
        context = self._propagator.extract({"traceparent": parent}) if parent else None
        self._span = tracer.start_span(f"POST {route}", context, SpanKind.SERVER, start_time=self._began)
        self._phase: Any = None

    def enter(self, phase: str) -> Mapping[str, str]:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._leave()
        kind = SpanKind.CLIENT if phase == "upstream" else SpanKind.INTERNAL
        self._phase = self._tracer.start_span(phase, set_span_in_context(self._span), kind)
        onward: dict[str, str] = {}
        self._propagator.inject(onward, set_span_in_context(self._phase))
        onward.pop("tracestate", None)
        return onward

    def end(self, entry: Entry) -> None:
        from opentelemetry.trace import StatusCode

        self._leave()
        self._span.set_attributes(_attributes(entry))
        for stage, choice, channel, verdict in _verdicts(entry):
            about = {"stage": stage, "choice": choice, "channel": channel, "category": verdict.category or ""}
            about |= {"score": verdict.score, "limit": verdict.threshold, "flagged": verdict.flagged}
            self._span.add_event("verdict", about)
        if entry.outcome in FAILED:
            self._span.set_status(StatusCode.ERROR, entry.outcome)
        # A shadow's verdicts come after the answer has ended: the span ends with the answer.
        self._span.end(self._began + round(entry.seconds * 1e9))

    def _leave(self) -> None:
        if self._phase is not None:
            self._phase.end()
            self._phase = None


def _attributes(entry: Entry) -> dict[str, Any]:
    values = {
        "http.response.status_code": entry.status,
        "gen_ai.request.model": entry.model,
        "marbury.request_id": entry.id,
        "marbury.route": entry.route,
        "marbury.stream": entry.stream,
        "marbury.outcome": entry.outcome,
        "marbury.policy": entry.policy,
        "marbury.candidate": entry.candidate,
        "marbury.tokens_scored": entry.steps,
        "marbury.judging_seconds": entry.judging_seconds,
        "marbury.upstream_seconds": entry.upstream_seconds,
        "marbury.first_text_seconds": entry.first_seconds,
        "marbury.passed_unread": entry.passed_unread,
        "marbury.media": entry.media,
        "marbury.drill": entry.drill,
    }
    for stage in ("input", "output"):
        said = [verdict for name, _, _, verdict in _verdicts(entry) if name == stage]
        if said:
            worst = max(said, key=lambda each: (each.flagged, each.score))
            values |= {f"marbury.{stage}.score": worst.score, f"marbury.{stage}.limit": worst.threshold}
            values[f"marbury.{stage}.flagged"] = worst.flagged
    return {name: value for name, value in values.items() if value is not None}


def _verdicts(entry: Entry) -> list[tuple[str, int, str, Any]]:
    said = [("input", 0, "", entry.input)] if entry.input is not None else []
    return [*said, *(("output", output.choice, output.channel, output.verdict) for output in entry.outputs)]
