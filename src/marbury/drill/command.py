"""`marbury drill`: upstream up, guard found or started, cases run, tables shown."""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
from rich.console import Console

from marbury.drill.endpoints.endpoint import Endpoint
from marbury.drill.endpoints.table import ENDPOINTS
from marbury.drill.own import own_guard
from marbury.drill.run import Report, Target, check, drill
from marbury.drill.table import drill_tables, failures_table, summary
from marbury.drill.upstream import Upstream
from marbury.errors import SettingsError


@dataclass(frozen=True)
class Plan:
    """What was asked for on the command line."""

    url: str | None
    own: bool
    word: str
    upstream_host: str
    upstream_port: int
    model: str
    key_env: str
    only: tuple[str, ...]
    limit_s: float
    timeout_s: float
    wait_s: float
    allow_remote: bool


async def run(plan: Plan, say: Callable[[str], None]) -> Report:
    """Drill the guard that the plan names.

    Raises:
        SettingsError: the plan is not one, or is aimed at another machine.
        ModelError: the guard does not answer.
    """
    if plan.own == (plan.url is not None):
        raise SettingsError("say which guard: its URL, or --self for Marbury's own")
    chosen, key = _chosen(plan.only), _key(plan.key_env)
    check(_target(plan, plan.url or "http://127.0.0.1", key), plan.upstream_host)
    port = 0 if plan.own else plan.upstream_port
    async with Upstream().listening(plan.upstream_host, port) as upstream:
        say(f"scripted upstream on {upstream.url}")
        with _guard(plan, upstream) as url:
            if not plan.own:
                say(f"waiting for the guard at {url}, which must have that upstream and stop {plan.word!r}; ours:")
                say(f"    marbury serve --drill {plan.word} --upstream {upstream.url}")
            return await drill(_target(plan, url, key), upstream, endpoints=chosen, progress=say)


def show(report: Report, out: Console) -> None:
    """Print the tables and the outcome."""
    for table in drill_tables(report):
        out.print(table)
    failures = failures_table(report)
    if failures is not None:
        out.print(failures)
    out.print(summary(report), highlight=False, soft_wrap=True)


def as_json(report: Report) -> bytes:
    """The report as a file: every case, and whether the drill failed."""
    table = msgspec.to_builtins(report) | {"failed": report.failed}
    return msgspec.json.format(msgspec.json.encode(table), indent=2) + b"\n"


def _target(plan: Plan, url: str, key: str) -> Target:
    return Target(
        url=url,
        word=plan.word,
        model=plan.model,
        key=key,
        timeout_s=plan.timeout_s,
        limit_s=plan.limit_s,
        wait_s=plan.wait_s,
        allow_remote=plan.allow_remote,
    )


def _guard(plan: Plan, upstream: Upstream) -> contextlib.AbstractContextManager[str]:
    return own_guard(plan.word, upstream.url) if plan.url is None else _there(plan.url)


@contextlib.contextmanager
def _there(url: str) -> Iterator[str]:
    yield url


def _chosen(names: tuple[str, ...]) -> tuple[Endpoint, ...]:
    known = {endpoint.name: endpoint for endpoint in ENDPOINTS}
    for name in names:
        if name not in known:
            raise SettingsError(f"--only {name!r} is no endpoint of the drill; there are {', '.join(known)}")
    return tuple(known[name] for name in names) or ENDPOINTS


def _key(name: str) -> str:
    key = os.environ.get(name, "").strip() if name else "drill"
    if not key:
        raise SettingsError(f"--key-env: the environment variable {name} is not set: export it")
    return key
