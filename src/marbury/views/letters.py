"""Codes that write letter for letter: which tokens of a text read more like language once they are decoded.

A text is cut into tokens; each has a *gain*, the nats by which it is more probable as language decoded than as it
stands (as language, or as letters in no order). The most probable path through "plain" and "coded" gives the
stretches to decode, so a few words in code among plain ones are found too, and what stays plain stays as it is.
"""

import math
import re
import string
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from confusable_homoglyphs import confusables

from marbury.ciphers import CIPHERS
from marbury.views.likeness import (
    INVISIBLE,
    Nats,
    backwards,
    classes,
    junk,
    language,
    letters_only,
    per_token,
    plain,
    starts,
)

SWITCH = 1.5  # nats that it costs to go from plain to coded, and back
SHIFTS_ENOUGH = 14.0
_AROUND = string.punctuation + string.whitespace + string.digits
_KNOWN = 3.0  # nats that do when the code was found before
_GAP, _EDGE = -8.0, -4.0  # nats that a gap between coded stretches, or at the edge of a text, may lose
_TRIED = 4  # shifts whose path is computed
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Reading:
    """A text with what was in code decoded. Up to `start` it is as it was; `gain` in nats."""

    code: str
    gain: float
    text: str
    start: int


@dataclass(frozen=True)
class LetterCode:
    """A code that is undone within tokens. `hint`: whether a text can contain it at all.

    With `turns`, tokens come in the opposite order as well: a stretch has to be decoded as one. `throughout`: where
    there is enough of it, all is decoded, for plain text does not change.
    """

    name: str
    decode: Callable[[str], str]
    hint: Callable[[str], bool]
    enough: float
    turns: bool = False
    throughout: bool = False


def _cipher(name: str) -> Callable[[str], str]:
    decode = CIPHERS[name].decode
    assert decode is not None
    return decode


# ---- the tables


def _shift(by: int) -> str:
    return _LETTERS[-by:] + _LETTERS[:-by]


def _shift_tables() -> dict[str, str]:
    """For each code of the family what a to z stand for."""
    found = {f"caesar-{by}" if by != 13 else "rot13": _shift(by) for by in range(1, 26)}
    return found | {name: _cipher(name)(_LETTERS) for name in ("atbash", "keyboard-shift")}


_SHIFTS = _shift_tables()
_SHIFT_NAMES = tuple(_SHIFTS)
_SHIFT_CLASSES = np.array([[0, *(ord(letter) - 96 for letter in table)] for table in _SHIFTS.values()], np.uint8)


def _translator(table: Mapping[int, str | int]) -> Callable[[str], str]:
    return lambda text: text.translate(table)


def _unshift(table: str) -> Callable[[str], str]:
    return _translator(str.maketrans(_LETTERS + _LETTERS.upper(), table + table.upper()))


_COMPATIBLE = ((0x1D2C, 0x1D6B), (0x2070, 0x2190), (0x2460, 0x2500), (0xFF01, 0xFF5F), (0x1D400, 0x1D800))
_BOXED = ((0x1F130, 65), (0x1F150, 65), (0x1F170, 65), (0x1F1E6, 97))  # squared, circled black, flags


def _look_alikes() -> dict[int, str]:
    """What stands for a letter because it looks like one, and what is not seen at all.

    Homoglyphs are Unicode's confusables of one letter; where a code of ours decides otherwise, it prevails.
    """
    table: dict[int, str] = {}
    for letter in _LETTERS + _LETTERS.upper():
        twins = [twin["c"] for twin in confusables.confusables_data.get(letter, ())]
        table.update({ord(twin): letter for twin in twins if len(twin) == 1 and not twin.isascii()})
    for first, last in _COMPATIBLE:
        for point in range(first, last):
            normal = unicodedata.normalize("NFKC", chr(point))
            if len(normal) == 1 and normal.isascii():
                table[point] = normal
    for first, letter_a in _BOXED:
        table.update({first + i: chr(letter_a + i) for i in range(26)})
    for name in ("homoglyphs", "small-caps", "braille", "tags", "full-width", "mathematical", "fraktur", "circled"):
        written = CIPHERS[name].encode(_LETTERS + _LETTERS.upper())
        back = _cipher(name)
        table.update({ord(sign): back(sign) for sign in written if not sign.isascii()})
    table.update({0xE0000 + point: chr(point) for point in range(32, 127)})
    table.update(dict.fromkeys([*INVISIBLE, *range(0xFE00, 0xFE10)], ""))
    return table | {0x2800: " ", 0x3000: " "}


def _any_of(table: dict[int, str]) -> re.Pattern[str]:
    return re.compile("[" + "".join(map(re.escape, map(chr, sorted(table)))) + "]")


_LOOK_ALIKES = _look_alikes()
_LEET = str.maketrans("4@310$57", "aaeiosst")
_TURNED = "".join(letter for letter in CIPHERS["upside-down"].encode(_LETTERS) if not letter.isascii())

