"""One request before the judge, and the watches over the replies to it.

All scorer work goes to the worker; what it gives is taken up in the event loop. The steps of requests that wait at
the same time are taken side by side (`together.py`). Whatever fails, and a caller that is cancelled too, closes the
request: nothing is released after that. With `fail_open` a failure of the scorer lets pass what is not stopped yet.
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
    fail_open: bool = False  # where judging fails, let pass unread instead of closing


class Released(NamedTuple):
    """What one step of a watch gave: the text that may go out, and whether the reply is stopped from here on."""

    text: str
    stopped: bool


Steps = Sequence[tuple["AsyncWatch", str | None]]
Stepping = Generator[tuple[Watch, str | None], str, list[Released]]  # says what to push where, gets what is released


class JudgedRequest:
    """A request that is being judged, and the watches over the replies to it. Lives in one event loop.

    It is one conversation, or several that do not know of each other (a list of prompts).
    """

    def __init__(
        self,
        policy: Policy,
        worker: Worker,
        *conversations: Sequence[Message],
        beside: "JudgedRequest | None" = None,
    ) -> None:
        self._policy = policy
        self.beside = beside  # in shadow, by another policy: hears the same and changes nothing
        self._worker = worker
        self._conversations = conversations
        self._readings: list[Reading] = []  # of the conversations, in their order
        self._watches: list[AsyncWatch] = []
        self._behind: list[tuple[AsyncWatch, str | None]] = []  # shadow: steps that wait for their turn
        self._pending: asyncio.Future[object] | None = None  # shadow: the job that runs now
        self._closed = False
        self.opened = False  # judging failed, and what comes now passes unread
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

    async def open(self) -> None:
        """Read the request. Raises GuardError as `Judge.read` does."""
        if self._policy.input_mode == "enforce":
            try:
                await self._guarded(self._worker.submit(self._read, self))
            except GuardError:
                if not self._policy.fail_open:
                    raise
                self.opened = True
        elif self._policy.input_mode == "shadow" or self._policy.output_mode != "off":
            self._start(
                self._worker.submit(self._read, self)
            )  # the worker keeps the order, so replies are scored after it

    def watch(self, conversation: int = 0) -> "AsyncWatch":
        """A watch over one channel of one choice of the reply to a conversation."""
        watch = AsyncWatch(self, conversation)
        self._watches.append(watch)
        if self.beside is not None:
            watch.beside = self.beside.watch(conversation)
        return watch

    async def advance(self, steps: Steps) -> list[Released]:
        """Many steps on watches of this request in one trip to the scorer: text to push, or None to finish.

        Raises:
            GuardError: the scorer failed or took too long; every watch of the request is closed then.
        """
        if self.beside is not None:
            await self.beside.advance([(watch.beside, text) for watch, text in steps if watch.beside is not None])
        if self._policy.output_mode == "enforce":
            return await self._enforce(steps)
        if self._policy.output_mode == "shadow" and not self._closed:
            self._behind.extend(steps)
            self._catch_up()
        return [Released(text or "", False) for _, text in steps]

    async def _enforce(self, steps: Steps) -> list[Released]:
        for watch, text in steps:
            watch.pending += text or ""
        if self._closed and not self.opened:
            return [Released("", True)] * len(steps)  # "stopped", so that nobody waits for more
        if not self.opened:
            try:
                released: list[Released] = await self._guarded(self._worker.join((self, steps), self))
            except GuardError:
                if not self._policy.fail_open:
                    raise
                self.opened = True
            else:
                for (watch, _), out in zip(steps, released, strict=True):
                    watch.take(out)
                return released
        return [watch.let_pass() for watch, _ in steps]

    async def settle(self) -> None:
        """Wait until the verdicts of a shadow are known, no longer than the judge's time for each job."""
        while (pending := self._pending) is not None:
            await asyncio.wait([pending], timeout=self._policy.timeout_s)
            if not pending.done():
                self._failure = self._failure or GuardError(f"judging took longer than {self._policy.timeout_s:g} s")
                self.close()
                return
            await asyncio.sleep(0)  # lets `_ended` start the next job
        if self.beside is not None:
            await self.beside.settle()

    def close(self) -> None:
        """Release nothing more and free what the scorer remembers. May be called twice."""
        if not self._closed:
            self._closed = True
            self._behind.clear()
            if self._pending is not None:
                self._pending.cancel()
            self._worker.post(self._free, self)
        if self.beside is not None:
            self.beside.close()

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
        verdicts = [self._read_one(conversation) for conversation in self._conversations]
        if self._policy.input_mode != "off":
            self.verdict = max(verdicts, key=lambda each: (each.flagged, each.score))

    def _read_one(self, conversation: Sequence[Message]) -> Verdict:
        try:
            reading = self._policy.scorer.read(conversation)
            self._readings.append(reading)
            score = reading.score
        except GuardError:
            raise
        except Exception as error:  # whatever a classifier can raise
            raise GuardError(f"the classifier failed on a request: {type(error).__name__}") from error
        if math.isnan(score.harm) and self._policy.input_mode != "off":
            raise GuardError("the classifier gave a score that is not a number")
        limit = self._policy.thresholds.limit("input", turns_of(conversation))
        return verdict(score, limit, "input", self._policy.scorer.categories)

    def stepping(self, steps: Steps) -> Stepping:
        """The steps, one after the other; runs in the scorer's thread, as part of `together.advance_all`."""
        released = []
        for asked, text in steps:
            if asked.closed:
                released.append(Released("", True))
                continue
            watch = asked.inner = asked.inner or self._begin(asked.conversation)
            out = yield watch, text
            released.append(Released(out, watch.stopped is not None))
        return released

    def _begin(self, conversation: int) -> Watch:
        if len(self._readings) < len(self._conversations):
            raise GuardError("the request of this reply could not be read")
        limit = self._policy.thresholds.limit("output", turns_of(self._conversations[conversation]))
        try:
            reply = self._readings[conversation].reply()
        except Exception as error:  # whatever a classifier can raise
            raise GuardError(f"the classifier could not begin a reply: {type(error).__name__}") from error
        return Watch(reply, limit, self._policy.scorer.categories, enforce=self._policy.output_mode == "enforce")

    def _free(self) -> None:
        for watch in self._watches:
            if watch.inner is not None:
                watch.inner.close()
        for reading in self._readings:
            reading.close()


class AsyncWatch:
    """A `Watch` whose scorer works in the judge's thread; ask a `JudgedRequest` for one."""

    def __init__(self, request: JudgedRequest, conversation: int) -> None:
        self._request = request
        self.conversation = conversation
        self.closed = False
        self.beside: AsyncWatch | None = None  # of the policy that only watches
        self.pending = ""  # what was pushed and is not released
        self._over = False
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

    def take(self, out: Released) -> None:
        """Note what was released."""
        self._over = self._over or out.stopped
        self.pending = "" if self._over else self.pending[len(out.text) :]

    def let_pass(self) -> Released:
        """Everything that waits, unread, unless the reply is stopped."""
        if self._over or self.closed:
            return Released("", True)
        out = Released(self.pending, False)
        self.take(out)
        return out

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
