"""The benchmark of the proxy: whose CPU is counted, and when its rounds end."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

# Listens on a port that it prints, and uses CPU in a child that has ended and in one that has not.
BUSY = """
import socket, subprocess, sys
held = socket.create_server(("127.0.0.1", 0))
spin = "import time\\nwhile time.process_time() < 0.3: pass\\nprint(flush=True)\\ninput()"
subprocess.run([sys.executable, "-c", spin], input=b"x\\n", stdout=subprocess.PIPE)
living = subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
living.stdout.readline()
print(held.getsockname()[1], flush=True)
input()
living.communicate(b"x\\n")
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    import proxy

    return proxy


@contextmanager
def busy() -> Iterator[tuple[int, int]]:
    """The id and the port of a process that works and listens."""
    command = [sys.executable, "-c", BUSY]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        yield running.pid, int(running.stdout.readline())
        running.communicate("x\n")


def test_the_process_behind_a_port_is_found_and_its_children_count(bench: Any) -> None:
    with busy() as (pid, port):
        name, way = bench.other(f"some=http://127.0.0.1:{port}/v1", "k")
        assert (name, way.url, way.key) == ("some", f"http://127.0.0.1:{port}/v1", "k")
        assert way.process == psutil.Process(pid)
        assert 0.6 <= bench.used(way.process) < 5
        assert bench.used(None) == 0


def test_a_process_can_be_named(bench: Any) -> None:
    _, way = bench.other(f"some=http://127.0.0.1:1/v1,{psutil.Process().pid}", "k")
    assert way.process == psutil.Process()
    assert bench.other("some=http://127.0.0.1:1/v1", "k")[1].process is None


@pytest.mark.parametrize(("limit_s", "made"), [(0.0, 1), (1e9, 3)])
def test_one_round_is_always_made_and_a_further_one_where_it_fits(
    bench: Any, monkeypatch: pytest.MonkeyPatch, limit_s: float, made: int
) -> None:
    async def at_once(way: Any, *_: int) -> Any:
        return way.url

    monkeypatch.setattr(bench, "round_of", at_once)
    ways = {name: bench.Way(name) for name in ("direct", "other")}
    assert bench.measured(ways, 1, 200, 0, 3, limit_s) == {name: [name] * made for name in ways}
