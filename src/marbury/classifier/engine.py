"""What runs a classifier over growing token sequences: the contract between the scorer and the ways to compute.

An engine takes many sequences in one call and reads only the tokens that are new to each of them. It knows nothing of
text, turns or thresholds. `TorchEngine` runs any base on any device, `KernelEngine` small ones fast on a CPU.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from marbury.scoring import Side


class Block(Protocol):
    """What a model remembers of some tokens in the middle of a sequence: a copy, never changed."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        ...

    def __len__(self) -> int:
        """How many tokens it covers."""
        ...


class Memory(Protocol):
    """What a model remembers of one token sequence. Not for two threads at once."""

    @property
    def nbytes(self) -> int:
        """Bytes that it takes now."""
        ...

    def __len__(self) -> int:
        """How many tokens it covers."""
        ...

    def fork(self) -> "Memory":
        """A memory of its own with the same past."""
        ...

    def crop(self, length: int) -> None:
        """Forget the tokens from this position on."""
        ...

    def cut(self, start: int, stop: int) -> Block:
        """A copy of what is remembered of the tokens from `start` up to `stop`."""
        ...

    def paste(self, block: Block) -> None:
        """Go on with what another memory remembered of tokens at exactly these positions, after the same past."""
        ...

    def close(self) -> None:
        """Free it. May be called twice."""
        ...


class Job(NamedTuple):
    """Tokens to read, at least one, and the memory that they follow on and are added to."""

    memory: Memory
    ids: Sequence[int]


class Engine(Protocol):
    """A classifier that is ready to read."""

    @property
    def columns(self) -> dict[Side, slice]:
        """Where the logits of each side stand: harm first, then one per category."""
        ...

    def memory(self) -> Memory:
        """An empty memory."""
        ...

    def extend(self, jobs: Sequence[Job]) -> list[NDArray[np.float32]]:
        """Read the new tokens of every job; the logits (new token, column) of each. No memory occurs twice.

        Raises:
            ValueError: a sequence would become longer than the model's positions.
        """
        ...