_UNUSUAL = _any_of(_LOOK_ALIKES)
_MIXED = re.compile(r"[A-Za-z][4@310$57]+[A-Za-z]|\b[4310$57][A-Za-z]{2}")
_SIGNS = re.compile(r"[!-@\[-`{-~]")
_FEWEST_SIGNS = 12

LOOK_ALIKES = LetterCode(
    "look-alike",
    _translator(_LOOK_ALIKES),
    lambda text: not text.isascii() and bool(_UNUSUAL.search(text)),
    8.0,
    throughout=True,
)
LEET = LetterCode("leetspeak", _translator(_LEET), lambda text: bool(_MIXED.search(text)), 12.0)
ROT47 = LetterCode("rot47", _cipher("rot47"), lambda text: len(_SIGNS.findall(text)) >= _FEWEST_SIGNS, 18.0)
UPSIDE_DOWN = LetterCode(
    "upside-down", _cipher("upside-down"), lambda text: any(sign in text for sign in _TURNED), 8.0, turns=True
)
REVERSED = LetterCode("reversed-letters", _cipher("reversed-letters"), bool, 14.0, turns=True)

GROWING = (LOOK_ALIKES, LEET, ROT47)
TURNING = (UPSIDE_DOWN, REVERSED)


@lru_cache(maxsize=1)
def shifts() -> dict[str, LetterCode]:
    """The codes that put a letter for a letter: all shifts, Atbash, and the keyboard code."""
    return {name: LetterCode(name, _unshift(table), bool, SHIFTS_ENOUGH) for name, table in _SHIFTS.items()}


# ---- gains and paths


def path(gains: Sequence[float]) -> tuple[float, list[bool]]:
    """The highest sum of gains over coded stretches less what the switches cost, and which tokens are coded."""
    as_plain, as_coded = 0.0, -SWITCH
    came: list[tuple[bool, bool]] = []  # whether the better way into plain, into coded, came from coded
    for gain in gains:
        leaves, stays = as_coded - SWITCH > as_plain, as_coded > as_plain - SWITCH
        came.append((leaves, stays))
        as_plain, as_coded = (
            as_coded - SWITCH if leaves else as_plain,
            (as_coded if stays else as_plain - SWITCH) + gain,
        )
    coded = as_coded > as_plain
    best = as_coded if coded else as_plain
    marks = [False] * len(came)
    for number in range(len(came) - 1, -1, -1):
        marks[number] = coded
        coded = came[number][coded]
    return best, marks


def part_gains(code: LetterCode, parts: Sequence[str], before: Nats) -> Nats:
    """The gain of each part of a text; `before` is what each is worth as it stands."""
    decoded = [_body(code, part) for part in parts]
    lengths = np.array([len(part) for part in decoded])
    text = "".join(decoded)
    if not text:
        return np.zeros(len(parts), np.float32)
    begins = np.minimum(np.concatenate([[0], np.cumsum(lengths)[:-1]]), len(text) - 1)
    kinds = classes(text)
    letters = letters_only(kinds)
    as_language = per_token(language(letters, kinds), begins.tolist())
    gains = as_language - np.maximum(before, per_token(junk(letters, kinds), begins.tolist()))
    gains[lengths == 0] = 0.0
    return gains


def _body(code: LetterCode, text: str) -> str:
    """A stretch decoded, with the white space at its end where it was."""
    if not code.turns:
        return code.decode(text)
    body = text.rstrip()
    return code.decode(body) + text[len(body) :]


def read_letters(
    code: LetterCode, text: str, begins: Sequence[int], before: Nats, enough: float | None = None
) -> Reading | None:
    """A text with the stretches in one code decoded, or None where there is too little of it."""
    if not begins or not code.hint(text):
        return None
    parts = [text[start:end] for start, end in zip(begins, [*begins[1:], len(text)], strict=True)]
    return _along(code, parts, part_gains(code, parts, before), code.enough if enough is None else enough)


def read_shifts(text: str, begins: Sequence[int], before: Nats) -> Reading | None:
    """The same for the most probable shift."""
    if not begins:
        return None
    kinds = classes(text)
    letters = letters_only(kinds)
    parts = [text[start:end] for start, end in zip(begins, [*begins[1:], len(text)], strict=True)]
    gains = per_token(language(_SHIFT_CLASSES[:, letters], kinds), begins) - before
    hopes = np.maximum(gains, 0).sum(axis=1)
    best: Reading | None = None
    for number in np.argsort(-hopes, kind="stable")[:_TRIED]:
        if hopes[number] < SHIFTS_ENOUGH:
            break
        found = _along(shifts()[_SHIFT_NAMES[number]], parts, gains[number], SHIFTS_ENOUGH)
        if found and (best is None or found.gain > best.gain):
            best = found
    return best


