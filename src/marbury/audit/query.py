"""Questions to the audit database: which rows, how many of what, and all of them as JSON lines."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Engine, func, or_, select

from marbury.audit.tables import COLUMNS, requests
from marbury.errors import SettingsError
from marbury.serve.accounts import pseudonym

_AGO = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class Filter:
    """Which rows; an empty field leaves it open."""

    since: float = 0.0
    outcome: str = ""
    action: str = ""
    category: str = ""
    key: str = ""
    user: str = ""  # a name as clients send it (user or safety_identifier), or its pseudonym
    id: str = ""


def since(text: str, now: float | None = None) -> float:
    """The time that a text means: `30m`, `24h`, `7d` ago, or an ISO date or time (UTC where it does not say).

    Raises:
        SettingsError: it means none.
    """
    if match := _AGO.fullmatch(text):
        return (time.time() if now is None else now) - int(match[1]) * _SECONDS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"--since {text!r}: write 30m, 24h, 7d or a date such as 2026-11-25T03:00") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def count(engine: Engine, chosen: Filter, column: str) -> dict[str, int]:
    """How many rows have each value of a column, most first."""
    value = requests.c[column]
    asked = select(value, func.count()).where(*_where(chosen)).group_by(value).order_by(func.count().desc(), value)
    with engine.connect() as connection:
        return {name or "": number for name, number in connection.execute(asked)}


def rows(engine: Engine, chosen: Filter, newest: int | None = None) -> Iterator[dict[str, Any]]:
    """The rows in order of time, or the newest of them alone."""
    columns = [requests.c[name] for name in COLUMNS]
    asked = select(*columns).where(*_where(chosen))
    if newest is None:
        asked = asked.order_by(requests.c.time, requests.c.seq)
    else:
        last = select(requests.c.seq).where(*_where(chosen)).order_by(requests.c.time.desc(), requests.c.seq.desc())
        asked = select(*columns).where(requests.c.seq.in_(last.limit(newest))).order_by(requests.c.time, requests.c.seq)
    with engine.connect().execution_options(yield_per=500) as connection, connection.execute(asked) as result:
        for row in result.mappings():
            yield dict(row)


def lines(engine: Engine, chosen: Filter) -> Iterator[bytes]:
    """The rows as lines of JSON."""
    for row in rows(engine, chosen):
        yield msgspec.json.encode({name: value for name, value in row.items() if value is not None}) + b"\n"


def _where(chosen: Filter) -> list[ColumnElement[bool]]:
    columns = requests.c
    found = [columns.time >= chosen.since] if chosen.since else []
    found += [
        columns[name] == getattr(chosen, name)
        for name in ("outcome", "action", "category", "key", "id")
        if getattr(chosen, name)
    ]
    if chosen.user:
        names = (chosen.user, pseudonym(chosen.user))
        found.append(or_(columns.user_hash.in_(names), columns.safety_identifier.in_(names)))
    return found
