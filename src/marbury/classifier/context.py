"""What is being read: a growing token sequence in a window of bounded length, and how many of them are read together.

A context has a limit; when it is full it begins again with the head of the conversation and its most recent half, so
that a stream of any length costs a bounded number of steps a token and a bounded amount of memory. The rule looks at
the tokens alone, so streamed and whole scoring agree. Nothing here calls an engine but `read_together`: a context
says which tokens it wants read next (`Reads`) and is given their logits.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from marbury.classifier.batches import HEAD
from marbury.classifier.engine import Engine, Job
from marbury.classifier.prefixes import Prefixes

T = TypeVar("T")
Logits = NDArray[np.float32]
Reads = Generator[Job, Logits, T]


class Context:
    """A growing token sequence and what the model remembers of it. `prefixes`: what was read before, if it is kept."""

    def __init__(self, engine: Engine, limit: int, prefixes: Prefixes | None = None) -> None:
        self._engine, self._limit, self._prefixes = engine, limit, prefixes
        self._width = max(part.stop for part in engine.columns.values())
        self._memory = engine.memory()
        self._head: list[int] = []
        self._window: list[int] = []
        self._logits: list[Logits] = []  # of the whole window, as long as it may be shared
        self._shared = prefixes is not None  # a window that has begun again is nobody's beginning

    @property
    def nbytes(self) -> int:
        """Bytes of the memory."""
        return self._memory.nbytes

    def extend(self, ids: Sequence[int], before_restart: Callable[[], Reads[None]] | None = None) -> Reads[Logits]:
        """Logits (token, column) of the new tokens. `before_restart` is run when older tokens are about to go."""
        found = [self._recall(ids)]
        start = len(found[0])
        while start < len(ids):
            room = self._limit - len(self._window)
            if room <= 0:
                if before_restart is not None:
                    yield from before_restart()
                yield from self._restart()
                continue
            found.append((yield from self._read(ids[start : start + room])))
            start += room
        return np.concatenate(found)

    def peek(self, ids: Sequence[int]) -> Reads[Logits]:
        """Logits that these tokens would have now; the context does not change."""
        length = len(self._memory)
        logits = yield Job(self._memory, ids)
        self._memory.crop(length)
        return logits

    def fork(self) -> "Context":
        """A context of its own with the same past."""
        twin = Context.__new__(Context)
        twin.__dict__.update(self.__dict__)
        twin._memory = self._memory.fork()
        twin._head, twin._window, twin._logits = list(self._head), list(self._window), list(self._logits)
        return twin

    def remember(self) -> None:
        """Give what was read to those that begin alike."""
        if self._shared and self._prefixes is not None and self._window:
            self._prefixes.add(self._window, self._memory, np.concatenate(self._logits))

    def close(self) -> None:
        """Free the memory. May be called twice."""
        self._memory.close()
        self._shared = False
        self._logits.clear()

    def _recall(self, ids: Sequence[int]) -> Logits:
        """Take over what is known of the beginning; the logits of its tokens."""
        nothing = np.empty((0, self._width), np.float32)
        if not self._shared or self._prefixes is None or self._window:
            return nothing
        known = self._prefixes.find(ids[: self._limit])
        for part in known:
            self._memory.paste(part.block)
        logits = np.concatenate([nothing, *(part.logits for part in known)])
        self._took(ids[: len(logits)], logits)
        return logits

    def _read(self, ids: Sequence[int]) -> Reads[Logits]:
        logits = yield Job(self._memory, ids)
        self._took(ids, logits)
        return logits

    def _took(self, ids: Sequence[int], logits: Logits) -> None:
        self._head += ids[: max(0, HEAD - len(self._head))]
        self._window += ids
        if self._shared:
            self._logits.append(logits.copy())  # a part of a larger array, which must not live as long

    def _restart(self) -> Reads[None]:
        self.remember()
        recent = self._window[-(self._limit // 2) :]
        head = self._head[: min(HEAD, self._limit // 4)]
        self.close()
        self._window, self._memory = [], self._engine.memory()
        yield from self._read(head + recent)


def read_together(engine: Engine, reads: Sequence[Reads[T]]) -> list[T | Exception]:
    """Let many reads advance side by side; what each gives, or why it failed. One that fails stops no other."""
    results: dict[int, T | Exception] = {}
    wanted: dict[int, Job] = {}

    def go_on(number: int, said: Logits | Exception | None) -> None:
        read = reads[number]
        try:
            if isinstance(said, Exception):
                wanted[number] = read.throw(said)
            else:
                wanted[number] = next(read) if said is None else read.send(said)
        except StopIteration as end:
            results[number] = end.value
        except Exception as error:  # handed to whoever asked
            results[number] = error

    for number in range(len(reads)):
        go_on(number, None)
    while wanted:
        jobs, wanted_now = list(wanted.values()), list(wanted)
        wanted.clear()
        for number, said in zip(wanted_now, _extend(engine, jobs), strict=True):
            go_on(number, said)
    return [results[number] for number in range(len(reads))]


def _extend(engine: Engine, jobs: Sequence[Job]) -> list[Logits | Exception]:
    """All jobs in one call; when that fails, each in a call of its own."""
    lengths = [len(job.memory) for job in jobs]
    try:
        return list(engine.extend(jobs))
    except Exception as error:  # whatever an engine can raise
        for job, length in zip(jobs, lengths, strict=True):
            job.memory.crop(length)
        if len(jobs) == 1:
            return [error]
    return [_extend(engine, [job])[0] for job in jobs]
