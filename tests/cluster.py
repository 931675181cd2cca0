"""A PostgreSQL of the test's own: Debian's binaries, a folder that is thrown away, a socket and no port."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """Where `initdb` and `pg_ctl` are."""
    found = [Path(path).resolve().parent for path in [shutil.which("pg_ctl")] if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in found if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


@dataclass
class Cluster:
    """One server; `url` leads to its database while it runs."""

    bin: Path
    folder: Path
    user: str | None  # PostgreSQL does not run as root

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://marbury:the-password@/postgres?host={self.folder}"

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses= -c fsync=off"
        self.call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self.call("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def call(self, program: str, *words: str) -> None:
        done = subprocess.run(
            [self.bin / program, *words], cwd=self.folder, user=self.user, stdout=subprocess.DEVNULL, stderr=2
        )
        assert done.returncode == 0, f"{program} {' '.join(words)}"


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A server that runs; skips the test, loudly, where there are no binaries."""
    place = binaries()
    if place is None:
        print("\nPOSTGRESQL IS NOT TESTED: no initdb and pg_ctl here (apt install postgresql)", file=sys.__stderr__)
        pytest.skip("PostgreSQL is not installed: apt install postgresql")
    root = os.geteuid() == 0
    folder = Path(tempfile.mkdtemp(prefix="marbury-pg-", dir="/tmp"))  # short, and open to another user
    try:
        if root:
            shutil.chown(folder, "nobody")
        made = Cluster(place, folder, "nobody" if root else None)
        made.call("initdb", "-D", "data", "-A", "trust", "-U", "marbury", "-E", "UTF8", "--no-sync", "--locale=C")
        made.start()
        try:
            yield made
        finally:
            made.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
