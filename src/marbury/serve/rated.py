"""A request to an endpoint that asks no model, from its body to its row in the journal; closes as an exchange does."""

import asyncio
import logging
import time

import msgspec

from marbury.errors import GuardError, MarburyError
from marbury.serve.answer import Answer
from marbury.serve.failures import BROKEN, NOT_READY, Failure, failure_of
from marbury.serve.journal import Entry
from marbury.serve.protocols.protocol import RatingProtocol
from marbury.serve.service import Service

log = logging.getLogger("marbury.serve")


class Rated:
    """One request to one endpoint that says what the classifiers think."""

    def __init__(self, protocol: RatingProtocol, service: Service, request_id: str, answer: Answer) -> None:
        self._protocol = protocol
        self._service = service
        self._answer = answer
        self._judge = service.judge
        self._began = time.perf_counter()
        self.entry = Entry(id=request_id, time=time.time(), route=protocol.route)

    async def run(self, body: bytes) -> None:
        """Answer the request, whatever happens."""
        try:
            await self._run(body)
        except MarburyError as error:
            self.entry.error = str(error)
            self.entry.judging_failed = isinstance(error, GuardError)
            await self._fail(failure_of(error))
        except asyncio.CancelledError:
            self.entry.outcome = "disconnected"
            raise
        except Exception:  # a mistake of ours closes like any other failure
            log.exception("request %s", self.entry.id)
            self.entry.error = "a mistake in the proxy: see the log"
            await self._fail(BROKEN)
        finally:
            self.close()

    def close(self) -> None:
        """Write the request's row; waits for nothing."""
        self.entry.status = self._answer.status
        self.entry.seconds = round(time.perf_counter() - self._began, 6)
        self._service.record(self.entry, self._judge)

    async def _run(self, body: bytes) -> None:
        if self._judge is None:
            await self._fail(NOT_READY)
            return
        began = time.perf_counter()
        try:
            value = await self._protocol.answer(body, self._judge, self._service.settings, self.entry)
        finally:
            self.entry.judging_seconds = time.perf_counter() - began
        await self._answer.whole(200, msgspec.json.encode(value))

    async def _fail(self, failure: Failure) -> None:
        self.entry.outcome = failure.outcome
        await self._answer.fail(failure)
