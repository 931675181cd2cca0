"""What was read before and may be read again: the memories of sequences' beginnings, shared by all that begin alike.

Conversations with the same system prompt share it, and a turn shares all turns before it. A tree of blocks of BLOCK
tokens, each a copy that nobody changes, with the logits of its tokens. A block is found by the tokens themselves and
by the block before it, so a match is exact. What was not used for longest goes first when the bound in bytes is hit.
Token numbers of conversations stay here until then: a bound of 0 keeps nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marbury.classifier.engine import Block, Memory

BLOCK = 16
ROOT = 0
_OVERHEAD = 1024  # bytes of a node besides what it holds: its tokens, its places in the tree


@dataclass(frozen=True)
class Known:
    """One block of tokens that was read: what the model remembers of it, and the logits (token, column)."""

    number: int
    block: Block
    logits: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes."""
        return self.block.nbytes + self.logits.nbytes + _OVERHEAD


class Prefixes:
    """The beginnings that one engine has read. Not for two threads at once."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._known: OrderedDict[tuple[int, tuple[int, ...]], Known] = OrderedDict()  # the least recently used first
        self._numbers = ROOT
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._known)

    def find(self, ids: Sequence[int]) -> list[Known]:
        """The blocks of the longest beginning of these tokens that is known."""
        found, keys, parent = [], [], ROOT
        for start in range(0, len(ids) - BLOCK + 1, BLOCK):
            key = (parent, tuple(ids[start : start + BLOCK]))
            known = self._known.get(key)
            if known is None:
                break
            found.append(known)
            keys.append(key)
            parent = known.number
        for key in reversed(keys):  # no block is ever older than one that stands on it
            self._known.move_to_end(key)
        return found

    def add(self, ids: Sequence[int], memory: Memory, logits: NDArray[np.float32]) -> None:
        """Keep a sequence that was read from its first token on: its memory, and the logits of all tokens."""
        if self._limit <= 0:
            return
        before = self.find(ids)
        chain = {known.number for known in before}
        parent = before[-1].number if before else ROOT
        for start in range(BLOCK * len(before), len(ids) - BLOCK + 1, BLOCK):
            self._numbers += 1
            stop = start + BLOCK
            known = Known(self._numbers, memory.cut(start, stop), logits[start:stop].copy())
            if self.nbytes + known.nbytes > self._limit and not self._make_room(known.nbytes, chain):
                break
            self._known[parent, tuple(ids[start:stop])] = known
            self.nbytes += known.nbytes
            chain.add(parent := known.number)
        self.find(ids)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()
        self.nbytes = 0

    def _make_room(self, size: int, chain: set[int]) -> bool:
        """Drop what was not used for longest, but nothing of the chain that is being added."""
        while self._known and self.nbytes + size > self._limit:
            key, oldest = next(iter(self._known.items()))
            if oldest.number in chain:
                return False
            del self._known[key]
            self.nbytes -= oldest.nbytes
        return self.nbytes + size <= self._limit
