"""Runs the drill against a guard: one case after the other, within a time, and nothing but the public protocol."""

import asyncio
import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from marbury.drill import text as texts
from marbury.drill.cases import Case, cases
from marbury.drill.client import Client
from marbury.drill.endpoints.endpoint import Ask, Body, Endpoint
from marbury.drill.endpoints.table import ENDPOINTS
from marbury.drill.script import Script
from marbury.drill.upstream import Upstream, mark
from marbury.drill.verdict import FAILED, Row, row
from marbury.errors import ModelError, SettingsError

WORD = "quillstone"
UPSTREAM_PORT = 8799
_LEAVE_AFTER = 40  # bytes after which a client that leaves goes
_SETTLE_S = 3.0  # how long an upstream may go on before the next case


@dataclass(frozen=True)
class Target:
    """The guard, and how it is asked."""

    url: str  # base URL, with or without /v1
    word: str = WORD
    model: str = "drill-1"
    key: str = "drill"
    timeout_s: float = 15.0  # longest answer
    limit_s: float = 300.0  # whole drill
    wait_s: float = 60.0  # for the guard to be there
    allow_remote: bool = False

    @property
    def base(self) -> str:
        """The base URL that ends in `/v1`."""
        url = self.url.rstrip("/")
        return url if url.endswith("/v1") else f"{url}/v1"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All rows of a drill. `cut_short`: cases for which no time was left."""

    url: str
    word: str
    upstream: str
    seconds: float
    not_served: list[str]  # endpoints
    cut_short: int
    rows: list[Row]

    @property
    def failed(self) -> bool:
        """Something leaked, a harmless control was blocked, or a case, or all of it, proved nothing."""
        attacked = any(row.kind != "control" for row in self.rows)
        return bool(self.cut_short) or not attacked or any(row.verdict in FAILED for row in self.rows)


def check(target: Target, upstream_host: str = "127.0.0.1") -> None:
    """Refuse what a drill must not be aimed at.

    Raises:
        SettingsError: the URL is none, or not of this machine; or the word cannot be used.
    """
    texts.checked(target.word)
    parts = urlsplit(target.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(f"{target.url!r} is no URL of a guard: give one like http://127.0.0.1:8787")
    for host in (parts.hostname, upstream_host):
        if not target.allow_remote and not _loopback(host):
            raise SettingsError(f"{host} is not this machine; --allow-remote drills it all the same, if it is yours")


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def drill(
    target: Target,
    upstream: Upstream,
    *,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Attack the guard, whose upstream is `upstream` and listens already.

    Raises:
        ModelError: the guard does not answer at all.
    """
    began = time.monotonic()
    attack = _Attack(target, upstream)
    await attack.wait(endpoints[0])
    until = time.monotonic() + target.limit_s
    rows: list[Row] = []
    left_out: list[str] = []
    cut_short = 0
    for endpoint in endpoints:
        progress(endpoint.name)
        found, skipped = await _endpoint(attack, endpoint, until)
        if found and found[0].verdict == "not served":
            left_out.append(endpoint.name)
            found = found[:1]
        rows += found
        cut_short += skipped
    seconds = round(time.monotonic() - began, 2)
    return Report(
        url=target.url,
        word=target.word,
        upstream=upstream.url,
        seconds=seconds,
        not_served=left_out,
        cut_short=cut_short,
        rows=rows,
    )


async def _endpoint(attack: "_Attack", endpoint: Endpoint, until: float) -> tuple[list[Row], int]:
    """The rows of an endpoint, and how many cases had no time."""
    rows: list[Row] = []
    refused: set[tuple[str, str, bool]] = set()
    planned = cases(endpoint, attack.target.word)
    for number, case in enumerate(planned):
        if time.monotonic() > until:
            return rows, len(planned) - number
        if case.kind != "control" and case.group in refused:
            continue
        rows.append(await attack.run(case))
        if rows[-1].verdict == "not served" and case.kind == "control":
            refused |= {case.group} if case.prompt is None else {(*case.group[:2], s) for s in (True, False)}
            if number == 0:
                break
    return rows, 0


class _Attack:
    """Numbers the cases, and asks."""

    def __init__(self, target: Target, upstream: Upstream) -> None:
        self.target = target
        self._upstream = upstream
        self._client = Client(target.base, target.key, target.timeout_s)
        self._number = 0

    async def run(self, case: Case) -> Row:
        """One case, and what it has shown."""
        self._number += 1
        number, played = self._number, self._upstream.expect(self._number, case.script)
        leave = _LEAVE_AFTER if case.leaves else None
        seen = await self._client.ask(case.endpoint.path, self._body(case, number), leave)
        await _settled(played.over)
        self._upstream.forget(number)
        return row(number, case, seen, played, self.target.word)

    def _body(self, case: Case, number: int) -> Body:
        ask = Ask(f"Tell me a tale ({mark(number)}).", self.target.model, case.stream, case.where, case.script.choices)
        body = case.endpoint.request(ask) | dict(case.extra)
        return body if case.prompt is None else case.endpoint.inputs[case.where](body, case.prompt)

    async def wait(self, endpoint: Endpoint) -> None:
        """Until the guard answers with more than that it is not ready."""
        until = time.monotonic() + self.target.wait_s
        script = Script(endpoint.channels[0], texts.cut(texts.harmless(3), "words", ""))
        while True:
            self._number += 1
            self._upstream.expect(self._number, script)
            ask = Ask(f"Hello ({mark(self._number)}).", self.target.model, False)
            seen = await self._client.ask(endpoint.path, endpoint.request(ask))
            self._upstream.forget(self._number)
            if seen.status not in (0, 502, 503):
                return
            if time.monotonic() > until:
                said = f"answers HTTP {seen.status}" if seen.status else f"does not answer ({seen.broken or 'timeout'})"
                raise ModelError(
                    f"the guard at {self.target.url} {said}: is it running, with {self._upstream.url} behind it?"
                )
            await asyncio.sleep(0.25)


async def _settled(over: asyncio.Event) -> None:
    """Until the upstream has noticed the end, or ran on for long enough."""
    try:
        async with asyncio.timeout(_SETTLE_S):
            await asyncio.sleep(0)
            await over.wait()
    except TimeoutError:
        pass