def _along(code: LetterCode, parts: Sequence[str], gains: Nats, enough: float) -> Reading | None:
    if float(np.maximum(gains, 0).sum()) < enough:
        return None
    gain, coded = path(gains.tolist())
    if gain < enough:
        return None
    if _of_different_words(parts, gains.tolist(), coded) < enough:
        return None
    coded = [True] * len(coded) if code.throughout else _filled(gains.tolist(), coded)
    start = sum(len(part) for part in parts[: coded.index(True)])
    text = "".join(_body(code, part) if is_coded else part for part, is_coded in _stretches(parts, coded))
    return Reading(code.name, gain, text, start)


def _of_different_words(parts: Sequence[str], gains: Sequence[float], coded: Sequence[bool]) -> float:
    """The gains of coded tokens, each word counted once: an abbreviation again and again is no code, nor is aaaaaa."""
    words = {
        part.strip(_AROUND).lower(): gain
        for part, gain, is_coded in zip(parts, gains, coded, strict=True)
        if is_coded and gain > 0
    }
    return sum(gain for word, gain in words.items() if 3 * len(set(word)) >= min(18, len(word)))


def _filled(gains: Sequence[float], coded: Sequence[bool]) -> list[bool]:
    """Coded stretches joined over what may well be code: short or rare words of it."""
    filled, begin = list(coded), 0
    for at in range(1, len(coded) + 1):
        if at == len(coded) or coded[at] != coded[begin]:
            if not coded[begin] and sum(gains[begin:at]) > (_GAP if begin and at < len(coded) else _EDGE):
                filled[begin:at] = [True] * (at - begin)
            begin = at
    return filled


def _stretches(parts: Sequence[str], coded: Sequence[bool]) -> Iterator[tuple[str, bool]]:
    begin = 0
    for at in range(1, len(parts) + 1):
        if at == len(parts) or coded[at] != coded[begin]:
            yield "".join(parts[begin:at]), coded[begin]
            begin = at


# ---- words in opposite order

WORDS_ENOUGH = 7.0  # and more for a longer text: the best of many stretches is good by chance
_LAST_PLAIN = 2  # a stretch has at least this many words


def read_words(text: str, enough: float = WORDS_ENOUGH) -> Reading | None:
    """A text with the one stretch of words put round whose neighbours are more probable the other way."""
    words = text.split(" ")
    if len(words) < 4:
        return None
    best, first, last = 0.0, 0, 0
    total, begin = 0.0, 0
    for number, gain in enumerate(backwards(words).tolist(), 1):
        if total <= 0:
            total, begin = 0.0, number - 1
        total += gain
        if total > best:
            best, first, last = total, begin, number
    if best < enough + 1.3 * math.log(len(words)) or last - first < _LAST_PLAIN:
        return None
    turned = [*words[:first], *words[first : last + 1][::-1], *words[last + 1 :]]
    return Reading("reversed-words", best, " ".join(turned), sum(len(word) + 1 for word in words[:first]))


_UNSEEN = "".join(map(chr, INVISIBLE))
_STRANGE = re.compile(
    rf"(?:[\U0001d400-\U0001d7ff\U000e0020-\U000e007e\uff21-\uff3a\uff41-\uff5a\u24b6-\u24e9]|\w[{_UNSEEN}]+){{12}}"
)


def read_strange(text: str) -> Reading | None:
    """A text with its letters folded that nobody writes a dozen of: they may spell what is in another code."""
    found = None if text.isascii() else _STRANGE.search(text)
    return Reading(LOOK_ALIKES.name, LOOK_ALIKES.enough, LOOK_ALIKES.decode(text), 0) if found else None


def read_growing(text: str) -> list[Reading]:
    """The readings of a text in all codes that can be undone while it grows."""
    begins = starts(text)
    if not begins:
        return []
    before = plain(text, begins)
    found = [read_shifts(text, begins, before), *(read_letters(code, text, begins, before) for code in GROWING)]
    if not any(reading and reading.code == LOOK_ALIKES.name for reading in found):
        found.append(read_strange(text))
    return [reading for reading in found if reading]


def read_turning(text: str, known: Collection[str] = ()) -> list[Reading]:
    """The readings of a text in the codes that can be undone only once it is there; less will do for known ones."""
    begins = starts(text)
    if not begins:
        return []
    before = plain(text, begins)
    found = [read_words(text, 0.0 if "reversed-words" in known else WORDS_ENOUGH)]
    for code in TURNING:
        found.append(read_letters(code, text, begins, before, _KNOWN if code.name in known else code.enough))
    return [reading for reading in found if reading]


def gain_of(code: LetterCode, text: str) -> float:
    """The gain of a short text in one code."""
    begins = starts(text)
    if not begins:
        return 0.0
    parts = [text[start:end] for start, end in zip(begins, [*begins[1:], len(text)], strict=True)]
    return float(part_gains(code, parts, plain(text, begins)).sum())


__all__ = ["GROWING", "LetterCode", "Reading", "gain_of", "path", "read_growing", "read_turning", "shifts"]
