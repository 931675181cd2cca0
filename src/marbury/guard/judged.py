"""One request before the judge, and the watches over the replies to it.

All scorer work goes to the worker; what it gives is taken up in the event loop. The steps of requests that wait at
the same time are taken side by side (`together.py`). Whatever fails, and a caller that is cancelled too, closes the
request: nothing is released after that.
"""

import asyncio
import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from marbury.errors import GuardError
from marbury.guard.watch import Watch
from marbury.guard.worker import Worker, wait
from marbury.records import Message, turns_of
from marbury.scoring import Reading, Scorer, Thresholds, Verdict, verdict

Mode = Literal["enforce", "shadow", "off"]
T = TypeVar("T")


@dataclass(frozen=True)
class Policy:
    """By what a request is judged."""

    scorer: Scorer
    thresholds: Thresholds
    input_mode: Mode
    output_mode: Mode
    timeout_s: float


class Released(NamedTuple):
    """What one step of a watch gave: the text that may go out, and whether the reply is stopped from here on."""

    text: str
    stopped: bool


Steps = Sequence[tuple["AsyncWatch", str | None]]
Stepping = Generator[tuple[Watch, str | None], str, list[Released]]  # says what to push where, gets what is released


class JudgedRequest:
    """A request that is being judged, and the watches over the replies to it. Lives in one event loop."""

    def __init__(self, policy: Policy, worker: Worker, messages: Sequence[Message], *, keep: bool = False) -> None:
        self._policy = policy
        self._worker = worker
        self._messages = tuple(messages)
        self._turns = turns_of(messages)
        self._reading: Reading | None = None
        self._watches: list[AsyncWatch] = []
        self._behind: list[tuple[AsyncWatch, str | None]] = []  # shadow: steps that wait for their turn
        self._pending: asyncio.Future[object] | None = None  # shadow: the job that runs now
        self._closed = False
        self._heard: dict[AsyncWatch, list[str]] | None = {} if keep else None
        self.verdict: Verdict | None = None
        self._failure: GuardError | None = None

    @property
    def blocked(self) -> bool:
        """Whether the model must not be asked."""
        return self._policy.input_mode == "enforce" and self.verdict is not None and self.verdict.flagged

    @property
    def failure(self) -> GuardError | None:
        """Why judging failed, if it did; in shadow nobody is told in any other way."""
        failures = (watch.inner.failure for watch in self._watches if watch.inner)
        return self._failure or next(filter(None, failures), None)

    @property
    def watches(self) -> Sequence["AsyncWatch"]:
        """All watches of this request, in the order in which they were asked for."""
        return self._watches

    @property
    def heard(self) -> tuple[str, ...]:
        """What each watch was given so far, if that was to be kept."""
        return tuple("".join(texts) for texts in (self._heard or {}).values())

    async def open(self) -> None:
        """Read the request. Raises GuardError as `Judge.read` does."""
        if self._policy.input_mode == "enforce":
            await self._guarded(self._worker.submit(self._read, self))
        elif self._policy.input_mode == "shadow" or self._policy.output_mode != "off":
            self._start(
                self._worker.submit(self._read, self)
            )  # the worker keeps the order, so replies are scored after it

    def watch(self) -> "AsyncWatch":
        """A watch over one channel of one choice of the reply."""
        watch = AsyncWatch(self)
        self._watches.append(watch)
        return watch

    async def advance(self, steps: Steps) -> list[Released]:
        """Many steps on watches of this request in one trip to the scorer: text to push, or None to finish.

        Raises:
            GuardError: the scorer failed or took too long; every watch of the request is closed then.
        """
        if self._heard is not None and not self._closed:
            for watch, text in steps:
                self._heard.setdefault(watch, []).append(text or "")
        if self._policy.output_mode == "enforce":
            if self._closed:
                return [Released("", True)] * len(steps)  # "stopped", so that nobody waits for more
            return await self._guarded(self._worker.join((self, steps), self))
        if self._policy.output_mode == "shadow" and not self._closed:
            self._behind.extend(steps)
            self._catch_up()
        return [Released(text or "", False) for _, text in steps]

    async def settle(self) -> None:
        """Wait until the verdicts of a shadow are known, no longer than the judge's time for each job."""
        while (pending := self._pending) is not None:
            await asyncio.wait([pending], timeout=self._policy.timeout_s)
            if not pending.done():
                self._failure = self._failure or GuardError(f"judging took longer than {self._policy.timeout_s:g} s")
                self.close()
                return
            await asyncio.sleep(0)  # lets `_ended` start the next job

    def close(self) -> None:
        """Release nothing more and free what the scorer remembers. May be called twice."""
        if not self._closed:
            self._closed = True
            self._behind.clear()
            if self._pending is not None:
                self._pending.cancel()
            self._worker.post(self._free, self)

    def free(self, watch: "AsyncWatch") -> None:
        """Free what the scorer remembers of one reply."""
        self._worker.post(lambda: watch.inner.close() if watch.inner else None, self)

    async def _guarded(self, job: "asyncio.Future[T]") -> T:
        """Wait for enforced work: however it fails, and also when the caller is cancelled, the request is closed."""
        try:
            return await wait(job, self._policy.timeout_s)
        except BaseException as error:
            self.close()
            if isinstance(error, GuardError):
                self._failure = error
            raise

    def _start(self, job: "asyncio.Future[object]") -> None:
        self._pending = job
        self._pending.add_done_callback(self._ended)

    def _catch_up(self) -> None:
        if self._pending is None and self._behind:
            steps, self._behind = self._behind, []
            self._start(self._worker.join((self, steps), self))

    def _ended(self, job: "asyncio.Future[object]") -> None:
        self._pending = None
        error = None if job.cancelled() else job.exception()
        if isinstance(error, GuardError):
            self._failure = self._failure or error
        self._catch_up()

    # What follows runs in the scorer's thread.

    def _read(self) -> None:
        try:
            self._reading = self._policy.scorer.read(self._messages)
            score = self._reading.score
        except GuardError:
            raise
        except Exception as error:  # whatever a classifier can raise
            raise GuardError(f"the classifier failed on a request: {type(error).__name__}") from error
        if self._policy.input_mode == "off":
            return
        if math.isnan(score.harm):
            raise GuardError("the classifier gave a score that is not a number")
        limit = self._policy.thresholds.limit("input", self._turns)
        self.verdict = verdict(score, limit, "input", self._policy.scorer.categories)

    def stepping(self, steps: Steps) -> Stepping:
        """The steps, one after the other; runs in the scorer's thread, as part of `together.advance_all`."""
        released = []
        for asked, text in steps:
            if asked.closed:
                released.append(Released("", True))
                continue
            watch = asked.inner = asked.inner or self._begin()
            out = yield watch, text
            released.append(Released(out, watch.stopped is not None))
        return released

    def _begin(self) -> Watch:
        if self._reading is None:
            raise GuardError("the request of this reply could not be read")
        limit = self._policy.thresholds.limit("output", self._turns)
        try:
            reply = self._reading.reply()
        except Exception as error:  # whatever a classifier can raise
            raise GuardError(f"the classifier could not begin a reply: {type(error).__name__}") from error
        return Watch(reply, limit, self._policy.scorer.categories, enforce=self._policy.output_mode == "enforce")

    def _free(self) -> None:
        for watch in self._watches:
            if watch.inner is not None:
                watch.inner.close()
        if self._reading is not None:
            self._reading.close()


