"""Starts Marbury's own guard for a drill of itself: the real command, in a process of its own."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

_END_S = 10.0


@contextlib.contextmanager
def own_guard(word: str, upstream: str) -> Iterator[str]:
    """`marbury serve --drill WORD` in front of the upstream, on a free port; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marbury.cli", "serve", "--drill", word, "--upstream", upstream]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
