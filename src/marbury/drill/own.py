"""Starts Marbury's own guard for a drill of itself: the real command, in a process of its own."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from marbury.errors import ModelError

_START_S = 60.0
_END_S = 10.0


@contextlib.contextmanager
def own_guard(word: str, upstream: str) -> Iterator[str]:
    """`marbury serve --drill WORD` in front of the upstream, on a free port; gives its URL.

    Raises:
        ModelError: it ends before it listens; it has said why.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "marbury.cli", "serve", "--drill", word, "--upstream", upstream]
    process = subprocess.Popen([*command, "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        _listens(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise ModelError(f"Marbury's own guard ended with status {process.returncode} before it listened")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ModelError(f"Marbury's own guard did not listen within {_START_S:.0f} s")
