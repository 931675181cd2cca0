"""The ladder as a table for the terminal."""

from rich import box
from rich.table import Table

from marbury.evaluate.attacks import KINDS
from marbury.evaluate.measures import Rung
from marbury.evaluate.report import Report
from marbury.metrics import Rate

_CAPTION = (
    "Shares in %, with 95 % intervals (Wilson). Classifiers stand in front of the helpful-only model, which knows the "
    "whole handbook and answers every attack."
)


def ladder_table(report: Report) -> Table:
    """One line per configuration: what succeeds of each kind of attack, and what is refused without need."""
    title = "Attacks that succeed, harmless conversations that are refused"
    table = Table(title=title, caption=_CAPTION, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for kind in KINDS:
        table.add_column(f"{kind}\nattacks\n(n={report.measured[f'{kind} attacks']})", justify="right")
    sets = report.ladder["both"].refused
    for name, share in sets.items():
        head = (
            name.replace(", ", "\n")
            .replace("transformed", "trans-\nformed")
            .replace("held-out traffic", "held-out\ntraffic")
        )
        table.add_column(f"{head}\n(n={share.total})", justify="right")
    for rung in report.ladder.values():
        table.add_row(*_line(rung, list(sets)))
    return table


def _line(rung: Rung, names: list[str]) -> list[str]:
    rates = [rung.by_kind[kind] for kind in KINDS] + [rung.refused[name] for name in names]
    return [rung.title, *(_cell(rate) for rate in rates)]


def _cell(rate: Rate) -> str:
    """A share with its interval below it."""
    if not rate.total:
        return "n/a"
    return f"{100 * rate.value:.1f}\n{100 * rate.low:.0f}–{100 * rate.high:.0f}"
