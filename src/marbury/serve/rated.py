"""A request to an endpoint that asks no model, from its body to its row in the journal; closes as an exchange does."""

import time
from collections.abc import Mapping

import msgspec

from marbury.serve.answer import Answer
from marbury.serve.closing import finish
from marbury.serve.failures import NOT_READY, Failure
from marbury.serve.journal import Entry
from marbury.serve.protocols.protocol import RatingProtocol
from marbury.serve.service import Service


class Rated:
    """One request to one endpoint that says what the classifiers think."""

    def __init__(
        self,
        protocol: RatingProtocol,
        service: Service,
        request_id: str,
        headers: Mapping[str, str],
        answer: Answer,
        key: str = "",
    ) -> None:
        self._protocol = protocol
        self._service = service
        self._answer = answer
        self._loan = service.policies.lend(key or request_id)
        self._began = time.perf_counter()
        self._trace = service.tracing.begin(protocol.route, headers)
        self.entry = Entry(id=request_id, time=time.time(), route=protocol.route, key=key)
        if self._loan is not None:
            self.entry.policy, self.entry.candidate = self._loan.judge.version, self._loan.candidate

    async def run(self, body: bytes) -> None:
        """Answer the request, whatever happens."""
        try:
            await finish(self._run(body), self.entry, self._service.settings.max_seconds, self._fail)
        finally:
            self.close()

    def close(self) -> None:
        """Write the request's row; waits for nothing."""
        self.entry.status = self._answer.status
        self.entry.seconds = round(time.perf_counter() - self._began, 6)
        try:
            self._service.record(self.entry, self._loan.judge if self._loan else None)
            self._trace.end(self.entry)
        finally:
            if self._loan is not None:
                self._service.policies.end(self._loan)

    async def _run(self, body: bytes) -> None:
        if self._loan is None:
            await self._fail(NOT_READY)
            return
        if (wait := self._service.door.hold(self.entry, body, self._loan.judge)) is not None:
            await self._fail(wait)
            return
        began = time.perf_counter()
        try:
            value = await self._protocol.answer(body, self._loan.judge, self._service.settings, self.entry)
        finally:
            self.entry.judging_seconds = self.entry.reading_seconds = time.perf_counter() - began
        await self._answer.whole(200, msgspec.json.encode(value))

    async def _fail(self, failure: Failure) -> None:
        self.entry.outcome = failure.outcome
        await self._answer.fail(failure)
