"""What is written to and read from the database, a function each. Content with other words is in `query`."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Engine, delete, func, select
from sqlalchemy.dialects import postgresql, sqlite

from marbury.audit.tables import keys, requests

_PART = 5_000  # rows that are deleted at once, so that nothing waits long


class Flag(NamedTuple):
    """A request that counts for its accounts."""

    seq: int
    id: str
    time: float
    key: str
    user: str
    safety_identifier: str


def insert(engine: Engine, rows: Sequence[dict[str, Any]]) -> None:
    """Add rows in their order; those that are there already are left."""
    if not rows:
        return
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    with engine.begin() as connection:
        connection.execute(dialect.insert(requests).on_conflict_do_nothing(index_elements=["id"]), list(rows))


def flags(engine: Engine, after: int, since: float) -> Iterator[Flag]:
    """The flagged rows after a place in the order of writing."""
    columns = (requests.c[name] for name in ("seq", "id", "time", "seconds", "key", "user_hash", "safety_identifier"))
    chosen = requests.c.flagged.is_(True), requests.c.seq > after, requests.c.time > since
    with engine.connect() as connection:
        for seq, name, time, seconds, *who in connection.execute(select(*columns).where(*chosen).order_by("seq")):
            yield Flag(seq, name, time + (seconds or 0.0), *(part or "" for part in who))


def last_seq(engine: Engine) -> int:
    """The place of the newest row."""
    with engine.connect() as connection:
        return connection.execute(select(func.max(requests.c.seq))).scalar() or 0


def expire(engine: Engine, before: float) -> int:
    """Delete the rows that are older; give how many."""
    total = 0
    while True:
        old = select(requests.c.seq).where(requests.c.time < before).order_by(requests.c.time).limit(_PART)
        with engine.begin() as connection:
            count = connection.execute(delete(requests).where(requests.c.seq.in_(old))).rowcount
        total += count
        if count < _PART:
            return total


def read_keys(engine: Engine) -> dict[str, str]:
    """The keys by name."""
    with engine.connect() as connection:
        return {
            name: digest for name, digest in connection.execute(select(keys.c.name, keys.c.sha256).order_by("name"))
        }


def add_key(engine: Engine, name: str, digest: str, time: float) -> None:
    """Add a key. Raises IntegrityError where there is one of that name."""
    with engine.begin() as connection:
        connection.execute(keys.insert(), [{"name": name, "sha256": digest, "made": time}])


def remove_key(engine: Engine, name: str) -> bool:
    """Remove a key; give whether there was one."""
    with engine.begin() as connection:
        return connection.execute(delete(keys).where(keys.c.name == name)).rowcount > 0
