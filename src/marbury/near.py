"""Near-duplicates: texts that share most of their words' triples, found with MinHash and locality-sensitive hashing."""

import re
from collections.abc import Iterable, Iterator

from datasketch import MinHash, MinHashLSH

NEAR = 0.8  # Jaccard similarity of the sets of word triples (of words, in short texts) from which two texts are near
_PERMUTATIONS = 64
_SHORT = 6  # words up to which a text is compared word by word


def near_any(texts: Iterable[str], others: Iterable[str]) -> Iterator[bool]:
    """For each text, whether one of the others is nearly the same (estimated; the same for the same input)."""
    index = MinHashLSH(threshold=NEAR, num_perm=_PERMUTATIONS)
    for number, other in enumerate(others):
        index.insert(number, _sketch(other))
    for text in texts:
        yield bool(index.query(_sketch(text)))


def shingles(text: str) -> set[str]:
    """The triples of neighbouring words of a text, without case and punctuation; its words if it is short."""
    words = re.findall(r"\w+", text.casefold())
    if len(words) <= _SHORT:
        return set(words) or {text}
    return {" ".join(words[at : at + 3]) for at in range(len(words) - 2)}


def _sketch(text: str) -> MinHash:
    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([shingle.encode("utf-8", "replace") for shingle in sorted(shingles(text))])
    return sketch
