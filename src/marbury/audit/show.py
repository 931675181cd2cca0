"""What `marbury audit` prints and writes."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from marbury.audit import query
from marbury.audit.query import Filter
from marbury.audit.spool import waiting_in
from marbury.audit.stage import reading
from marbury.errors import SettingsError
from marbury.serve import ServeSettings
from marbury.workspace import Workspace


def overview(
    ws: Workspace, settings: ServeSettings, chosen: Filter, limit: int, *, upgrade: bool
) -> Iterator[Table | str]:
    """Counts by outcome, action and category, and the newest rows, a line each.

    Raises:
        SettingsError: there is no database, or it cannot be read.
    """
    with reading(ws, settings, upgrade=upgrade) as engine:
        for column in ("outcome", "action", "category"):
            table = Table(column, "requests")
            for name, number in query.count(engine, chosen, column).items():
                table.add_row(escape(name or "(none)"), str(number))
            yield table
        if limit > 0:
            yield from map(_line, query.rows(engine, chosen, limit))
    if waiting := waiting_in(ws.audit):
        yield f"waiting in {ws.audit}: {waiting}; a running proxy brings them to the database once that takes them"


def export(ws: Workspace, settings: ServeSettings, chosen: Filter, place: str, *, upgrade: bool) -> int:
    """Write the rows as JSON lines to a file, or to standard output for `-`; give how many.

    Raises:
        SettingsError: there is no database, it cannot be read, or the file cannot be written.
    """
    count = 0
    try:
        with (
            reading(ws, settings, upgrade=upgrade) as engine,
            nullcontext(sys.stdout.buffer) if place == "-" else Path(place).open("wb") as out,
        ):
            for line in query.lines(engine, chosen):
                out.write(line)
                count += 1
            out.flush()
    except OSError as error:
        raise SettingsError(f"{place}: the rows cannot be written: {error.strerror}") from error
    return count


def _line(row: dict[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(row["time"]))
    score = row["output_score"] if row["stage"] == "output" else row["input_score"]
    parts = [when, row["id"], row["route"], f"{row['outcome']}/{row['action']}"]
    parts += [f"{row['category'] or ''} {score:.2f}".strip()] if score is not None else []
    parts += [f"{name} {row[name]}" for name in ("key", "user_hash", "safety_identifier", "error") if row[name]]
    # No terminal is steered by what a client sent.
    return escape("".join(char if char.isprintable() else "\ufffd" for char in "  ".join(parts)))
