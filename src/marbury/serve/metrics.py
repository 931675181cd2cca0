"""Prometheus metrics of the proxy, in a registry of its own. Labels have few values and never a text."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from marbury.guard import Mode
from marbury.scoring import Verdict
from marbury.serve.accounts import Accounts
from marbury.serve.journal import Entry, Store
from marbury.serve.policies import Policies

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LOGITS = (-10, -8, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 8, 10)


class Metrics:
    """Counts what the journal tells."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._shared = ""  # folder where several processes count
        self._enforced: tuple[str, ...] | None = None  # labels of what is live
        into = self.registry
        self.requests = Counter("marbury_requests", "Requests.", ["route", "stream", "outcome"], registry=into)
        self.decisions = Counter("marbury_decisions", "Verdicts.", ["stage", "action", "category"], registry=into)
        self.scores = Histogram("marbury_score", "Logits.", ["stage"], buckets=_LOGITS, registry=into)
        self.judging = Histogram(
            "marbury_guard_seconds", "Waiting for the classifier.", ["stage"], buckets=_SECONDS, registry=into
        )
        self.upstream = Histogram(
            "marbury_upstream_seconds", "Until the upstream's headers.", buckets=_SECONDS, registry=into
        )
        self.tokens = Counter("marbury_tokens_scored", "Tokens of replies that were scored.", registry=into)
        self.media = Counter("marbury_media_passed", "Images, audio and files that passed unscored.", registry=into)
        self.active = Gauge(
            "marbury_streams_active", "Requests in progress.", registry=into, multiprocess_mode="livesum"
        )
        self.first = Histogram(
            "marbury_first_text_seconds", "Until the first text left.", buckets=_SECONDS, registry=into
        )
        self.beside = Counter(
            "marbury_beside_decisions", "Verdicts of the guard that watched.", ["stage", "flagged"], registry=into
        )
        self.unread = Counter("marbury_passed_unread", "Requests that passed unread: it fails open.", registry=into)
        self.policy = Gauge(
            "marbury_policy_info",
            "How many processes enforce it.",
            ["version", "input", "output", "on_error"],
            registry=into,
            multiprocess_mode="livesum",
        )
        self.queue = Gauge(
            "marbury_queue", "Jobs that wait for the classifier.", registry=into, multiprocess_mode="livesum"
        )
        self.swaps = Gauge(
            "marbury_policy_swaps", "How often a newer guard took over.", registry=into, multiprocess_mode="livemax"
        )
        self.stale = Gauge(
            "marbury_policy_stale",
            "1 when newer artifacts could not be loaded.",
            registry=into,
            multiprocess_mode="livemax",
        )

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
        self.judging.labels("input").observe(entry.reading_seconds)
        if entry.outputs:
            self.judging.labels("output").observe(entry.judging_seconds - entry.reading_seconds)
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
        if (judge := policies.judge) is not None:
            on_error = "open" if judge.fail_open else "closed"
            self._enforce(judge.version, judge.input_mode, judge.output_mode, on_error)
        self.swaps.set(policies.swaps)
        self.stale.set(policies.failure is not None)

    def watch(self, accounts: Accounts, store: Store | None) -> None:
        """Tell of accounts, and of the store of rows if there is one, whenever somebody asks."""
        self._gauge("accounts_cooling_down", "Accounts that have to wait.", lambda: accounts.cooling(time.time()))
        self._gauge("cooldowns_begun", "Cool-downs since the start.", lambda: accounts.begun)
        if store is not None:
            self._gauge("audit_up", "Whether the database takes rows.", lambda: store.state().up)
            self._gauge("audit_rows_waiting", "Rows that are not in the database yet.", lambda: store.state().waiting)
            self._gauge("audit_rows_written", "Rows in the database since the start.", lambda: store.state().written)
            self._gauge("audit_rows_lost", "Rows that are in the log alone.", lambda: store.state().lost)
            self._gauge("audit_rows_damaged", "Rows that were put aside.", lambda: store.state().damaged)

    def text(self) -> bytes:
        """All of it in the exposition format."""
        if not self._shared:
            return generate_latest(self.registry)
        everyone = CollectorRegistry()
        MultiProcessCollector(everyone, self._shared)  # type: ignore[no-untyped-call]
        return generate_latest(everyone)

    def share(self, folder: str) -> None:
        """Tell the sum over all processes that count in a folder, those that have ended included."""
        self._shared = folder

    def _enforce(self, *labels: str) -> None:
        if self._enforced not in (None, labels):
            assert self._enforced is not None
            if self._shared:
                self.policy.labels(*self._enforced).set(0)  # what several processes share cannot be removed
            else:
                self.policy.remove(*self._enforced)
        self._enforced = labels
        self.policy.labels(*labels).set(1)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(f"marbury_{name}", text, registry=self.registry).set_function(value)

    def _decided(self, stage: str, verdict: Verdict, mode: Mode) -> None:
        action = "allow" if not verdict.flagged else "block" if mode == "enforce" else "would_block"
        self.decisions.labels(stage, action, verdict.category or "").inc()
        self.scores.labels(stage).observe(verdict.score)
