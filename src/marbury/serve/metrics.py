"""Prometheus metrics of the proxy, in a registry of its own. Labels have few values and never a text."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from marbury.guard import Mode
from marbury.scoring import Verdict
from marbury.serve.journal import Entry
from marbury.serve.policies import Policies

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LOGITS = (-10, -8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10)


class Metrics:
    """Counts what the journal tells."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        into = self.registry
        self.requests = Counter("marbury_requests", "Requests.", ["route", "stream", "outcome"], registry=into)
        self.decisions = Counter("marbury_decisions", "Verdicts.", ["stage", "action", "category"], registry=into)
        self.scores = Histogram("marbury_score", "Logits.", ["stage"], buckets=_LOGITS, registry=into)
        self.judging = Histogram(
            "marbury_guard_seconds", "Waiting for the classifier, by request.", buckets=_SECONDS, registry=into
        )
        self.upstream = Histogram(
            "marbury_upstream_seconds", "Until the upstream's headers.", buckets=_SECONDS, registry=into
        )
        self.tokens = Counter("marbury_tokens_scored", "Tokens of replies that were scored.", registry=into)
        self.media = Counter("marbury_media_passed", "Images, audio and files that passed unscored.", registry=into)
        self.active = Gauge("marbury_streams_active", "Requests in progress.", registry=into)
        self.first = Histogram(
            "marbury_first_text_seconds", "Until the first text left.", buckets=_SECONDS, registry=into
        )
        self.beside = Counter(
            "marbury_beside_decisions", "Verdicts of the guard that watched.", ["stage", "flagged"], registry=into
        )
        self.unread = Counter("marbury_passed_unread", "Requests that passed unread: it fails open.", registry=into)
        self.policy = Gauge(
            "marbury_policy_info", "What is enforced.", ["version", "input", "output", "on_error"], registry=into
        )
        self.swaps = Gauge("marbury_policy_swaps", "How often a newer guard took over.", registry=into)
        self.stale = Gauge("marbury_policy_stale", "1 when newer artifacts could not be loaded.", registry=into)

    def count(self, entry: Entry, input_mode: Mode, output_mode: Mode) -> None:
        """Count a request that has ended."""
        self.requests.labels(entry.route, str(entry.stream).lower(), entry.outcome).inc()
        if entry.route == "moderations":
            input_mode = "shadow"  # it says what it thinks and blocks nothing
        if entry.input is not None:
            self._decided("input", entry.input, input_mode)
        for output in entry.outputs:
            self._decided("output", output.verdict, output_mode)
        if entry.judging_failed:
            self.decisions.labels("input" if entry.input is None else "output", "error", "").inc()
        self.judging.observe(entry.judging_seconds)
        if entry.upstream_seconds is not None:
            self.upstream.observe(entry.upstream_seconds)
        self.tokens.inc(entry.steps)
        self.media.inc(entry.media)
        self.unread.inc(entry.passed_unread)
        if entry.first_seconds is not None:
            self.first.observe(entry.first_seconds)
        if entry.beside is not None and entry.beside.input is not None:
            self.beside.labels("input", str(entry.beside.input.flagged).lower()).inc()
        for output in entry.beside.outputs if entry.beside else ():
            self.beside.labels("output", str(output.verdict.flagged).lower()).inc()

    def live(self, policies: Policies) -> None:
        """What is live now."""
        self.policy.clear()
        if (judge := policies.judge) is not None:
            on_error = "open" if judge.fail_open else "closed"
            self.policy.labels(judge.version, judge.input_mode, judge.output_mode, on_error).set(1)
        self.swaps.set(policies.swaps)
        self.stale.set(policies.failure is not None)

    def text(self) -> bytes:
        """All of it in the exposition format."""
        return generate_latest(self.registry)

    def _decided(self, stage: str, verdict: Verdict, mode: Mode) -> None:
        action = "allow" if not verdict.flagged else "block" if mode == "enforce" else "would_block"
        self.decisions.labels(stage, action, verdict.category or "").inc()
        self.scores.labels(stage).observe(verdict.score)
