"""One of several processes on a port: runs the whole proxy, tells its parent when it is ready, and ends with it."""

import fcntl
import logging
import multiprocessing
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from starlette.applications import Starlette

from marbury.serve.loaded import when_loaded
from marbury.serve.run import Draining, config, write_journal
from marbury.serve.service import Service
from marbury.serve.settings import ServeSettings

MakeApp = Callable[[], Starlette]


def work(make: MakeApp, settings: ServeSettings, telling: Connection, folder: Path) -> None:
    """Serve until told to end. Tells "" once it listens, or why the guard could not be loaded."""
    write_journal(InTurn(folder / "journal.lock"))
    app = make()
    service: Service = app.state.service
    service.metrics.share(str(folder))
    when_loaded(app)
    server = Telling(config(app, settings))
    server.service, server.telling = service, telling
    _end_with_parent(server)
    try:
        with _bound(settings) as port:
            server.run([port])
    finally:  # a server that cannot start leaves by SystemExit
        if service.failure is not None:
            telling.send(f"{type(service.failure).__name__}: {service.failure}")


class Telling(Draining):
    """A server that tells its parent when it listens."""

    telling: Connection | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started and self.telling is not None:
            self.telling.send("")


class InTurn(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes lines that do not mix with those of other processes, however long they are."""

    def __init__(self, lock: Path) -> None:
        super().__init__(sys.stdout)
        self._turn = lock.open("w")

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line when no other process does; the kernel frees the lock of one that dies."""
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            super().emit(record)
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)


def _bound(settings: ServeSettings) -> socket.socket:
    """A socket of its own on the common port; it shares in the connections once it listens."""
    port = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    port.bind((settings.host, settings.port))
    return port


def _end_with_parent(server: Telling) -> None:
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            server.should_exit = True

    threading.Thread(target=watch, daemon=True).start()
