"""Two processes on one port, for real: one is killed while it streams, and nobody else hears of it."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import psutil
import pytest
from rig import ASK, eventually, tale, upstream
from starlette.applications import Starlette

from marbury.errors import GuardError, SettingsError
from marbury.guard import Judge
from marbury.serve import ServeSettings, create_app, run_many

SERVE = "from marbury.cli import main; main()"
LONG = tale(" ".join(f"word{n}" for n in range(60)))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@dataclass
class Served:
    url: str
    parent: psutil.Popen
    rows: Path

    def workers(self) -> set[int]:
        """The processes that listen."""
        port = int(self.url.rpartition(":")[2])
        found = set()
        for child in self.parent.children():
            try:
                listening = [each for each in child.net_connections() if each.status == "LISTEN"]
            except psutil.Error:
                continue
            found |= {child.pid for each in listening if each.laddr.port == port}
        return found

    def journal(self) -> list[dict[str, object]]:
        lines = self.rows.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def passed(self) -> int:
        return sum(row["outcome"] == "passed" for row in self.journal())


@contextmanager
def served(folder: Path, upstream_url: str, port: int) -> Iterator[Served]:
    command = ["serve", "--drill", "quillstone", "--processes", "2", "--port", str(port), "--upstream", upstream_url]
    rows = folder / "rows"
    with rows.open("w") as out:
        parent = psutil.Popen([sys.executable, "-c", SERVE, *command], stdout=out, stderr=subprocess.PIPE, text=True)
        try:
            found = Served(f"http://127.0.0.1:{port}", parent, rows)
            eventually(lambda: len(found.workers()) == 2, 30)
            yield found
        finally:
            if parent.poll() is None:
                parent.send_signal(signal.SIGTERM)
            parent.communicate(timeout=20)


@dataclass
class Stream:
    response: aiohttp.ClientResponse
    worker: int

    async def rest(self) -> tuple[bytes, bool]:
        """What it still says, and whether it ends as an HTTP response does."""
        said = b""
        try:
            async for data in self.response.content.iter_any():
                said += data
        except aiohttp.ClientError:
            return said, False
        finally:
            self.response.close()
        return said, True


async def begin(session: aiohttp.ClientSession, server: Served) -> Stream:
    """A stream that has begun, and the process that has it."""
    body = {"model": "m", "messages": ASK, "stream": True}
    response = await session.post(f"{server.url}/v1/chat/completions", json=body)
    assert response.status == 200
    await response.content.readany()
    assert response.connection is not None and response.connection.transport is not None
    here = response.connection.transport.get_extra_info("sockname")[1]
    owners = [
        child.pid
        for child in server.parent.children()
        if any(each.raddr and each.raddr.port == here for each in child.net_connections())
    ]
    return Stream(response, owners[0])


async def begin_on_both(session: aiohttp.ClientSession, server: Served) -> list[Stream]:
    streams = [await begin(session, server)]
    while len({stream.worker for stream in streams}) < 2:
        assert len(streams) < 40, "the kernel gives all connections to one process"
        streams.append(await begin(session, server))
    return streams


def counted(metrics: str) -> float:
    """How many requests are counted as passed."""
    lines = [line for line in metrics.splitlines() if line.startswith("marbury_requests_total")]
    return sum(float(line.rpartition(" ")[2]) for line in lines if 'outcome="passed"' in line)


async def test_a_process_that_is_killed_takes_only_its_own_streams(tmp_path: Path) -> None:
    with upstream(pieces=LONG, delay_s=0.02) as behind, served(tmp_path, behind.url, free_port()) as server:
        before = server.workers()
        async with aiohttp.ClientSession() as session:
            streams = await begin_on_both(session, server)
            victim = streams[0].worker
            os.kill(victim, signal.SIGKILL)
            ends = await asyncio.gather(*(stream.rest() for stream in streams))
            for stream, (said, clean) in zip(streams, ends, strict=True):
                assert (stream.worker != victim) == clean == (b"[DONE]" in said)
            await asyncio.to_thread(eventually, lambda: len(server.workers()) == 2, 20)
            (new,) = server.workers() - before
            while (again := await begin(session, server)).worker != new:
                again.response.close()
            assert (await again.rest())[0].endswith(b"data: [DONE]\n\n")
            passed = sum(clean for _, clean in ends) + 1
            await asyncio.to_thread(eventually, lambda: server.passed() == passed)
            metrics = [await (await session.get(f"{server.url}/metrics")).text() for _ in range(4)]
    assert {counted(text) for text in metrics} == {passed}, "each process tells the sum"
    assert (
        'marbury_policy_info{input="enforce",on_error="closed",output="enforce",version="drill:quillstone"} 2.0'
        in (metrics[0])
    )
    assert server.parent.returncode == 0


async def test_a_stop_signal_lets_the_streams_of_all_processes_end(tmp_path: Path) -> None:
    with upstream(pieces=LONG, delay_s=0.02) as behind, served(tmp_path, behind.url, free_port()) as server:
        async with aiohttp.ClientSession() as session:
            streams = await begin_on_both(session, server)
            server.parent.send_signal(signal.SIGTERM)
            await asyncio.to_thread(eventually, lambda: not server.workers())
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"{server.url}/readyz")
            ends = await asyncio.gather(*(stream.rest() for stream in streams))
        assert all(clean and said.endswith(b"data: [DONE]\n\n") for said, clean in ends)
        assert await asyncio.to_thread(server.parent.wait, 15) == 0
    assert len(server.journal()) == len(streams)


def broken() -> Starlette:
    """An app whose guard cannot be loaded; made in the processes."""

    def make() -> Judge:
        raise SettingsError("the lamp has no oil")

    return create_app(make, ServeSettings())


def test_a_guard_that_no_process_can_load_ends_the_server() -> None:
    with pytest.raises(GuardError, match="the lamp has no oil"):
        run_many(broken, ServeSettings(processes=2, port=free_port()))


def test_a_port_that_is_taken_is_not_shared() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(SettingsError, match="choose another port"):
            run_many(broken, ServeSettings(processes=2, port=other.getsockname()[1]))


def test_several_processes_need_a_port_with_a_number() -> None:
    with pytest.raises(SettingsError, match="several processes need one port"):
        run_many(broken, ServeSettings(processes=2, port=0))
