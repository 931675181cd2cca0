"""What the proxy learns back from the database: flags of before and of other processes, keys, and what is too old."""

import logging
import time

from sqlalchemy import Engine

from marbury.audit.store import expire, flags, read_keys
from marbury.serve.accounts import REMEMBERED_S, Accounts, accounts_of
from marbury.serve.keys import KeyRing

log = logging.getLogger("marbury.serve")
MARGIN = 500  # rows of other processes may become visible that much after later ones
_HOUR = 3600.0


class Memory:
    """Called about once a second by the thread that talks to the database."""

    def __init__(self, engine: Engine, accounts: Accounts, ring: KeyRing | None, retention_days: int) -> None:
        self._engine = engine
        self._accounts = accounts
        self._ring = ring  # None: the keys are not in the database
        self._retention_s = retention_days * 86_400.0
        self._seq = 0
        self._next_expiry = 0.0

    def refresh(self) -> None:
        """Read what is new, and delete what is old. Raises SQLAlchemyError."""
        self.learn()
        if self._retention_s and time.monotonic() >= self._next_expiry:
            self._next_expiry = time.monotonic() + _HOUR
            if gone := expire(self._engine, time.time() - self._retention_s):
                log.info("audit: %d rows are older than the retention and were deleted", gone)

    def learn(self) -> None:
        """Read what is new. Raises SQLAlchemyError."""
        if self._ring is not None:
            self._ring.keys = read_keys(self._engine)
        newest = self._seq
        for flag in flags(self._engine, self._seq - MARGIN, time.time() - REMEMBERED_S):
            accounts = accounts_of(flag.key, flag.user, flag.safety_identifier)
            self._accounts.flag(accounts, flag.time, flag.id)
            newest = max(newest, flag.seq)
        self._seq = newest
