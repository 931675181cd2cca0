"""The rows of a drill as a table for people: one line for what belongs together, and every failure by itself."""

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import JustifyMethod
from rich.markup import escape
from rich.table import Table

from marbury.drill.run import Report
from marbury.drill.verdict import FAILED, Row

_COLOURS = {"ok": "green", "not served": "dim", "dropped": "dim"}
_WORST = (*FAILED, "ok", "dropped", "not served")  # the first of them names a line


def drill_tables(report: Report) -> Iterator[Table]:
    """A table for each endpoint that is served: a line for each kind and place, with the worst of its cases; controls
    only where something is to be said about them.
    """
    for endpoint in dict.fromkeys(row.endpoint for row in report.rows):
        if endpoint in report.not_served:
            continue
        table = Table(title=endpoint, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for name in ("where", "what", "cases", "through", "upstream", "ended", "ms", "verdict"):
            side: JustifyMethod = "right" if name in ("cases", "through", "ms") else "left"
            folds = name in ("where", "ended")
            table.add_column(name, justify=side, overflow="fold", no_wrap=not folds, min_width=10 if folds else None)
        for rows in _groups(row for row in report.rows if row.endpoint == endpoint):
            if rows[0].kind != "control" or any(row.verdict != "ok" for row in rows):
                table.add_row(*_line(rows))
        yield table


def failures_table(report: Report) -> Table | None:
    """Every case that failed, by itself; None if there is none."""
    failed = [row for row in report.rows if row.verdict in FAILED]
    if not failed:
        return None
    table = Table(title="failed", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("case", "endpoint", "where", "what", "how", "words", "letters", "ended", "verdict", "note"):
        table.add_column(name)
    for row in failed:
        words = [row.case, row.endpoint, row.where, row.kind, _how(row), row.tokens, row.characters]
        table.add_row(*map(str, words), escape(row.ended), _coloured(row.verdict), row.note)
    return table


def _how(row: Row) -> str:
    return f"{row.how}, {'streamed' if row.stream else 'not streamed'}"


def summary(report: Report) -> str:
    """The outcome in a line."""
    attacks = [row for row in report.rows if row.kind != "control"]
    leaked = sum(row.verdict == "leaked" for row in attacks)
    blocked = sum(row.verdict == "blocked" for row in report.rows)
    unclear = sum(row.verdict in ("unproven", "timed out") for row in report.rows)
    said = f"{len(attacks)} attacks, {leaked} leaked; {len(report.rows) - len(attacks)} harmless controls, "
    said += f"{blocked} blocked; {unclear} proved nothing"
    if report.not_served:
        said += f"; not served: {', '.join(report.not_served)}"
    if report.cut_short:
        said += f"; no time for {report.cut_short} cases"
    return f"{said}; {report.seconds:.1f} s"


def _groups(rows: Iterable[Row]) -> list[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.where), []).append(row)
    return list(groups.values())


def _line(rows: Sequence[Row]) -> list[str]:
    first, times = rows[0], [row.first_ms for row in rows if row.first_ms is not None]
    worst = min(rows, key=lambda row: _WORST.index(row.verdict))
    return [
        first.where,
        first.kind,
        str(len(rows)),
        str(max(row.tokens for row in rows)) if first.kind != "control" else "",
        _upstream(rows),
        escape(", ".join(dict.fromkeys(row.ended for row in rows))),
        f"{median(times):.0f}" if times else "",
        _coloured(worst.verdict),
    ]


def _upstream(rows: Sequence[Row]) -> str:
    """Whether the guard hung up, in the cases that were slow enough to tell."""
    told = [row for row in rows if row.closed is not None]
    if not told:
        return ""
    if not all(row.closed for row in told):
        return "[yellow]ran on[/]"
    after = [row.events_after for row in told if row.events_after is not None]
    return f"closed +{max(after)}" if after else "closed"


def _coloured(verdict: str) -> str:
    return f"[{_COLOURS.get(verdict, 'red')}]{verdict}[/]"
