"""One thread in which all scoring happens, first come first served: a classifier is not made for two at once.

It knows nothing of guards. A job whose asker has gone is skipped; a result that nobody waits for is dropped.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

from marbury.errors import GuardError

T = TypeVar("T")
Job = tuple["asyncio.Future[Any] | None", Callable[[], Any]]
log = logging.getLogger(__name__)


class Worker:
    """Runs plain functions in one thread of its own."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="marbury-scoring", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Queue the work at once; the future, of the running loop, gets what it gives or raises."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._jobs.put((future, work))
        return future

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Do the work and wait for it, the queue before it included.

        Raises:
            GuardError: it was not done in time. What the work raises itself is handed on.
        """
        future = self.submit(work)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            raise GuardError(f"judging took longer than {timeout_s:g} s") from error

    def post(self, work: Callable[[], object]) -> None:
        """Queue work that nobody waits for; its failure is logged."""
        self._jobs.put((None, work))

    def close(self, wait_s: float = 5.0) -> None:
        """Do what is queued, then end the thread; a job that hangs is not waited for longer than `wait_s`."""
        self._jobs.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(wait_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            future, work = job
            if future is not None and future.cancelled():
                continue
            result, error = None, None
            try:
                result = work()
            except Exception as raised:  # handed to whoever asked
                error = raised
            if future is not None:
                _hand_back(future, result, error)
            elif error is not None:
                log.warning("clearing up after a reply failed: %s", type(error).__name__)
            del job, future, work, result, error  # an idle thread keeps no text alive


def _hand_back(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    try:
        future.get_loop().call_soon_threadsafe(_settle, future, result, error)
    except RuntimeError:  # the loop has ended, so nobody waits
        log.debug("a score came after its event loop had ended")


def _settle(future: "asyncio.Future[Any]", result: Any, error: Exception | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
