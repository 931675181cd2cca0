"""Who was flagged how often, and who has to wait. A million questions beat any classifier, so they get slow.

An account is a key, or a user as the key's owner names them. Its state is a pure function of the times of its flags,
so that any store of those times (the audit database) brings it back after a restart and shares it between processes.
"""

import hashlib
import logging
import threading
import time
from bisect import insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

log = logging.getLogger("marbury.serve")
REMEMBERED_S = 7 * 86_400.0  # after so long without a flag an account is new again
LONGEST_S = 86_400.0  # of one cool-down
MANY = 10  # the key of an application whose requests name users stands for many of them
_MOST_ACCOUNTS = 100_000
_MOST_FLAGS = 10_000
_MOST_SEEN = 50_000


@dataclass(frozen=True)
class Rules:
    """When an account has to cool down."""

    flags: int = 20  # within the window, for the first time; half as many for each further time; 0: never
    window_s: float = 3600.0
    cooldown_s: float = 60.0  # the first time; twice as long each further time


class Cooldown(NamedTuple):
    """Until when an account has to wait, and the how manieth time it is."""

    until: float = 0.0
    times: int = 0


class Named(msgspec.Struct):
    """What of a request names a user, in any of the protocols."""

    user: Any = None
    safety_identifier: Any = None
    metadata: Any = None
    request_data: Any = None


def pseudonym(name: str) -> str:
    """What is kept of a user's name: the same for the same name. Names that can be guessed can be recognised."""
    return hashlib.sha256(b"marbury user\0" + name.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def named_in(payload: bytes) -> tuple[str, str]:
    """The pseudonyms of who asks, empty where not given: `user` and `safety_identifier`.

    Anthropic's name for the first is `metadata.user_id`, LiteLLM's `request_data.user_api_key_end_user_id`.
    """
    try:
        named = msgspec.json.decode(payload, type=Named)
    except (ValueError, RecursionError):
        return "", ""
    user = named.user
    for beside, field in ((named.metadata, "user_id"), (named.request_data, "user_api_key_end_user_id")):
        if not user and isinstance(beside, dict):
            user = beside.get(field)
    return _pseudonym(user), _pseudonym(named.safety_identifier)


def _pseudonym(name: Any) -> str:
    return pseudonym(name) if isinstance(name, str) and name else ""


class Account:
    """One account: takes the times of its flags in order."""

    def __init__(self, rules: Rules) -> None:
        self.state = Cooldown()
        self.last = 0.0
        self._rules = rules
        self._recent: deque[float] = deque()

    def flag(self, at: float) -> None:
        """It was flagged."""
        rules, state, recent = self._rules, self.state, self._recent
        if not rules.flags or at < state.until:
            return  # asked before the cool-down began
        if at > max(self.last, state.until) + REMEMBERED_S:
            state = self.state = Cooldown()
            recent.clear()
        self.last = at
        recent.append(at)
        while recent[0] <= at - rules.window_s:
            recent.popleft()
        if len(recent) >= max(1, rules.flags >> state.times):
            length = min(rules.cooldown_s * 2.0 ** min(state.times, 40), LONGEST_S)
            self.state = Cooldown(at + length, state.times + 1)
            recent.clear()


def cooldown(times: Iterable[float], rules: Rules) -> Cooldown:
    """What follows from the times of an account's flags, which are in order."""
    account = Account(rules)
    for at in times:
        account.flag(at)
    return account.state


def accounts_of(key: str, user: str, safety_identifier: str) -> list[str]:
    """The accounts that a request is on. One key's users are nobody else's; without a name there is only the key."""
    if ":" in key:  # the mark of a client's own key, which nobody here has checked
        key = ""
    users = [f"user/{key}/{user}"] if user else []
    users += [f"safety_identifier/{key}/{safety_identifier}"] if safety_identifier else []
    if not key:
        return users
    return [*users, f"key/{key}/all"] if users else [f"key/{key}"]


class Accounts:
    """The flags of all accounts, in memory. Flags may be told by many threads, and twice."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._times: dict[str, list[float]] = {}
        self._accounts: dict[str, Account] = {}
        self._lock = threading.Lock()
        self._seen: dict[str, None] = {}  # the newest requests that were counted
        self.begun = 0  # cool-downs since the start

    def wait(self, accounts: Iterable[str], now: float) -> float:
        """Seconds until all of the accounts may ask again; 0: now."""
        return max((0.0, *(self._until(account) - now for account in accounts)))

    def flag(self, accounts: Iterable[str], at: float, request_id: str) -> None:
        """A request on these accounts was flagged. Flags may come late and out of order."""
        with self._lock:
            if not self._rules.flags or request_id in self._seen:
                return
            self._seen[request_id] = None
            if len(self._seen) > _MOST_SEEN:
                del self._seen[next(iter(self._seen))]
            for account in accounts:
                self._flag(account, at)

    def cooling(self, now: float) -> int:
        """How many accounts are cooling down."""
        with self._lock:
            return sum(account.state.until > now for account in self._accounts.values())

    def _until(self, name: str) -> float:
        account = self._accounts.get(name)
        return account.state.until if account else 0.0

    def _flag(self, name: str, at: float) -> None:
        times, before = self._times.setdefault(name, []), self._until(name)
        late = bool(times) and at < times[-1]
        insort(times, at)
        del times[:-_MOST_FLAGS]
        if late or name not in self._accounts:
            account = self._accounts[name] = Account(self._rules_of(name))
            for each in times:
                account.flag(each)
        else:
            account = self._accounts[name]
            account.flag(at)
        until, count = account.state
        if until > max(before, time.time()):  # not one that is learnt of after its end
            self.begun += 1
            log.warning("account %s cools down for %.0f s, for the %d. time", name, until - at, count)
        if len(self._times) > _MOST_ACCOUNTS:
            self._forget()

    def _rules_of(self, account: str) -> Rules:
        if not account.endswith("/all"):
            return self._rules
        return Rules(self._rules.flags * MANY, self._rules.window_s, self._rules.cooldown_s)

    def _forget(self) -> None:
        """Drop the half that was flagged longest ago."""
        order = sorted(self._times, key=lambda name: self._times[name][-1])
        for name in order[: len(order) // 2]:
            del self._times[name], self._accounts[name]
