"""The file between the requests and the database."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.audit.spool import Spool, waiting_in
from marbury.errors import SettingsError


def drained(spool: Spool, most: int = 3) -> list[bytes]:
    found = list[bytes]()
    while True:
        lines, end = spool.read(most)
        if not lines:
            return found
        found += lines
        spool.done(end, len(lines))


def test_first_in_first_out_and_small_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1", b"2"])
    assert spool.read(9)[0] == [b"1", b"2"] == spool.read(9)[0]  # not done yet
    spool.append([b"3", b"4"], sync=True)
    assert spool.waiting == 4 and waiting_in(tmp_path) == 4
    assert drained(spool) == [b"1", b"2", b"3", b"4"]
    assert spool.waiting == 0 and spool.path.stat().st_size == 0
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_process_leaves_is_found_by_the_next(tmp_path: Path) -> None:
    first = Spool(tmp_path)
    first.append([b"1", b"2"])
    lines, end = first.read(1)
    first.done(end, 1)
    first.close()
    second = Spool(tmp_path)
    assert drained(second) == [b"1", b"2"]  # the first again: its id tells the database that it has it
    second.close()


def test_a_torn_line_ends_where_it_was_torn(tmp_path: Path) -> None:
    (tmp_path / "spool-a.jsonl").write_bytes(b'{"id": "1"}\n{"id": "')
    spool = Spool(tmp_path)
    spool.append([b"3"])
    assert drained(spool) == [b'{"id": "1"}', b'{"id": "', b"3"]
    spool.close()


def test_two_processes_have_a_file_each_and_the_living_one_takes_over(tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from marbury.audit.spool import Spool
spool = Spool(Path({str(tmp_path)!r}))
spool.append([b"theirs"])
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        spool = Spool(tmp_path)
        assert spool.adopt() == 0 and spool.waiting == 0
        other.kill()
        other.wait()
    spool.append([b"ours"])
    assert spool.adopt() == 1
    assert drained(spool) == [b"ours", b"theirs"]
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_a_line_longer_than_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marbury.audit.spool._MOST_BYTES", 10)
    spool = Spool(tmp_path)
    spool.append([b"short", b"x" * 100, b"y"])
    assert drained(spool) == [b"short", b"x" * 100, b"y"]
    spool.close()


def test_a_full_disk_takes_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(tmp_path)
    spool.append([b"1"])
    own = Spool._write

    def half(self: Spool, data: bytes) -> None:
        import os

        written = list[int]()

        def write(fd: int, data: bytes) -> int:
            if written:
                raise OSError(28, "No space left on device")
            written.append(1)
            return real(fd, bytes(data)[:2])

        real = os.write
        with monkeypatch.context() as patched:
            patched.setattr("os.write", write)
            own(self, data)

    monkeypatch.setattr(Spool, "_write", half)
    with pytest.raises(OSError, match="No space"):
        spool.append([b"2", b"3"])
    monkeypatch.setattr(Spool, "_write", own)
    spool.append([b"4"])
    assert drained(spool) == [b"1", b"4"] and spool.waiting == 0
    spool.close()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written.*another place"):
        Spool(tmp_path / "file" / "audit")


@given(st.lists(st.one_of(st.lists(st.binary(max_size=9), max_size=4), st.integers(1, 5)), max_size=30))
def test_any_order_of_appending_and_taking_keeps_the_lines(
    tmp_path_factory: pytest.TempPathFactory, acts: list[list[bytes] | int]
) -> None:
    spool, given, taken = Spool(tmp_path_factory.mktemp("spool")), list[bytes](), list[bytes]()
    for act in acts:
        if isinstance(act, int):
            lines, end = spool.read(act)
            spool.done(end, len(lines))
            taken += lines
        else:
            clean = [line.replace(b"\n", b"") for line in act]
            spool.append(clean)
            given += clean
        assert spool.waiting == len(given) - len(taken)
    assert taken + drained(spool) == given
    spool.close()