class AsyncWatch:
    """A `Watch` whose scorer works in the judge's thread; ask a `JudgedRequest` for one."""

    def __init__(self, request: JudgedRequest) -> None:
        self._request = request
        self.closed = False
        self.inner: Watch | None = None  # made and moved in the scorer's thread only

    @property
    def stopped(self) -> Verdict | None:
        """The verdict that stopped the reply, or in shadow would have."""
        return self.inner.stopped if self.inner else None

    @property
    def verdict(self) -> Verdict | None:
        """The decision so far; None before anything was scored."""
        return self.inner.verdict if self.inner else None

    @property
    def score(self) -> float:
        """The highest logit so far; minus infinity before the first."""
        return self.inner.score if self.inner else -math.inf

    @property
    def steps(self) -> int:
        """How many tokens were scored."""
        return self.inner.steps if self.inner else 0

    async def push(self, text: str) -> str:
        """As `Watch.push`."""
        return (await self._request.advance([(self, text)]))[0].text

    async def finish(self) -> str:
        """As `Watch.finish`."""
        return (await self._request.advance([(self, None)]))[0].text

    def close(self) -> None:
        """As `Watch.close`, with the freeing in the scorer's thread; a shadow drops what it has not judged yet."""
        if not self.closed:
            self.closed = True
            self._request.free(self)
