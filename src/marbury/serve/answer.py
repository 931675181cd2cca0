"""Writing an HTTP response: whole, or as a stream of events that begins with its first byte."""

from collections.abc import Mapping

from starlette.types import Send

from marbury.serve.failures import Failure
from marbury.serve.protocols.protocol import Protocol, RatingProtocol

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"


class Answer:
    """The response to one request. `status` is 0 until something was sent."""

    def __init__(self, send: Send, request_id: str, protocol: Protocol | RatingProtocol) -> None:
        self._send = send
        self._protocol = protocol
        self._request_id = request_id
        self._kind = ""
        self.status = 0
        self.ended = False

    async def whole(self, status: int, body: bytes, headers: Mapping[str, str] | None = None, kind: str = JSON) -> None:
        """A response of one piece."""
        await self._start(status, kind, {**(headers or {}), "content-length": str(len(body))})
        await self._body(body, more=False)

    async def part(self, data: bytes, status: int = 200, kind: str = EVENTS) -> None:
        """A part of a stream."""
        if not self.status:
            await self._start(status, kind, {"cache-control": "no-cache", "x-accel-buffering": "no"})
        await self._body(data, more=True)

    async def end(self) -> None:
        """The clean end of a stream."""
        await self._body(b"", more=False)

    async def fail(self, failure: Failure) -> None:
        """A failure: as a status while nothing was sent, as an event that breaks a stream of events.

        A response of another kind is left without its end; the server then breaks the connection.
        """
        if not self.status:
            await self.whole(failure.status, self._protocol.body(failure), failure.headers)
        elif self._kind == EVENTS and not self.ended:
            await self.part(self._protocol.event(failure))
            await self.end()

    async def _start(self, status: int, kind: str, headers: Mapping[str, str]) -> None:
        self.status, self._kind = status, kind
        fields = {"content-type": kind, "x-marbury-request-id": self._request_id, **headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _body(self, data: bytes, *, more: bool) -> None:
        self.ended = self.ended or not more
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
