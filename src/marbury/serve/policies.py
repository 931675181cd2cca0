"""The guards that are live: the one that decides, a candidate beside it, and their exchange for newer ones.

A request keeps the guards that it began with. A guard that was replaced is closed when its last request has ended, so
that no stream is dropped for a new version.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from marbury.guard import Judge

log = logging.getLogger("marbury.serve")
MakeJudge = Callable[[], Judge]
LOOK_S = 2.0  # how often new artifacts are looked for


class Loan(NamedTuple):
    """The guards of one request. `candidate`: whether the candidate is the one that decides."""

    judge: Judge
    beside: Judge | None
    candidate: bool


class Policies:
    """Makes guards in a thread, lends them to requests and replaces them.

    `make_other` makes the candidate; it decides for `percent` of the accounts and watches the rest in shadow. `stamp`
    says what the guards are made of: when that changes, they are made again. May raise what those raise.
    """

    def __init__(
        self,
        make: MakeJudge,
        make_other: MakeJudge | None = None,
        percent: float = 0.0,
        stamp: Callable[[], object] | None = None,
    ) -> None:
        self._make, self._make_other = make, make_other
        self._percent = percent
        self._stamp = stamp
        self._uses: dict[int, int] = {}  # requests by guard
        self._retired: dict[int, Judge] = {}  # replaced, and still in use
        self.judge: Judge | None = None
        self.other: Judge | None = None
        self.failure: Exception | None = None  # why newer guards could not be made
        self.swaps = 0

    async def load(self) -> None:
        """Make the guards and let them score once. Raises whatever their makers raise."""
        judge = await _made(self._make)
        try:
            other = await _made(self._make_other) if self._make_other else None
        except BaseException:
            judge.close()
            raise
        before = (self.judge, self.other)
        self.judge, self.other = judge, other
        for old in before:
            if old is not None:
                self._retired[id(old)] = old
                self._let_go(old)

    async def keep_fresh(self) -> None:
        """Make the guards again whenever what they are made of has changed, until cancelled."""
        if self._stamp is None:
            return
        seen = await asyncio.to_thread(self._stamp)
        while True:
            await asyncio.sleep(LOOK_S)
            now = await asyncio.to_thread(self._stamp)
            if now == seen or now is None:
                continue
            seen = now
            await self.reload()

    async def reload(self) -> None:
        """Replace the guards by new ones; if these cannot be made, the old ones stay and `failure` says why."""
        try:
            await self.load()
        except Exception as error:  # whatever it is, the guards that are live stay
            self.failure = error
            log.error("the new guard could not be loaded, the old one stays: %s", error)
            return
        self.failure = None
        self.swaps += 1
        log.warning("a new guard is live: %s", self.judge.version[:12] if self.judge else "")

    def lend(self, account: str) -> Loan | None:
        """The guards for a request of this account; None while there are none. Give them back with `end`."""
        if self.judge is None:
            return None
        loan = Loan(self.judge, self.other, False)
        if self.other is not None and _share(account) < self._percent:
            loan = Loan(self.other, self.judge, True)
        for judge in loan[:2]:
            if judge is not None:
                self._uses[id(judge)] = self._uses.get(id(judge), 0) + 1
        return loan

    def end(self, loan: Loan) -> None:
        """The request has ended."""
        for judge in loan[:2]:
            if judge is not None:
                self._uses[id(judge)] -= 1
                self._let_go(judge)

    def close(self) -> None:
        """Close every guard, whoever uses it."""
        for judge in (self.judge, self.other, *self._retired.values()):
            if judge is not None:
                judge.close()
        self._retired.clear()

    def _let_go(self, judge: Judge) -> None:
        if id(judge) in self._retired and not self._uses.get(id(judge)):
            del self._retired[id(judge)]
            self._uses.pop(id(judge), None)
            asyncio.get_running_loop().run_in_executor(None, judge.close)


async def _made(make: MakeJudge) -> Judge:
    judge = await asyncio.to_thread(make)
    try:
        await judge.warm_up()
    except BaseException:
        judge.close()
        raise
    return judge


def _share(account: str) -> float:
    """Where an account stands between 0 and 100; always at the same place."""
    return int.from_bytes(hashlib.sha256(account.encode()).digest()[:4], "big") / 2**32 * 100
