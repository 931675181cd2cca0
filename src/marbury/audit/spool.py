"""The file through which every row goes on its way to the database: what is in it survives outages and kill -9.

Each process has a file of its own, held by a lock; a file that nobody holds was left by a process that died, and is
taken over. A row is dropped from it once the database has it. Rows may be read twice after a crash: their id tells.
"""

import fcntl
import os
import shutil
import threading
import uuid
from pathlib import Path

from marbury.errors import SettingsError

_MOST_BYTES = 4_194_304  # that are read at once


class Spool:
    """Lines of bytes, first in, first out, on the disk. One thread appends, another reads."""

    def __init__(self, folder: Path) -> None:
        """Open the folder's spool.

        Raises:
            SettingsError: the folder cannot be written.
        """
        self._folder = folder
        self._lock = threading.Lock()
        self._at = 0  # where what is not done yet begins
        self.waiting = 0  # lines
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path, self._fd = self._own()
            self.waiting = self._mended_lines()
            self.adopt()
        except OSError as error:
            place = f"{folder} cannot be written ({error.strerror})"
            raise SettingsError(f'[serve] audit: {place}: choose another place, or audit = "" for none') from error

    def append(self, lines: list[bytes], *, sync: bool = False) -> None:
        """Add lines, all or none; `sync`: also when the power fails now.

        Raises:
            OSError: the disk took them not.
        """
        with self._lock:
            self._write(b"".join(line + b"\n" for line in lines))
            if sync:
                os.fsync(self._fd)
            self.waiting += len(lines)

    def read(self, most: int) -> tuple[list[bytes], int]:
        """The first lines that are not done, and where they end."""
        with self._lock, self.path.open("rb") as source:  # the lock: no half of an append is seen
            source.seek(self._at)
            lines = source.read(_MOST_BYTES).split(b"\n")[:-1]
            if not lines:  # one line longer than that
                source.seek(self._at)
                line = source.readline()
                lines = [line[:-1]] if line.endswith(b"\n") else []
        lines = lines[:most]
        return lines, self._at + sum(len(line) + 1 for line in lines)

    def done(self, end: int, count: int) -> None:
        """The lines before `end` need not be kept."""
        with self._lock:
            self._at = end
            self.waiting -= count
            if os.fstat(self._fd).st_size == end:
                os.ftruncate(self._fd, 0)
                self._at = 0

    def adopt(self) -> int:
        """Take over the files of processes that died; give how many lines."""
        before = self.waiting
        for path in sorted(self._folder.glob("spool-*.jsonl")):
            if path != self.path and (fd := _held(path)) is not None:
                try:
                    self._take(path)
                finally:
                    os.close(fd)
        return self.waiting - before

    def close(self) -> None:
        """Let go of the file; an empty one goes."""
        with self._lock:
            if os.fstat(self._fd).st_size == 0:
                self.path.unlink(missing_ok=True)
            os.close(self._fd)

    def _own(self) -> tuple[Path, int]:
        """A file left behind, or a new one."""
        for path in sorted(self._folder.glob("spool-*.jsonl")):
            if (fd := _held(path)) is not None:
                return path, fd
        while True:
            path = self._folder / f"spool-{uuid.uuid4().hex[:12]}.jsonl"
            path.touch(mode=0o600, exist_ok=False)
            if (fd := _held(path)) is not None:  # else another process has just taken it for a dead one's
                return path, fd

    def _mended_lines(self) -> int:
        """How many lines there are; one that was torn by a crash ends here."""
        data_end = os.fstat(self._fd).st_size
        if data_end and os.pread(self._fd, 1, data_end - 1) != b"\n":
            self._write(b"\n")
        return _count(self.path)

    def _take(self, path: Path) -> None:
        lines = _count(path)
        with self._lock, path.open("rb") as source, self.path.open("ab") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            if path.stat().st_size and os.pread(source.fileno(), 1, path.stat().st_size - 1) != b"\n":
                target.write(b"\n")
                lines += 1
            target.flush()
            os.fsync(target.fileno())
            self.waiting += lines
            path.unlink()

    def _write(self, data: bytes) -> None:
        size = os.fstat(self._fd).st_size
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, size)
            raise


def private(path: str, flags: int) -> int:
    """Opens a file that its owner alone may read: an `opener`."""
    return os.open(path, flags, 0o600)


def waiting_in(folder: Path) -> int:
    """How many rows wait in a folder's spools, whoever holds them."""
    return sum(_count(path) for path in folder.glob("spool-*.jsonl"))


def _count(path: Path) -> int:
    with path.open("rb") as source:
        return sum(block.count(b"\n") for block in iter(lambda: source.read(1 << 20), b""))


def _held(path: Path) -> int | None:
    """The file, locked; None if another process holds it, or it is gone."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_ino == path.stat().st_ino:
            return fd
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(fd)
    return None
