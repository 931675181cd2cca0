"""One way to show that long work goes on: a bar on a terminal, a line now and then anywhere else."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")
LINE_EVERY_S = 10.0


class Bar:
    """How far a piece of work is; use it as a context and call `advance`."""

    def __init__(self, what: str, total: int | None = None) -> None:
        self.what, self.total, self.count = what, total, 0
        self._started = self._last = time.monotonic()
        self._rich: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            columns = (TextColumn("  {task.description:<28}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._rich = Progress(*columns, console=Console(stderr=True), transient=True)
            self._rich.start()
            self._task = self._rich.add_task(self.what, total=self.total)
        return self

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Some more is done; a note (a loss, say) stands beside it."""
        self.count += steps
        if self._rich is not None:
            self._rich.update(self._task, advance=steps, description=f"{self.what} {note}".rstrip())
            return
        now = time.monotonic()
        if now - self._last >= LINE_EVERY_S:
            self._last = now
            of = f"/{self.total}" if self.total else ""
            text = f"  {self.what}: {self.count}{of} after {now - self._started:.0f} s {note}"
            print(text.rstrip(), file=sys.stderr, flush=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Hand the items on and show how far they are."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Bar(what, total) as bar:
        for item in items:
            yield item
            bar.advance()
