"""How much a text reads like language: log-probabilities of letters after letters, and of words after words.

Two small tables that `scripts/likeness.py` counts from the bundled texts: letters a to z with word boundaries in
many languages of the Latin alphabet (accents are folded away), and the order of frequent words. Everything is in
nats. Digits, symbols and letters of other scripts have fixed costs: nothing is learned about them.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DATA = Path(__file__).parent.parent / "data" / "views"
TRIGRAMS, WORDS, ORDER = DATA / "trigrams.bin", DATA / "words.txt", DATA / "order.bin"
SCALE = 16  # steps to a nat in both tables

Classes = NDArray[np.uint8]
Nats = NDArray[np.float32]

SYMBOLS = 27  # boundary and a to z
BOUNDARY, DIGIT, SIGN, OTHER = 0, 27, 28, 29
_FIXED = np.zeros(30, np.float32)
_FIXED[[DIGIT, SIGN, OTHER]] = -3.0, -3.5, -3.5
JUNK = -float(np.log(SYMBOLS))  # a letter or boundary in letters without any order

_NATURAL = 1.3  # nats by which a letter of another script costs less in a word of that script alone

_KNOWN = 0.1  # the share of words whose order is known, below which a text says nothing

_FOLDED = 0x2000  # code points below are looked up one by one
_UNLIKE = str.maketrans("ıłøđßæœħŧ", "ilodsaoht")  # letters that do not decompose
INVISIBLE = (0xAD, 0x34F, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))
"""Characters that are not seen; the selectors of variants (U+FE00 to FE0F) are none either."""
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_TOKEN = re.compile(r"\S{1,32}")


def _class(point: int) -> int:
    if point in INVISIBLE:
        return BOUNDARY
    letter = unicodedata.normalize("NFKD", chr(point).lower())[:1].translate(_UNLIKE)
    if "a" <= letter <= "z":
        return ord(letter) - 96
    if letter.isspace() or not letter:
        return BOUNDARY
    if letter.isdigit():
        return DIGIT
    return OTHER if letter.isalpha() or unicodedata.combining(letter) else SIGN


@lru_cache(maxsize=1)
def _classes_below() -> Classes:
    return np.array([_class(point) for point in range(_FOLDED)], np.uint8)


@lru_cache(maxsize=1)
def _trigrams() -> Nats:
    table: Nats = (np.fromfile(TRIGRAMS, np.uint8) / -SCALE).astype(np.float32)
    table[0] = 0.0  # a second blank says nothing
    return table


def classes(text: str) -> Classes:
    """What each character is: boundary 0, letters 1 to 26, then digit, sign, and letter of another script."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    known = _classes_below()[np.minimum(points, _FOLDED - 1)]
    if not len(points) or points.max() < _FOLDED:
        return known
    known = np.where(points < _FOLDED, known, np.uint8(OTHER))
    known[(points >= 0x2010) & (points < 0x2070)] = SIGN
    unseen = ((points >= 0x2000) & (points < 0x2010)) | ((points >= 0x2028) & (points < 0x2030))
    unseen |= ((points >= 0x205F) & (points < 0x2070)) | ((points >= 0xFE00) & (points < 0xFE10))
    known[unseen | (points == 0x3000) | (points == 0xFEFF)] = BOUNDARY
    return known


def letters_only(kinds: Classes) -> Classes:
    """Classes with all that is not a letter made a boundary."""
    return np.where(kinds <= 26, kinds, np.uint8(0))


def language(letters: Classes, kinds: Classes) -> Nats:
    """Log-probability of each character as language. `letters` may have leading axes; `kinds` says what costs fixed."""
    before, before2 = np.zeros_like(letters), np.zeros_like(letters)
    before[..., 1:] = letters[..., :-1]
    before2[..., 2:] = letters[..., :-2]
    before2[before == 0] = 0  # a word begins anew
    at = before2.astype(np.int32) * (SYMBOLS * SYMBOLS) + before.astype(np.int32) * SYMBOLS + letters
    fixed = kinds > 26
    nats: Nats = _trigrams()[at]
    after = np.zeros_like(letters)
    after[..., :-1] = letters[..., 1:]
    alone = (letters > 0) & (before == 0) & (after == 0)  # a letter by itself speaks for nothing
    nats[alone] = JUNK
    nats[..., 1:][alone[..., :-1]] = JUNK
    nats[..., fixed] = _FIXED[kinds[fixed]]
    return nats


