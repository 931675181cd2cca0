import sys
import time

import pytest

from marbury import progress
from marbury.progress import Bar, track


def test_items_pass_through_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], "count")) == [3, 1, 2]
    assert list(track(iter("ab"), "spell")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")  # short work says nothing


def test_long_work_says_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    with Bar("bake", 5) as bar:
        bar.advance(2)
        bar.advance(note="loss 0.3")
    with Bar("wait") as bar:
        bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "  bake: 2/5 after 0 s",
        "  bake: 3/5 after 0 s loss 0.3",
        "  wait: 1 after 0 s",
    ]


def test_a_list_says_how_long_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "LINE_EVERY_S", 0.0)
    list(track([1, 2], "count"))
    list(track(iter([1]), "count", total=7))
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["1/2", "2/2", "1/7"]


def test_lines_keep_their_distance(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 4.0, 11.0, 12.0, 20.0, 22.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    with Bar("bake") as bar:
        for _ in range(5):
            bar.advance()
    assert capsys.readouterr().err.splitlines() == ["  bake: 2 after 11 s", "  bake: 5 after 22 s"]


def test_on_a_terminal_there_is_a_bar_that_goes_away_also_when_the_work_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with pytest.raises(RuntimeError, match="smoke"), Bar("bake", 3) as bar:
        bar.advance(note="loss 0.3")
        shown = bar._rich
        assert shown is not None and shown.live.is_started
        task = shown.tasks[0]
        assert (task.completed, task.total, task.description) == (1, 3, "bake loss 0.3")
        raise RuntimeError("smoke")
    assert shown is not None and not shown.live.is_started
