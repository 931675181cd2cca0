"""Who may ask: the key that a request shows, and whether its accounts are cooling down."""

import hashlib
import time
from collections.abc import Mapping

from marbury.guard import Judge
from marbury.serve.accounts import Accounts, accounts_of, named_in
from marbury.serve.failures import Failure
from marbury.serve.journal import Entry
from marbury.serve.keys import KeyRing

_OWN = "x-marbury-key"  # beside a key for the endpoint
_USUAL = ("authorization", "x-api-key", "api-key")
NO_KEY = Failure(401, "invalid_api_key", "A valid API key of this guard is needed.", "unauthorized")
NO_KEYS = Failure(503, "guard_unavailable", "The guard cannot check API keys now.", "guard_error")


class Door:
    """Checks keys where there is a ring of them, and lets accounts cool down."""

    def __init__(self, ring: KeyRing | None, accounts: Accounts) -> None:
        self.ring = ring
        self.accounts = accounts

    def admit(self, headers: Mapping[str, str]) -> tuple[Failure | None, str]:
        """Why a request may not come in, judged by its headers alone, and whose it is: the name of its key."""
        if self.ring is None:
            return None, _unchecked(headers)
        name = self.ring.owner(_shown(headers))
        if self.ring.keys is None:
            return NO_KEYS, ""
        return (NO_KEY, "") if name is None else (None, name)

    def passed(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """The headers without a key that was for the guard: the endpoint must not learn it."""
        own = headers.get(_OWN)
        if self.ring is None or own is not None:  # also where it was sent in both places
            return {name: value for name, value in headers.items() if name != _OWN and not (own and own in value)}
        return {name: value for name, value in headers.items() if name not in _USUAL}

    def hold(self, entry: Entry, payload: bytes, judge: Judge) -> Failure | None:
        """Write the users that a request names into its row; give why it has to wait, if it has to."""
        entry.user, entry.safety_identifier = named_in(payload)
        if "enforce" not in (judge.input_mode, judge.output_mode):
            return None  # where nothing is refused nobody has to wait
        wait = self.accounts.wait(_accounts(entry), time.time())
        return cooling_down(wait) if wait else None

    def count(self, entry: Entry) -> None:
        """Count a request that has ended: its flags that were enforced, however it ended."""
        if flagged(entry):
            self.accounts.flag(_accounts(entry), entry.time + entry.seconds, entry.id)


def flagged(entry: Entry) -> bool:
    """Whether a flag was enforced, also on a client that has left since; where a client asked for verdicts, none is."""
    if entry.outcome == "passed":
        return False
    on_input = entry.input is not None and entry.input.flagged and entry.input_mode == "enforce"
    return on_input or (entry.output_mode == "enforce" and any(output.verdict.flagged for output in entry.outputs))


def cooling_down(wait: float) -> Failure:
    """The failure of an account that has to wait so many seconds."""
    message = "Too many requests of this account were blocked: wait before you ask again."
    return Failure(429, "account_cooling_down", message, "cooling_down", retry_after=int(wait) + 1)


def _accounts(entry: Entry) -> list[str]:
    return accounts_of(entry.key, entry.user, entry.safety_identifier)


def _shown(headers: Mapping[str, str]) -> str:
    """The key that a request shows, as any of the usual clients sends it."""
    for name in (_OWN, *_USUAL):
        if name in headers:
            return headers[name].removeprefix("Bearer ").strip()
    return ""


def _unchecked(headers: Mapping[str, str]) -> str:
    """A mark of a client's own key, so that rows of one client can be told from another's."""
    shown = _shown(headers)
    return f"sha256:{hashlib.sha256(shown.encode()).hexdigest()[:12]}" if shown else ""