def junk(letters: Classes, kinds: Classes) -> Nats:
    """Log-probability of each character when letters come in no order."""
    costs = np.full(len(letters), JUNK, np.float32)
    costs[1:][(letters[1:] == 0) & (letters[:-1] == 0)] = 0.0
    if len(letters) and letters[0] == 0:
        costs[0] = 0.0
    fixed = kinds > 26
    costs[fixed] = _FIXED[kinds[fixed]]
    return costs


def starts(text: str) -> list[int]:
    """Where tokens begin: at white space, and after 32 characters without any. The first begins at 0."""
    found = [match.start() for match in _TOKEN.finditer(text)]
    return [0, *found[1:]] if found else []


def per_token(nats: Nats, begins: Sequence[int]) -> Nats:
    """Sums over tokens along the last axis."""
    sums: Nats = np.add.reduceat(nats, begins, axis=-1, dtype=np.float32)
    return sums


def plain(text: str, begins: Sequence[int]) -> Nats:
    """Log-probability of each token as it stands: as language or as letters in no order, whichever is higher."""
    kinds = classes(text)
    letters = letters_only(kinds)
    nats = per_token(language(letters, kinds), begins)
    nats = np.maximum(nats, per_token(junk(letters, kinds), begins))
    return nats if text.isascii() else nats + _natural(text, kinds, begins)


def _natural(text: str, kinds: Classes, begins: Sequence[int]) -> Nats:
    """What a token gains when it is written in one other script alone: then nobody wrote it for its looks."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    other = (kinds == OTHER) & ((points < 0x1D00) | ((points > 0x3000) & (points < 0xD800)))
    block = points >> 8
    lowest = np.minimum.reduceat(np.where(other, block, 0xFFFF), begins)
    highest = np.maximum.reduceat(np.where(other, block, 0), begins)
    latin = np.maximum.reduceat((kinds > 0) & (kinds <= 26), begins)
    count = np.add.reduceat(other.astype(np.float32), begins)
    gained: Nats = np.where((lowest == highest) & ~latin, _NATURAL * count, np.float32(0)).astype(np.float32)
    return gained


def total(text: str, ordered: bool = True) -> float:
    """Log-probability of a whole text as language; with `ordered` False, or in no order if that is higher."""
    kinds = classes(text)
    letters = letters_only(kinds)
    value = float(language(letters, kinds).sum())
    return value if ordered else max(value, float(junk(letters, kinds).sum()))


def likeness(text: str) -> float:
    """Mean log-probability per character as language: about -2.2 for prose, below -3 for anything else."""
    return total(text) / max(1, len(text))


@lru_cache(maxsize=1)
def _word_order() -> tuple[dict[str, int], Nats, Nats]:
    words = WORDS.read_text(encoding="utf-8").split()
    numbers = {word: number for number, word in enumerate(words, 1)}
    table: Nats = (np.fromfile(ORDER, np.int8) / SCALE).astype(np.float32)
    size = (len(words) + 1) ** 2
    return numbers, table[:size].reshape(len(words) + 1, -1), table[size:].reshape(4, 4)


def shape(word: str) -> int:
    """Bit 1: begins with a capital; bit 2: ends a sentence."""
    return word[:1].isupper() + 2 * word.rstrip("\"')”’*").endswith((".", "?", "!"))


def bare(word: str) -> str:
    """A word without what is written around it."""
    found = _WORD.search(word)
    return found[0].lower() if found else ""


def backwards(words: Sequence[str]) -> Nats:
    """For each pair of neighbours, how much more probable they are the other way round, in nats."""
    numbers, order, shapes = _word_order()
    known = np.array([numbers.get(bare(word), 0) for word in words])
    forms = np.array([shape(word) for word in words])
    speaks = (known > 0).mean() > _KNOWN  # capitals and full stops among strange words mean nothing
    found: Nats = -(order[known[:-1], known[1:]] + shapes[forms[:-1], forms[1:]] * speaks)
    return found
