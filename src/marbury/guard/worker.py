"""One thread in which all scoring happens, first come first served: a classifier is not made for two at once.

Items for `together` can be done side by side: when the first of them has its turn, those that wait by then are done
with it, but none before what its own owner asked for earlier. So many streams that come at once share one step.
It knows nothing of guards. A job whose asker has gone is skipped; a result that nobody waits for is dropped.
"""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from marbury.errors import GuardError

T = TypeVar("T")
Together = Callable[[Sequence[Any]], Sequence[Any]]
MOST = 256  # jobs that are done side by side, so that nobody else waits for long
log = logging.getLogger(__name__)


class Job(NamedTuple):
    """Work to do, or an item for `together`; None for the future when nobody waits."""

    future: "asyncio.Future[Any] | None"
    work: Callable[[], Any] | None
    item: Any
    owner: object


class Worker:
    """Runs plain functions in one thread of its own.

    `together` gets items that were submitted to it, each in the order of its coming, and gives for each a result or
    an exception; what it raises holds for all of them.
    """

    def __init__(self, together: Together | None = None) -> None:
        self._together = together
        self._jobs: SimpleQueue[list[Job | None]] = SimpleQueue()
        self._gathered: list[Job | None] = []  # items of this turn of the event loop: waking the thread is dear
        self._thread = threading.Thread(target=self._run, name="marbury-scoring", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many hand-overs wait for the thread, about."""
        return self._jobs.qsize()

    def submit(self, work: Callable[[], T], owner: object = None) -> "asyncio.Future[T]":
        """Queue the work at once; the future, of the running loop, gets what it gives or raises."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._hand_over(Job(future, work, None, owner))
        return future

    def join(self, item: Any, owner: object = None) -> "asyncio.Future[Any]":
        """Queue an item for `together`; the future, of the running loop, gets its result or exception.

        What is joined in one turn of the loop goes to the thread together.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if not self._gathered:
            loop.call_soon(self._hand_over)
        self._gathered.append(Job(future, None, item, owner))
        return future

    async def run(self, work: Callable[[], T], timeout_s: float) -> T:
        """Do the work and wait for it, the queue before it included.

        Raises:
            GuardError: it was not done in time. What the work raises itself is handed on.
        """
        return await wait(self.submit(work), timeout_s)

    def post(self, work: Callable[[], object], owner: object = None) -> None:
        """Queue work that nobody waits for; its failure is logged."""
        self._hand_over(Job(None, work, None, owner))

    def close(self, wait_s: float = 5.0) -> None:
        """Do what is queued, then end the thread; a job that hangs is not waited for longer than `wait_s`."""
        self._gathered.append(None)
        self._hand_over()
        if threading.current_thread() is not self._thread:
            self._thread.join(wait_s)

    def _hand_over(self, *more: Job) -> None:
        """Give the thread what was gathered, and then more."""
        jobs, self._gathered = [*self._gathered, *more], []
        if jobs:
            self._jobs.put(jobs)

    # What follows runs in the thread.

    def _run(self) -> None:
        waiting: deque[Job | None] = deque()
        while True:
            if not waiting:
                waiting.extend(self._jobs.get())
            if (job := waiting.popleft()) is None:
                return
            if _gone(job):
                pass
            elif job.work is not None:
                _do(job)
            else:
                self._arrived(waiting)
                self._do_together([job, *_others(waiting)])
            del job  # an idle thread keeps no text alive

    def _arrived(self, waiting: "deque[Job | None]") -> None:
        """Move what has been queued meanwhile to those that wait."""
        try:
            while True:
                waiting.extend(self._jobs.get_nowait())
        except Empty:
            return

    def _do_together(self, jobs: list[Job]) -> None:
        assert self._together is not None, "nothing does such jobs"
        results: Sequence[Any]
        try:
            results = self._together([job.item for job in jobs])
            if len(results) != len(jobs):
                raise GuardError(f"{len(results)} results for {len(jobs)} jobs")
        except Exception as raised:  # handed to all who asked
            results = [raised] * len(jobs)
        told = [(job.future, result) for job, result in zip(jobs, results, strict=True) if job.future is not None]
        loops = {future.get_loop() for future, _ in told}
        for loop in loops:
            _hand_back(loop, [(future, result) for future, result in told if future.get_loop() is loop])


async def wait(future: "asyncio.Future[T]", timeout_s: float) -> T:
    """Wait for a job. Raises GuardError when it was not done in time, and what the job raised itself."""
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError as error:
        raise GuardError(f"judging took longer than {timeout_s:g} s") from error


def _gone(job: Job) -> bool:
    return job.future is not None and job.future.cancelled()


def _others(waiting: "deque[Job | None]") -> list[Job]:
    """Take the items out of the queue that somebody waits for and whose owners have nothing before them."""
    taken: list[Job] = []
    kept: list[Job | None] = []
    passed: set[int] = set()  # whose work is passed over
    while waiting and waiting[0] is not None and len(taken) < MOST - 1:
        job = waiting.popleft()
        assert job is not None
        if _gone(job):
            continue
        if job.work is None and id(job.owner) not in passed:
            taken.append(job)
            continue
        kept.append(job)
        if job.owner is not None:
            passed.add(id(job.owner))
    waiting.extendleft(reversed(kept))
    return taken


def _do(job: Job) -> None:
    assert job.work is not None
    try:
        result = job.work()
    except Exception as raised:  # handed to whoever asked
        result = raised
    if job.future is not None:
        _hand_back(job.future.get_loop(), [(job.future, result)])
    elif isinstance(result, Exception):
        log.warning("clearing up after a reply failed: %s", type(result).__name__)


def _hand_back(loop: asyncio.AbstractEventLoop, told: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    """Tell those who wait in a loop, all at once."""
    try:
        loop.call_soon_threadsafe(_settle, told)
    except RuntimeError:  # the loop has ended, so nobody waits
        log.debug("a score came after its event loop had ended")


def _settle(told: Sequence[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, result in told:
        if future.done():  # cancelled meanwhile
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)
