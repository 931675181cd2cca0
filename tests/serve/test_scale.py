"""Ray Serve on this machine with two replicas: one is killed while it streams. Skipped where Ray is not installed."""

import asyncio
import builtins
import importlib.util
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from rig import ASK, eventually, tale, upstream
from starlette.applications import Starlette

from marbury import pipeline
from marbury.errors import SettingsError
from marbury.serve import ServeSettings
from marbury.serve.scale import on_ray

SERVICE = Path(__file__).with_name("ray_service.py")
LONG = tale(" ".join(f"word{n}" for n in range(60)))
with_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None, reason="NOT TESTED, Ray is not installed: pip install 'marbury[scale]'"
)


@dataclass
class OnRay:
    url: str
    service: psutil.Process
    upstream_port: int

    def replicas(self) -> dict[int, set[int]]:
        """The replicas by process id, with the ports from which they speak to the upstream."""
        found = {}
        for process in self.service.children(recursive=True):
            try:
                if process.cmdline()[:1] and process.cmdline()[0].startswith("ray::ServeReplica"):
                    found[process.pid] = {
                        each.laddr.port
                        for each in process.net_connections()
                        if each.raddr and each.raddr.port == self.upstream_port
                    }
            except psutil.Error:
                continue
        return found


@contextmanager
def on_two_replicas(home: Path, upstream_url: str) -> Iterator[OnRay]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # The second one makes Ray speak over loopback alone, on every system; it keeps a token in the home folder.
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "HOME": str(home)}
    command = [sys.executable, str(SERVICE), upstream_url, str(port)]
    with (home / "log").open("w") as log:
        service = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=os.environ | quiet, text=True
        )
        seen = psutil.Process(service.pid)
        try:
            assert service.stdout is not None
            assert any(line == "ready\n" for line in service.stdout), (home / "log").read_text()
            yield OnRay(f"http://127.0.0.1:{port}", seen, int(upstream_url.split(":")[2].split("/")[0]))
        finally:
            left = seen.children(recursive=True)
            service.communicate(timeout=60)
            for process in psutil.wait_procs(left, timeout=10)[1]:
                process.kill()


@dataclass
class Stream:
    response: aiohttp.ClientResponse
    replica: int

    async def rest(self) -> bytes:
        """What it still says before it is over, in whatever way."""
        said = b""
        try:
            async for data in self.response.content.iter_any():
                said += data
        except aiohttp.ClientError:
            pass
        finally:
            self.response.close()
        return said


async def begin(session: aiohttp.ClientSession, service: OnRay) -> Stream:
    before = set[int]().union(*service.replicas().values())
    response = await session.post(
        f"{service.url}/v1/chat/completions", json={"model": "m", "messages": ASK, "stream": True}
    )
    assert response.status == 200
    await response.content.readany()
    (replica,) = (pid for pid, ports in service.replicas().items() if ports - before)
    return Stream(response, replica)


@with_ray
async def test_a_replica_that_is_killed_takes_only_its_own_streams(tmp_path: Path) -> None:
    with upstream(pieces=LONG, delay_s=0.05) as behind, on_two_replicas(tmp_path, behind.url) as service:
        before = set(service.replicas())
        assert len(before) == 2
        async with aiohttp.ClientSession() as session:
            streams = [await begin(session, service)]
            while len({stream.replica for stream in streams}) < 2:
                assert len(streams) < 20, "one replica gets everything"
                streams.append(await begin(session, service))
            os.kill(streams[0].replica, signal.SIGKILL)
            for stream, said in zip(streams, await asyncio.gather(*(each.rest() for each in streams)), strict=True):
                assert said.endswith(b"data: [DONE]\n\n") == (stream.replica != streams[0].replica)
                assert (b"[DONE]" in said) == (stream.replica != streams[0].replica)
            await asyncio.to_thread(eventually, lambda: len(service.replicas().keys() - before) == 1, 30)
            again = await begin(session, service)
            behind.left.clear()
            again.response.close()
            await asyncio.to_thread(eventually, behind.left.is_set)  # a client that leaves ends the call upstream


@with_ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, when it is imported
def test_a_run_folder_becomes_an_application(tmp_path: Path) -> None:
    (tmp_path / "constitution.md").write_text("# Rules")
    (tmp_path / "marbury.toml").write_text("[serve]\nmax_streams = 7\n")
    (tmp_path / "classifier").mkdir()
    (tmp_path / "calibrate").mkdir()
    (tmp_path / "calibrate" / "thresholds.json").write_text("{}")
    built: Any = pipeline.ray_app({"run": str(tmp_path), "replicas": "3", "cpus": "0.5"})
    deployment = built._bound_deployment
    assert (deployment.num_replicas, deployment.max_ongoing_requests) == (3, 7)
    assert deployment.ray_actor_options["num_cpus"] == 0.5


@pytest.mark.parametrize("args", [{}, {"run": "x", "replica": "3"}, {"run": "x", "replicas": "many"}])
def test_wrong_arguments_of_the_application_are_refused(args: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="serve run"):
        pipeline.ray_app(args)


def test_a_machine_without_ray_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def missing(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "ray":
            raise ImportError(name)
        return found(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(SettingsError, match=r"pip install 'marbury\[scale\]'"):
        on_ray(Starlette, ServeSettings())
