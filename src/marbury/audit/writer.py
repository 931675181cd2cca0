"""Takes rows from the requests and brings them into the database, without ever making a request wait.

A thread writes each row to the spool at once; another one, the only one that talks to the database, moves rows from
there in order. While the database is away the spool grows. Both ways in and both ways on are the same then as always,
so that an outage is no special case.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError, StatementError

from marbury.audit import schema
from marbury.audit.database import told
from marbury.audit.row import Keep, row_of
from marbury.audit.spool import Spool, private
from marbury.audit.store import insert
from marbury.audit.tables import COLUMNS
from marbury.errors import SettingsError
from marbury.serve.journal import Entry, StoreState

log = logging.getLogger("marbury.serve")
QUEUE, QUEUE_OF_CONTENT = 20_000, 1_000  # rows between the requests and the spool, as their size allows
BATCH = 500  # rows in one transaction
_SPOOLED = 64  # rows in one write to the spool
STALL_S = 20.0  # a database that answers nothing for so long is away
TICK_S = 1.0  # between two looks at a database that is away, or at what others wrote
_END_S = 5.0  # for the last rows at a stop; what is left then is in the spool


class Writer:
    """Implements `serve`'s `Store`; `record` is a `Journal`. `tick` is called in the database's thread about once a
    second while the database is there; it may fail like the database. `up`: whether it is there now."""

    def __init__(
        self,
        engine: Engine,
        spool: Spool,
        keep: Keep = "none",
        tick: Callable[[], None] = lambda: None,
        up: bool = True,
    ) -> None:
        self._engine = engine
        self._spool = spool
        self._keep = keep
        self._tick = tick
        self._queue: queue.Queue[Entry | None] = queue.Queue(QUEUE if keep == "none" else QUEUE_OF_CONTENT)
        self._news = threading.Event()
        self._closing = threading.Event()
        self._stopping = threading.Event()
        self._up = up
        self._asked = 0.0  # since when the database has to answer; 0: it has nothing to do
        self._next_tick = self._next_try = 0.0
        self._written = self._lost = self._damaged = self._late = 0
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for name, work in (("audit-spool", self._spooling), ("audit-database", self._shipping))
        ]

    def record(self, entry: Entry) -> None:
        """Take a row; at once."""
        try:
            self._queue.put_nowait(entry)
        except queue.Full:
            self._lose(1, "rows come faster than the disk takes them")

    def start(self) -> None:
        """Begin to write."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Write what there is, for some seconds; the rest waits in the spool for the next start."""
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=_END_S)
        self._threads[0].join(_END_S)
        self._stopping.set()
        self._news.set()
        self._threads[1].join(_END_S)
        if any(thread.is_alive() for thread in self._threads):
            log.error(
                "audit: disk or database do not answer; %d rows wait in %s", self.state().waiting, self._spool.path
            )
            return  # the spool stays open and locked until the process is gone
        self._spool.close()
        self._engine.dispose()

    def state(self) -> StoreState:
        """How it fares."""
        waiting = self._queue.qsize() + self._spool.waiting
        return StoreState(self._up and not self._stalled, waiting, self._written, self._lost, self._damaged)

    @property
    def _stalled(self) -> bool:
        asked = self._asked
        return asked > 0 and time.monotonic() - asked > STALL_S

    # The spool's thread

    def _spooling(self) -> None:
        ended = stalled = False
        while not ended:
            entries = [self._queue.get()]
            while len(entries) < _SPOOLED and not self._queue.empty():
                entries.append(self._queue.get())
            ended = None in entries
            lines = [line for entry in entries if entry is not None and (line := self._line(entry))]
            if lines:
                self._append(lines)
            self._news.set()
            if self._stalled and not stalled:
                log.error("audit: the database does not answer; rows wait in %s", self._spool.path)
            stalled = self._stalled

    def _line(self, entry: Entry) -> bytes | None:
        try:
            return msgspec.json.encode(row_of(entry, self._keep))
        except Exception:  # a mistake of ours must not end the thread
            log.exception("audit: row %s cannot be written", entry.id)
            self._lose(1, "a mistake in the proxy")
            return None

    def _append(self, lines: list[bytes]) -> None:
        """Spool lines; when the disk takes none, wait for it while the queue has room."""
        told_so = False
        while True:
            try:
                self._spool.append(lines, sync=not self._up)
                return
            except OSError as error:
                if self._closing.is_set() or self._queue.qsize() > self._queue.maxsize // 2:
                    self._lose(len(lines), f"{self._spool.path}: {error.strerror}")
                    return
                if not told_so:
                    log.error("audit: %s: %s; rows wait in memory", self._spool.path, error.strerror)
                    told_so = True
                self._closing.wait(TICK_S)

    def _lose(self, count: int, why: str) -> None:
        if self._lost == 0 or (self._lost + count) // 1000 > self._lost // 1000:
            log.error("audit: rows are lost (%s): they are in the log alone", why)
        self._lost += count

    # The database's thread

    def _shipping(self) -> None:
        ended = False
        while not ended:
            self._news.wait(TICK_S)
            self._news.clear()
            if not self._up:
                self._stopping.wait(max(0.0, self._next_try - time.monotonic()))
            ended = self._stopping.is_set()
            try:
                self._ship()
            except Exception as error:  # whatever it is, rows are kept and it is tried again
                self._fell(error)
            self._asked = 0.0

    def _ship(self) -> None:
        self._asked = time.monotonic()
        if not self._up:
            schema.ensure(self._engine)  # a database that came back empty is made again
        while True:
            lines, end = self._spool.read(BATCH)
            if lines:
                self._insert(lines)
                self._asked = time.monotonic()
                self._spool.done(end, len(lines))
                self._written += len(lines)
                self._late += 0 if self._up else len(lines)
            self._tick_when_due()
            if not lines:
                break
        if not self._up:
            self._rose()

    def _tick_when_due(self) -> None:
        if time.monotonic() >= self._next_tick:
            self._next_tick = time.monotonic() + TICK_S
            self._spool.adopt()
            self._tick()

    def _insert(self, lines: list[bytes]) -> None:
        parsed = [(line, _row(line)) for line in lines]
        rows = [row for _, row in parsed if row is not None]
        aside = [(line, "it was cut off, or is none") for line, row in parsed if row is None]
        try:
            insert(self._engine, rows)
        except StatementError as error:
            if not _is_the_rows_fault(error):
                raise
            aside += self._refused(rows)
        for line, why in aside:  # after all that can fail, so that a repetition puts nothing aside twice
            self._put_aside(line, why)

    def _refused(self, rows: list[dict[str, Any]]) -> list[tuple[bytes, str]]:
        """Insert rows one by one, so that one that the database does not take blocks no other; give those."""
        refused = []
        for row in rows:
            try:
                insert(self._engine, [row])
            except StatementError as error:
                if not _is_the_rows_fault(error):
                    raise
                refused.append((msgspec.json.encode(row), told(error)))
        return refused

    def _put_aside(self, line: bytes, why: str) -> None:
        path = self._spool.path.with_name("damaged.jsonl")
        with open(path, "ab", opener=private) as out:
            out.write(line + b"\n")
        self._damaged += 1
        log.error("audit: a row was put into %s: %s", path, why)

    def _fell(self, error: Exception) -> None:
        if self._up:
            why = told(error) if isinstance(error, SQLAlchemyError) else f"{type(error).__name__}: {error}"
            log.error("audit: the database takes no rows (%s); they wait in %s", why, self._spool.path)
            if not isinstance(error, SQLAlchemyError | SettingsError | OSError):
                log.exception("audit: a mistake in the proxy", exc_info=error)
        self._up, self._next_try = False, time.monotonic() + TICK_S

    def _rose(self) -> None:
        log.warning("audit: the database is back; %d rows were brought after", self._late)
        self._up, self._late = True, 0


def _row(line: bytes) -> dict[str, Any] | None:
    """A line of the spool as the table takes it; None if it is none."""
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
    except (ValueError, RecursionError):
        return None
    needed = ("id", "time", "route", "outcome")
    return {name: row.get(name) for name in COLUMNS} if all(name in row for name in needed) else None


def _is_the_rows_fault(error: StatementError) -> bool:
    """Not the database's: read-only, without rights or tables it takes no row, and all must wait."""
    return isinstance(error, DataError | IntegrityError) or type(error) is StatementError
