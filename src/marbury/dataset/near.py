"""Near-duplicates: texts that share most of their words and their words' triples.

MinHash and locality-sensitive hashing find the candidates, the similarity itself decides. The banding misses one pair
in five hundred that stands right at the threshold, and fewer the nearer they are.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

NEAR = 0.8  # Jaccard similarity of the sets of words and word triples from which two texts are near
_BANDS, _ROWS = 21, 6  # 1 - (1 - NEAR**6)**21 = 0.998 of the pairs at the threshold become candidates
_TRIED = 8  # candidates whose similarity is computed, the most promising first

# Scripts without spaces between words: each of their letters counts as a word.
_LETTER = "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U000323af]"
_WORD = re.compile(rf"{_LETTER}|(?:(?!{_LETTER})\w)+")


def nearest(texts: Sequence[str], others: Sequence[str]) -> list[int | None]:
    """For each text the place of another text that is nearly the same, or None. The same for the same input."""
    from datasketch import MinHashLSH  # with it comes much of scipy: too slow for commands that need no dataset

    if not texts or not others:
        return [None] * len(texts)
    index = MinHashLSH(num_perm=_BANDS * _ROWS, params=(_BANDS, _ROWS))
    sketches = []
    for number, other in enumerate(others):
        sketches.append(_sketch(other))
        index.insert(number, sketches[-1])
    hashes = np.stack([sketch.hashvalues for sketch in sketches])
    found: list[int | None] = []
    for text in texts:
        sketch = _sketch(text)
        candidates = np.array(sorted(index.query(sketch)), dtype=np.int64)
        alike = (hashes[candidates] == sketch.hashvalues).sum(axis=1)
        best = candidates[np.argsort(-alike, kind="stable")[:_TRIED]]
        found.append(next((int(number) for number in best if similarity(text, others[number]) >= NEAR), None))
    return found


def similarity(one: str, other: str) -> float:
    """Jaccard similarity of the shingles of two texts, 0 to 1."""
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def shingles(text: str) -> set[str]:
    """The words of a text and the triples of neighbouring words, without case, punctuation and Unicode dress."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return {*words, *(" ".join(words[at : at + 3]) for at in range(len(words) - 2))} or {text}


def _sketch(text: str) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=_BANDS * _ROWS, seed=1)
    sketch.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in sorted(shingles(text))])
    return sketch
