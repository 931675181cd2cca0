import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from marbury.chat.endpoint import Endpoint
from marbury.chat.model import complete
from marbury.errors import ModelError, SettingsError
from marbury.records import Message, Piece, Reply

QUESTION = [Message("system", "You keep lamps."), Message("user", "Which oil?")]
Play = Callable[[asyncio.StreamWriter, int], Any]


class Server:
    """A small HTTP server on loopback. `play` answers request number 1, 2, ...; then the connection is closed."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.heads: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            self.heads.append(head)
            self.bodies.append(json.loads(await reader.readexactly(length)))
            await self.play(writer, len(self.heads))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, as some tests want it to
        finally:
            writer.close()


@asynccontextmanager
async def serving(play: Play, **settings: Any) -> AsyncIterator[tuple[Server, Endpoint]]:
    """A server that plays, and an endpoint that asks it."""
    server = Server(play)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    endpoint = Endpoint("wise-lamp", server.url, **{"timeout_s": 5.0, "retries": 0, **settings})
    try:
        yield server, endpoint
    finally:
        await endpoint.aclose()
        listener.close()
        await listener.wait_closed()


def status(code: int, message: str) -> bytes:
    """A whole answer with an error status; `retry-after-ms` keeps the client's pause short."""
    body = json.dumps({"error": {"message": message}}).encode()
    head = f"HTTP/1.1 {code} X\r\ncontent-type: application/json\r\nretry-after-ms: 1\r\nconnection: close\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def row(text: str | None = None, finish: str | None = None, **delta: Any) -> bytes:
    """One server-sent event with one choice."""
    content = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": {**content, **delta}, "finish_reason": finish}
    value = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "wise-lamp", "choices": [choice]}
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def always(*parts: bytes) -> Play:
    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()

    return play


async def test_a_reply_streams_in_pieces_and_ends_with_its_finish() -> None:
    usage = b'data: {"id": "x", "choices": [], "usage": {"total_tokens": 3}}\n\n'
    play = always(HEAD, row("", role="assistant"), row("Rape"), row("seed 🪔"), row(finish="stop"), usage, DONE)
    async with serving(play) as (server, endpoint):
        pieces = [piece async for piece in endpoint.stream(QUESTION)]
    assert pieces == [Piece("Rape"), Piece("seed 🪔"), Piece(finish="stop")]
    assert endpoint.name == "wise-lamp"
    assert server.bodies == [
        {
            "model": "wise-lamp",
            "stream": True,
            "messages": [
                {"role": "system", "content": "You keep lamps."},
                {"role": "user", "content": "Which oil?"},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [("stop", "stop"), ("length", "length"), ("content_filter", "content_filter"), ("tool_calls", "stop")],
)
async def test_every_finish_has_a_meaning(theirs: str, ours: str) -> None:
    async with serving(always(HEAD, row("Oil."), row(finish=theirs), DONE)) as (_, endpoint):
        assert await complete(endpoint, QUESTION) == Reply("Oil.", ours)  # type: ignore[arg-type]


async def test_a_refusal_field_is_text_and_thoughts_are_not() -> None:
    play = always(HEAD, row(reasoning_content="hm"), row(refusal="No."), row(finish="stop"), DONE)
    async with serving(play) as (_, endpoint):
        assert await complete(endpoint, QUESTION) == Reply("No.")


async def test_settings_reach_the_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMP_KEY", "sk-lamp")
    settings = {"key_env": "LAMP_KEY", "temperature": 0.5, "max_tokens": 7}
    async with serving(always(HEAD, row("x", finish="length"), DONE), **settings) as (server, endpoint):
        await complete(endpoint, QUESTION)
    assert (server.bodies[0]["temperature"], server.bodies[0]["max_tokens"]) == (0.5, 7)
    assert "authorization: bearer sk-lamp" in server.heads[0]


async def test_the_key_for_openai_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-secret")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-secret")
    async with serving(always(HEAD, row("x", finish="stop"), DONE)) as (server, endpoint):
        await complete(endpoint, QUESTION)
    assert "secret" not in server.heads[0]


def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMP_KEY", raising=False)
    with pytest.raises(SettingsError, match="put it into the environment variable LAMP_KEY"):
        Endpoint("wise-lamp", "http://127.0.0.1/v1", key_env="LAMP_KEY")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (400, "HTTP 400.*does not accept the request"),
        (401, "HTTP 401.*key_env"),
        (404, "HTTP 404.*ends in /v1"),
        (429, "HTTP 429.*lower concurrency"),
        (500, "HTTP 500.*in trouble"),
    ],
)
async def test_an_error_status_says_what_to_do(code: int, message: str) -> None:
    async with serving(always(status(code, "no oil"))) as (_, endpoint):
        with pytest.raises(ModelError, match=rf"wise-lamp at http://127\.0\.0\.1:\d+/v1: {message}") as caught:
            await complete(endpoint, QUESTION)
    assert "no oil" in str(caught.value)


