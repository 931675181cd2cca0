"""Beginnings that were read before: exact matches only, shared, bounded, the least recently used go first."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from marbury.classifier.engine import Memory
from marbury.classifier.prefixes import BLOCK, Prefixes

SIZE = 1000  # bytes of a block's memory here


class Block:
    """Remembers which tokens it stands for, and those before it."""

    nbytes = SIZE

    def __init__(self, past: tuple[int, ...]) -> None:
        self.past = past

    def __len__(self) -> int:
        return BLOCK


class Tape:
    """A memory that is the tokens themselves."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids, self.cuts = ids, 0

    def cut(self, start: int, stop: int) -> Block:
        self.cuts += 1
        return Block(tuple(self.ids[:stop]))


def logits(ids: Sequence[int]) -> NDArray[np.float32]:
    return np.array(ids, np.float32)[:, None]


def add(tree: Prefixes, ids: Sequence[int]) -> int:
    """Keep a sequence; gives how many blocks were copied for it."""
    tape = Tape(ids)
    tree.add(ids, cast(Memory, tape), logits(ids))
    return tape.cuts


def found(tree: Prefixes, ids: Sequence[int]) -> int:
    """How many tokens are known; what is found must be right."""
    known = tree.find(ids)
    for number, part in enumerate(known):
        block: Any = part.block
        assert block.past == tuple(ids[: BLOCK * (number + 1)])
        np.testing.assert_array_equal(part.logits, logits(ids[BLOCK * number : BLOCK * (number + 1)]))
    return BLOCK * len(known)


def test_a_beginning_is_shared_and_copied_once() -> None:
    tree, system = Prefixes(1 << 20), list(range(50))
    assert add(tree, system + [1] * 20) == 4
    assert add(tree, system + [2] * 20) == 1  # the block in which they part
    assert found(tree, system + [2] * 20) == 64
    assert found(tree, system + [3] * 20) == 48
    assert add(tree, system + [2] * 20) == 0
    assert found(tree, [9, *system]) == 0
    assert found(tree, system[: BLOCK - 1]) == 0


def test_the_same_block_after_another_beginning_is_another_block() -> None:
    tree, block = Prefixes(1 << 20), [7] * BLOCK
    add(tree, [1] * BLOCK + block)
    assert found(tree, [2] * BLOCK + block) == 0
    assert found(tree, block) == 0


def test_the_bound_in_bytes_holds_and_the_oldest_goes_first() -> None:
    room = 6
    tree = Prefixes(room * (SIZE + 4 * BLOCK + 1024))
    texts = [[number] * (2 * BLOCK) for number in range(5)]
    for ids in texts[:3]:
        add(tree, ids)
    assert found(tree, texts[0]) == 2 * BLOCK  # used again, so that the second is the oldest now
    add(tree, texts[3])
    assert [found(tree, ids) // BLOCK for ids in texts] == [2, 0, 2, 2, 0]
    assert len(tree) == room and tree.nbytes == room * (SIZE + 4 * BLOCK + 1024)
    long = list(range(100, 100 + 20 * BLOCK))
    add(tree, long)  # more than there is room for: its beginning
    assert found(tree, long) == room * BLOCK and len(tree) == room


def test_a_bound_of_zero_keeps_nothing_and_clearing_forgets() -> None:
    tree = Prefixes(0)
    assert add(tree, [1] * 64) == 0 and len(tree) == 0
    tree = Prefixes(1 << 20)
    add(tree, [1] * 64)
    tree.clear()
    assert found(tree, [1] * 64) == tree.nbytes == len(tree) == 0


@given(
    texts=st.lists(st.lists(st.sampled_from([(1,) * BLOCK, (2,) * BLOCK, (3,) * 5]), max_size=8), max_size=25),
    room=st.integers(0, 9),
)
def test_what_is_found_is_always_right_and_the_tree_never_breaks(texts: list[list[tuple[int, ...]]], room: int) -> None:
    each = SIZE + 4 * BLOCK + 1024
    tree = Prefixes(room * each)
    for parts in texts:
        ids = [token for part in parts for token in part]
        add(tree, ids)
        assert found(tree, ids) <= len(ids)
        assert len(tree) <= room and tree.nbytes == len(tree) * each
        if len(ids) // BLOCK <= room:
            assert found(tree, ids) == len(ids) // BLOCK * BLOCK  # what fits is there at once
    reachable = {part.number for parts in texts for part in tree.find([token for p in parts for token in p])}
    assert len(reachable) == len(tree)  # nothing is kept that nobody can find
