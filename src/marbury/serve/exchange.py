"""One request from its body to its row in the journal.

The order is the promise: read, judge, only then ask the upstream; judge what comes back, only then send. Whatever
fails, closes: before the first byte with a status, after it with an error event and no `[DONE]`.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Mapping
from typing import TypeVar

import aiohttp
import msgspec

from marbury.errors import ModelError, RequestError
from marbury.guard import Judge, JudgedRequest
from marbury.serve.answer import EVENTS, JSON, Answer
from marbury.serve.closing import finish
from marbury.serve.failures import BLOCKED, NOT_READY, Failure
from marbury.serve.journal import Beside, Content, Entry, OutputVerdict
from marbury.serve.protocols.media import refuse_unread
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import Asked, Gate, Protocol, Whole
from marbury.serve.service import Service
from marbury.serve.sse import EventParser

T = TypeVar("T")


class Exchange:
    """One request to one endpoint, between one client and the upstream."""

    def __init__(
        self,
        protocol: Protocol,
        service: Service,
        request_id: str,
        headers: Mapping[str, str],
        answer: Answer,
        key: str = "",
    ) -> None:
        self._protocol = protocol
        self._service = service
        self._settings = service.settings
        self._headers = headers
        self._answer = answer
        self._loan = service.policies.lend(key or request_id)
        self._judge: Judge | None = self._loan.judge if self._loan else None
        self._judged: JudgedRequest | None = None
        self._asked: Asked | None = None
        self._reply: Gate | Whole | None = None
        self._began = time.perf_counter()
        self._trace = service.tracing.begin(protocol.route, headers)
        self.entry = Entry(id=request_id, time=time.time(), route=protocol.route, key=key)
        if self._loan is not None:
            self.entry.policy, self.entry.candidate = self._loan.judge.version, self._loan.candidate

    async def run(self, body: bytes) -> None:
        """Answer the request, whatever happens."""
        try:
            await finish(self._run(body), self.entry, self._settings.max_seconds, self._fail)
        finally:
            self.close()

    def close(self) -> None:
        """Free what the request holds and write its row; waits for nothing."""
        self.entry.status = self._answer.status
        self.entry.seconds = round(time.perf_counter() - self._began, 6)
        self._service.later(self._record())

    async def _run(self, body: bytes) -> None:
        if self._judge is None:
            await self._fail(NOT_READY)
            return
        judge = self._judge
        self._trace.enter("judge request")
        try:
            asked = self._protocol.read(body, self._settings.max_messages)
            refuse_unread(asked.unread, self._settings.media)
        except RequestError as error:
            if "enforce" in (judge.input_mode, judge.output_mode):
                raise
            self.entry.error = f"not read: {error}"  # where nothing is enforced nothing is refused
            asked = Asked((), "", False, False, 1, body)
        else:
            self._asked = asked
            self.entry.model, self.entry.stream, self.entry.media = asked.model, asked.stream, len(asked.unread)
            if (wait := self._service.door.hold(self.entry, asked.payload, judge)) is not None:
                await self._fail(wait)
                return
            beside = self._loan.beside if self._loan else None
            keep = self._service.keeps_content
            self._judged = await self._timed(judge.read(asked.messages, *asked.others, beside=beside, keep=keep))
            self.entry.reading_seconds = self.entry.judging_seconds
        if self._judged is not None and self._judged.blocked:
            await self._block(asked)
            return
        began, trace = time.perf_counter(), self._trace.enter("upstream")
        async with self._service.upstream.request(
            "POST", self._protocol.path, self._headers, asked.payload, trace, key_header=self._protocol.key_header
        ) as response:
            self.entry.upstream_seconds = round(time.perf_counter() - began, 6)
            self._trace.enter("reply")
            await self._hand_on(response, asked)

    async def _hand_on(self, response: aiohttp.ClientResponse, asked: Asked) -> None:
        assert self._judge is not None
        if self._judged is None or self._judge.output_mode != "enforce":
            await self._hand_on_unchanged(response, asked)
        elif response.status != 200:
            await self._hand_on_error(response, self._judged)
        elif asked.stream:
            await self._hand_on_stream(response, self._protocol.gate(self._judged, asked, self.entry.id))
        else:
            self._reply = reply = self._protocol.whole(self._judged, asked, self.entry.id)
            body = await self._timed(reply.judge(await self._service.upstream.whole(response)))
            self.entry.outcome = "output_blocked" if reply.stopped else "passed"
            await self._answer.whole(200, body)

    async def _hand_on_stream(self, response: aiohttp.ClientResponse, gate: Gate) -> None:
        self._reply = gate
        if response.content_type != "text/event-stream":
            raise ModelError(f"the upstream sent {response.content_type} when a stream was asked for")
        parser = EventParser(self._settings.max_reply_bytes)
        async for data in response.content.iter_any():
            await self._send(await self._timed(gate.feed(parser.feed(data))), response, gate)
            if gate.ended:
                break
        else:
            await self._send(await self._timed(gate.feed(parser.close())), response, gate)
            if not gate.ended:
                raise ModelError("the upstream broke off its reply")
        await self._answer.end()
        if not gate.stopped:
            await _read_end(response)

    async def _send(self, out: bytes, response: aiohttp.ClientResponse, gate: Gate) -> None:
        if gate.stopped:
            self.entry.outcome = "output_blocked"
            if gate.ended:
                response.close()  # before the client hears of it: the upstream must not go on writing
        if out:
            if self.entry.first_seconds is None:
                self.entry.first_seconds = round(time.perf_counter() - self._began, 6)
            await self._answer.part(out)

    async def _hand_on_unchanged(self, response: aiohttp.ClientResponse, asked: Asked) -> None:
        """In shadow not a byte is changed or late; what can be read of the reply is judged beside it."""
        judged = self._judged if self._judge and self._judge.output_mode == "shadow" else None
        streamed = response.content_type == "text/event-stream"
        kind = EVENTS if streamed else response.headers.get("content-type", JSON)
        parser, body = EventParser(self._settings.max_reply_bytes), bytearray()
        gate = self._protocol.gate(judged, asked, self.entry.id) if judged and streamed else None
        self._reply = gate
        if response.status != 200 and self._service.upstream.has_key:
            data = self._service.upstream.concealed(await self._service.upstream.whole(response))
            await self._answer.whole(response.status, data, kind=kind)
            return
        async for data in response.content.iter_any():
            await self._answer.part(data, response.status, kind)
            if gate is not None:
                gate = await self._overhear(gate, parser, data)
            elif judged is not None and not streamed and len(body) < self._settings.max_reply_bytes:
                body += data
        await self._answer.end()
        if judged is not None and response.status == 200 and not streamed:
            self._reply = self._protocol.whole(judged, asked, self.entry.id)
            with contextlib.suppress(ModelError):
                await self._reply.judge(bytes(body))

    async def _overhear(self, gate: Gate, parser: EventParser, data: bytes) -> Gate | None:
        try:
            await gate.feed(parser.feed(data))
        except ModelError as error:
            self.entry.error = f"not read: {error}"
            return None
        return gate

    async def _hand_on_error(self, response: aiohttp.ClientResponse, judged: JudgedRequest) -> None:
        """An upstream's refusal with its message, which is judged like a reply: it may quote one."""
        upstream, status = self._service.upstream, response.status
        ours = upstream.has_key and status in (401, 403)  # no client's fault, and a message may quote parts of the key
        message, code = _error_of(b"" if ours else upstream.concealed(await upstream.whole(response)))
        watch = judged.watch()
        released = await self._timed(judged.advance([(watch, message), (watch, None)])) if message else []
        if "".join(out.text for out in released) != message or not message:
            message = f"The upstream refused the request with HTTP status {status}."
        self.entry.outcome, self.entry.error = "upstream_error", f"upstream status {status}"
        status = status if 400 <= status < 500 and not ours else 502
        failure = Failure(status, code, message, "upstream_error")
        wait = response.headers.get("retry-after", "")
        headers = {"retry-after": wait} if wait.isdecimal() else failure.headers
        await self._answer.whole(status, self._protocol.body(failure), headers)

    async def _block(self, asked: Asked) -> None:
        self.entry.outcome = "input_blocked"
        if self._settings.block_status == 400:
            await self._answer.whole(400, self._protocol.body(BLOCKED))
        elif asked.stream:
            await self._answer.part(self._protocol.blocked(asked, self.entry.id))
            await self._answer.end()
        else:
            await self._answer.whole(200, self._protocol.blocked(asked, self.entry.id))

    async def _fail(self, failure: Failure) -> None:
        self.entry.outcome = failure.outcome
        await self._answer.fail(failure)

    async def _timed(self, judging: Awaitable[T]) -> T:
        began = time.perf_counter()
        try:
            return await judging
        finally:
            self.entry.judging_seconds += time.perf_counter() - began

    async def _record(self) -> None:
        try:
            await self._write_row()
        finally:
            if self._loan is not None:
                self._service.policies.end(self._loan)

    async def _write_row(self) -> None:
        entry, judged = self.entry, self._judged
        if judged is not None:
            await judged.settle()
            entry.input = judged.verdict
            entry.outputs = list(self._reply.verdicts()) if self._reply else []
            entry.beside = self._said_beside(judged)
            entry.steps = sum(watch.steps for watch in judged.watches)
            entry.passed_unread = judged.opened
            if judged.failure is not None:
                entry.error = entry.error or str(judged.failure)
            judged.close()
        if self._service.keeps_content and self._asked is not None:
            entry.content = Content(sum(self._asked.others, self._asked.messages), judged.heard if judged else ())
        entry.judging_failed = entry.outcome == "guard_error" or (judged is not None and judged.failure is not None)
        self._service.record(entry, self._judge)
        self._trace.end(entry)

    def _said_beside(self, judged: JudgedRequest) -> Beside | None:
        other, watching = judged.beside, self._loan.beside if self._loan else None
        if other is None or watching is None:
            return None
        outputs = [
            OutputVerdict(number, "", watch.verdict) for number, watch in enumerate(other.watches) if watch.verdict
        ]
        return Beside(watching.version, other.verdict, outputs, str(other.failure) if other.failure else None)


def _error_of(body: bytes) -> tuple[str, str]:
    """Message and code of an upstream's error body, empty and `upstream_error` where it has none."""
    try:
        error = msgspec.json.decode(body).get("error")
        message, code = error.get("message"), error.get("code")
    except (ValueError, RecursionError, AttributeError):
        return "", "upstream_error"
    return (
        message[:2000] if isinstance(message, str) else "",
        word(code if isinstance(code, str) else None, "upstream_error"),
    )


async def _read_end(response: aiohttp.ClientResponse) -> None:
    """Take the empty end of a finished stream, so that its connection can serve the next request."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            await response.content.readany()