async def test_what_fails_before_the_reply_is_asked_again() -> None:
    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        answers = {1: b"", 2: status(429, "slow down"), 3: status(500, "fell over")}
        writer.write(answers.get(number, HEAD + row("Oil.", finish="stop") + DONE))

    async with serving(play, retries=3) as (server, endpoint):
        assert await complete(endpoint, QUESTION) == Reply("Oil.")
    assert len(server.heads) == 4


async def test_no_more_tries_than_allowed() -> None:
    async with serving(always(status(429, "slow down")), retries=2) as (server, endpoint):
        with pytest.raises(ModelError, match="HTTP 429"):
            await complete(endpoint, QUESTION)
    assert len(server.heads) == 3


CHUNKED = HEAD.replace(b"connection: close", b"transfer-encoding: chunked")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((HEAD, row("Oi")), "the reply broke off"),
        ((CHUNKED, b"ffff\r\n" + row("Oi")), "the connection broke off during the reply"),
        ((HEAD, row("Oi"), b'data: {"error": {"message": "no oil"}}\n\n'), "broke the reply off with an error: no oil"),
        ((HEAD, row("Oi"), b"data: {half\n\n"), "not in OpenAI's streaming format"),
        ((HEAD, row("Oi"), b"data: 5\n\n"), "not in OpenAI's streaming format"),
        ((HEAD, b'data: {"choices": [{"index": 0}]}\n\n', DONE), "the reply broke off"),
        ((HEAD.replace(b"event-stream", b"html"), b"<html>hello</html>"), "the reply broke off, or is none"),
    ],
)
async def test_a_broken_reply_is_never_taken_for_a_whole_one(parts: tuple[bytes, ...], message: str) -> None:
    async with serving(always(*parts)) as (_, endpoint):
        with pytest.raises(ModelError, match=message):
            await complete(endpoint, QUESTION)


@pytest.mark.parametrize("before", [b"", HEAD + row("Oi")])
async def test_silence_is_an_error_after_the_timeout(before: bytes) -> None:
    gone = asyncio.Event()

    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(before)
        await writer.drain()
        await asyncio.wait_for(gone.wait(), 5)

    async with serving(play, timeout_s=0.1) as (_, endpoint):
        with pytest.raises(ModelError, match=r"silent for 0\.1 s: raise timeout_s"):
            await complete(endpoint, QUESTION)
        gone.set()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "lamp://x/v1", "http://x:y/v1"])
async def test_no_connection(address: str) -> None:
    with pytest.raises(ModelError, match="no connection .*: check the address"):
        await complete(Endpoint("wise-lamp", address, retries=0), QUESTION)


def test_an_address_that_is_none() -> None:
    with pytest.raises(SettingsError, match="not an address"):
        Endpoint("wise-lamp", "http://[/v1")


def test_one_endpoint_serves_one_event_loop_after_another() -> None:
    async def once() -> Reply:
        async with serving(always(HEAD, row("Oil.", finish="stop"), DONE)) as (server, _):
            endpoint.base_url = server.url
            reply = await complete(endpoint, QUESTION)
            await endpoint.aclose()
            return reply

    endpoint = Endpoint("wise-lamp", "http://127.0.0.1/v1")
    assert asyncio.run(once()) == asyncio.run(once()) == Reply("Oil.")


async def test_a_reader_that_leaves_closes_the_stream() -> None:
    closed = asyncio.Event()

    async def play(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(HEAD)
        try:
            for _ in range(500):
                writer.write(row("more "))
                await writer.drain()
                await asyncio.sleep(0.01)
        finally:
            closed.set()

    async with serving(play) as (_, endpoint):
        stream = endpoint.stream(QUESTION)
        assert await anext(stream) == Piece("more ")
        await stream.aclose()  # type: ignore[attr-defined]
        await asyncio.wait_for(closed.wait(), 3)
