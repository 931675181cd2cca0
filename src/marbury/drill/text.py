"""The texts of a drill: harmless words, the word, and a tail whose letters stand nowhere else.

Every reply begins with `FIRST`, so that its arrival can be timed, and what follows the flag is written in Greek
letters alone: each one that a client receives has come through, on whatever channel and in whatever shape.
"""

import random
import re

from marbury.errors import SettingsError

FIRST = "❧"
_GREEK = "αβγδεζηθικλμνξοπρστυφχψω"
_TALE = "the keeper of Orvane walks the long quay — naïve as ever — and counts each 🏮 before the fog comes in".split()
_RUN = re.compile("[α-ω]+")


def checked(word: str) -> str:
    """The word, if it can be told from everything else that is said.

    Raises:
        SettingsError: it is too short, has a space or a Greek letter, or is a word of the harmless text.
    """
    if len(word) < 3 or not word.isprintable() or any(letter.isspace() for letter in word):
        raise SettingsError(f"the drill's word {word!r} must be one word of at least 3 letters: choose another")
    if _RUN.search(word.casefold()) or word.casefold() in harmless(len(_TALE)).casefold():
        raise SettingsError(f"the drill's word {word!r} occurs in its harmless text: choose another")
    return word


def harmless(words: int) -> str:
    """So many words that no guard has a reason to stop."""
    return " ".join([FIRST, *(_TALE[i % len(_TALE)] for i in range(words))])


def tail(words: int) -> str:
    """So many words of four Greek letters, no two of them alike."""
    digits = [[i // 24**place % 24 for place in (3, 2, 1, 0)] for i in range(1, words + 1)]
    return " ".join("".join(_GREEK[digit] for digit in word) for word in digits)


def flagged(word: str, before: int, after: int) -> str:
    """Harmless words, the word, then the tail."""
    return f"{harmless(before)} {word} {tail(after)}".rstrip()


def letters(text: str) -> int:
    """How many letters of the tail are in a text."""
    return sum(len(run) for run in _RUN.findall(text))


def words(text: str) -> set[str]:
    """The words of the tail that are in a text, whole or in part."""
    return set(_RUN.findall(text))


CUTS = ("words", "characters", "whole", "random", "halves")


def cut(text: str, how: str, word: str, seed: int = 0) -> tuple[str, ...]:
    """The text in pieces: each goes into an event of its own."""
    if how == "characters":
        return tuple(text)
    if how == "whole":
        return (text,)
    if how == "halves":
        middle = flag_end(text, word) - len(word) // 2
        return tuple(piece for piece in (text[:middle], text[middle:]) if piece)
    if how == "random":
        chosen, pieces, start = random.Random(seed), [], 0
        while start < len(text):
            end = start + chosen.randint(1, 11)
            pieces.append(text[start:end])
            start = end
        return tuple(pieces)
    return tuple(re.findall(r" ?[^ ]+", text))


def flag_end(text: str, word: str) -> int:
    """Where the word has been said; the length of the text if it is not in it."""
    found = text.casefold().find(word.casefold())
    return len(text) if found < 0 else found + len(word)


def flag_piece(pieces: tuple[str, ...], word: str) -> int | None:
    """The piece in which the word completes; None if it does not."""
    text, reached = "".join(pieces), 0
    if word.casefold() not in text.casefold():
        return None
    for number, piece in enumerate(pieces):
        reached += len(piece)
        if reached >= flag_end(text, word):
            return number
    return None
