"""The proxy's routes. What is not listed here is refused: a path that is not guarded must not look as if it were."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from marbury.errors import MarburyError, ModelError, RequestError
from marbury.guard import Judge
from marbury.serve.answer import JSON, Answer
from marbury.serve.drilled import Drilled
from marbury.serve.exchange import Exchange
from marbury.serve.failures import BUSY, Failure, failure_of
from marbury.serve.journal import Entry, Journal, log_entry
from marbury.serve.policies import MakeJudge, Policies
from marbury.serve.protocols.endpoints import ENDPOINTS, RATING
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import Protocol, RatingProtocol
from marbury.serve.rated import Rated
from marbury.serve.service import Service
from marbury.serve.settings import ServeSettings

PATHS = (*(f"/v1{endpoint.path}" for endpoint in ENDPOINTS), *(endpoint.path for endpoint in RATING))
GUARDED = ", ".join(f"POST {path}" for path in PATHS)


def create_app(
    judge: Judge | MakeJudge | Policies, settings: ServeSettings, *, journal: Journal = log_entry, drill: str = ""
) -> Starlette:
    """The proxy in front of `settings.upstream`.

    `judge`: one, or what makes one, or what keeps several; it is made in a thread once the server runs, and `/readyz`
    says 503 until it has scored its first exchange. The `Service` behind the app is `app.state.service`.
    `drill`: the word that the judge stops in place of what a classifier would; it marks every answer and every row.

    Raises:
        SettingsError: the upstream's key is to come from an environment variable that is not set.
    """
    service = Service(_policies(judge), settings, journal)
    service.drill = drill

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = Starlette(
        routes=[
            *(Route(f"/v1{each.path}", Endpoint(each, service), methods=["POST"]) for each in ENDPOINTS),
            *(Route(each.path, Endpoint(each, service), methods=["POST"]) for each in RATING),
            Route("/v1/models", _models(service)),
            Route("/healthz", _healthz),
            Route("/readyz", _readyz(service)),
            Route("/metrics", _metrics(service)),
        ],
        exception_handlers={404: _not_guarded, 405: _not_guarded},
        middleware=[Middleware(Drilled, word=drill)] if drill else [],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    app.state.service = service
    return app


def _policies(judge: Judge | MakeJudge | Policies) -> Policies:
    if isinstance(judge, Judge):
        return Policies(lambda: judge)
    return judge if isinstance(judge, Policies) else Policies(judge)


class ModelList(msgspec.Struct):
    """What is read of the upstream's list of models."""

    data: list[dict[str, Any]]


class Endpoint:
    """An endpoint: reads the body, then lets an `Exchange` (or `Rated`) run for as long as the client is there."""

    def __init__(self, protocol: Protocol | RatingProtocol, service: Service) -> None:
        self._protocol = protocol
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request_id = uuid.uuid4().hex
        service = self._service
        if service.active >= service.settings.max_streams:
            await self._refuse(BUSY, Answer(send, request_id, self._protocol), request_id)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        answer = Answer(send, request_id, self._protocol)
        exchange: Exchange | Rated
        if isinstance(self._protocol, RatingProtocol):
            exchange = Rated(self._protocol, self._service, request_id, headers, answer)
        else:
            exchange = Exchange(self._protocol, self._service, request_id, headers, answer)
        with self._under_way():
            try:
                body = await _body(receive, self._service.settings.max_body_bytes)
            except RequestError as error:
                exchange.entry.outcome, exchange.entry.error = "refused", str(error)
                await answer.fail(failure_of(error))
                exchange.close()
                return
            if body is None:
                exchange.entry.outcome = "disconnected"
                exchange.close()
                return
            await _while_connected(exchange, body, receive, answer)

    async def _refuse(self, failure: Failure, answer: Answer, request_id: str) -> None:
        """Turn a request away before anything of it is read."""
        await answer.fail(failure)
        entry = Entry(id=request_id, time=time.time(), route=self._protocol.route, outcome=failure.outcome)
        entry.status = answer.status
        self._service.record(entry, None)

    @contextlib.contextmanager
    def _under_way(self) -> Iterator[None]:
        self._service.active += 1
        try:
            with self._service.metrics.active.track_inprogress():
                yield
        finally:
            self._service.active -= 1


async def _body(receive: Receive, limit: int) -> bytes | None:
    """The body of a request; None if the client left before its end.

    Raises:
        RequestError: it is longer than it may be.
    """
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise RequestError(f"the body is longer than {limit} bytes", status=413, code="body_too_large")
        parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts)


async def _while_connected(exchange: Exchange | Rated, body: bytes, receive: Receive, answer: Answer) -> None:
    """Run the exchange; a client that leaves cancels it, and with it the upstream's call."""
    work = asyncio.ensure_future(exchange.run(body))
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.ended:  # once all is sent, the server calls that a disconnect too
            work.cancel()
        await asyncio.wait((work,))
    finally:
        work.cancel()
        gone.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type=JSON)


def _models(service: Service) -> Callable[[Request], Any]:
    async def models(request: Request) -> Response:
        """The upstream's list of models: ids and numbers of it."""
        try:
            async with service.upstream.request("GET", "/models", request.headers) as response:
                if response.status != 200:
                    raise ModelError(f"the upstream answered /models with status {response.status}")
                listed = _listed(await service.upstream.whole(response))
        except MarburyError as error:
            failure = failure_of(error)
            return Response(failure.body(), failure.status, failure.headers, JSON)
        return _json({"object": "list", "data": [_model(row) for row in listed]})

    return models


def _listed(body: bytes) -> list[dict[str, Any]]:
    try:
        return msgspec.json.decode(body, type=ModelList).data
    except (ValueError, RecursionError) as error:
        raise ModelError("the upstream's /models is no list of models") from error


def _model(row: dict[str, Any]) -> dict[str, Any]:
    texts = {key: word(row[key], "") for key in ("id", "owned_by") if isinstance(row.get(key), str)}
    created = row.get("created")
    return {**texts, "object": "model", "created": created if isinstance(created, int) else 0}


async def _healthz(request: Request) -> Response:
    return _json({"status": "ok"})


def _readyz(service: Service) -> Callable[[Request], Any]:
    async def readyz(request: Request) -> Response:
        """Whether the guard is loaded and warm, and what it enforces."""
        judge = service.judge
        drill = {"drill": service.drill} if service.drill else {}
        if judge is None:
            return _json({"status": "failed" if service.failure else "loading", **drill}, 503)
        live: dict[str, Any] = drill | {
            "input": judge.input_mode,
            "output": judge.output_mode,
            "constitution": judge.version,
        }
        live["on_error"] = "open" if judge.fail_open else "closed"
        live["media"] = service.settings.media
        other, failure = service.policies.other, service.policies.failure
        if other is not None:
            live |= {"candidate": other.version, "candidate_percent": service.settings.candidate_percent}
        if failure is not None:
            live["newer"] = f"could not be loaded: {type(failure).__name__}, see the log"
        if service.draining:
            return _json({"status": "draining", **live}, 503)
        return _json({"status": "ready", **live})

    return readyz


def _metrics(service: Service) -> Callable[[Request], Any]:
    async def metrics(request: Request) -> Response:
        service.metrics.live(service.policies)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return metrics


async def _not_guarded(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    message = f"{request.method} {request.url.path} is not guarded and therefore refused; guarded: {GUARDED}"
    failure = failure_of(RequestError(message, status=status, code="endpoint_not_guarded"))
    return Response(failure.body(), failure.status, media_type=JSON)
