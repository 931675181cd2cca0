"""Many processes on one port: a parent that judges nothing, and workers that each run the whole proxy.

The kernel shares connections out among the workers that listen (SO_REUSEPORT); a request stays with the worker that
took it. A worker listens once its guard is loaded, so no request meets one that is still loading. One that dies takes
its own streams with it and is replaced. The parent holds the port, passes the stop signal on and counts for all.
"""

import contextlib
import logging
import math
import multiprocessing
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType

from prometheus_client import multiprocess

from marbury.errors import GuardError, SettingsError
from marbury.serve.run import warn_of_key
from marbury.serve.settings import ServeSettings
from marbury.serve.worker import MakeApp, work

log = logging.getLogger("marbury.serve")
_SPAWN = multiprocessing.get_context("spawn")  # a fork would take the threads' locks along, but not the threads
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
_LONGEST_PAUSE = 30.0
_LIVED = 60.0  # seconds after which a worker that dies counts as the first one again


@dataclass
class Worker:
    """A process, what it says of itself, and when it was started."""

    process: SpawnProcess
    told: Connection
    began: float


class Parent:
    """Starts workers, replaces those that die, ends them all."""

    def __init__(self, make: MakeApp, settings: ServeSettings, folder: Path) -> None:
        self._make, self._settings, self._folder = make, settings, folder
        self._workers: list[Worker] = []
        self._stopping = False
        self._bell, self._rung = os.pipe()  # wakes the parent up
        self._deaths = 0  # in a row, each soon after its start
        self._served = False  # a worker was ready
        self._failure = ""

    def run(self) -> None:
        """Until a stop signal, or until the first workers could not load their guard.

        Raises:
            GuardError: no worker could load its guard.
        """
        with self._signals():
            for _ in range(self._settings.processes):
                self._start()
            while not self._stopping:
                self._look()
            self._end()
        if self._failure and not self._served:
            raise GuardError(f"no process could load its guard: {self._failure}")

    def _start(self) -> None:
        told, telling = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=work, args=(self._make, self._settings, telling, self._folder))
        process.start()
        telling.close()  # so that its end is seen here
        self._workers.append(Worker(process, told, time.monotonic()))

    def _look(self) -> None:
        """Wait for news of a worker, or for the stop signal."""
        news = wait([self._bell, *(each.told for each in self._workers)])
        for worker in [each for each in self._workers if each.told in news]:
            try:
                failure = worker.told.recv()
            except (EOFError, OSError):
                self._died(worker)
                continue
            if failure:
                self._failure = failure
                self._stopping = self._stopping or not self._served
            else:
                self._served = True
                log.warning("process %d is ready", worker.process.pid)

    def _died(self, worker: Worker) -> None:
        worker.process.join()
        self._forget(worker)
        if self._stopping:
            return
        soon = time.monotonic() - worker.began < _LIVED
        self._deaths = self._deaths + 1 if soon else 1
        if not self._served and self._deaths > self._settings.processes:
            self._failure, self._stopping = self._failure or "it died while loading", True
            return
        pause = min(0.1 * 2 ** min(self._deaths, 10), _LONGEST_PAUSE)
        log.error("process %d died (%s): another one in %g s", worker.process.pid, _how(worker.process.exitcode), pause)
        if not wait([self._bell], pause):
            self._start()

    def _forget(self, worker: Worker) -> None:
        self._workers.remove(worker)
        worker.told.close()
        if worker.process.pid is not None:
            multiprocess.mark_process_dead(worker.process.pid, str(self._folder))  # type: ignore[no-untyped-call]

    def _end(self) -> None:
        """Let what is under way end, then end who has not."""
        for worker in self._workers:
            worker.process.terminate()
        last = time.monotonic() + math.ceil(self._settings.drain_s) + 5
        for worker in list(self._workers):
            worker.process.join(max(0.0, last - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            self._forget(worker)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping = True
            os.write(self._rung, b"x")

        main = threading.current_thread() is threading.main_thread()
        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)} if main else {}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._bell)
            os.close(self._rung)


def run_many(make: MakeApp, settings: ServeSettings) -> None:
    """Serve `settings.processes` apps on one port; `make` is called in each process and must be importable there.

    Raises:
        SettingsError: the port cannot be had.
        GuardError: no process could load its guard.
    """
    warn_of_key(settings)
    with _holding(settings), _shared_metrics() as folder:
        Parent(make, settings, folder).run()


@contextlib.contextmanager
def _holding(settings: ServeSettings) -> Iterator[None]:
    """Hold the port without listening on it: a second server on it is an error here, not a share of the requests."""
    if settings.port == 0:
        raise SettingsError("[serve] port: several processes need one port: name it")
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.create_server((settings.host, settings.port), family=family):
            pass
        holder = socket.socket(family)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((settings.host, settings.port))
    except OSError as error:
        raise SettingsError(
            f"[serve] {settings.host}:{settings.port}: {error.strerror}: choose another port"
        ) from error
    with holder:
        yield


@contextlib.contextmanager
def _shared_metrics() -> Iterator[Path]:
    """A folder where the workers count; the variable has to stand before prometheus_client is imported there."""
    folder = Path(tempfile.mkdtemp(prefix="marbury-metrics-"))
    before = os.environ.get(_SHARED)
    os.environ[_SHARED] = str(folder)
    try:
        yield folder
    finally:
        if before is None:
            del os.environ[_SHARED]
        else:
            os.environ[_SHARED] = before
        shutil.rmtree(folder, ignore_errors=True)


def _how(status: int | None) -> str:
    if status is None or status >= 0:
        return f"exit status {status}"
    return signal.Signals(-status).name
