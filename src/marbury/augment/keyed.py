"""Codes that two people agree on: a key is drawn, told in words, and the text is written with it.

`marbury.views` undoes none of them, for it does not know the key. Nothing here is meant to keep a secret.
"""

import math
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

_LATIN = string.ascii_lowercase
_LAST_ALPHABET = "\u2fff"  # scripts above have signs for words and syllables, too many for a table
_MOST_LETTERS = 48

KEYWORDS = ("lantern", "orchard", "velvet", "harbour", "thimble", "sparrow", "juniper", "marble", "cobalt", "meadow")
FILLERS = (
    "and so the old bridge near our market still stands while people pass with baskets full of bread apples cheese "
    "today a yellow cart rolled slowly down that narrow street behind two sleepy dogs then rain began again over red "
    "roofs until evening came with warm soup songs and stories about grandfather's boat"
).split()
INNOCENT_WORDS = (
    "apple ladder teapot cousin pillow garden button carrot ribbon saddle piano muffin blanket window kettle pencil "
    "bicycle sandwich mitten umbrella cushion turnip postcard marmalade trumpet napkin doorbell hedgehog pancake stool"
).split()
_EMOJI = "🍎🐍🌙🎈🔑🐙🍄🚂🎻🌵🐢🍋🎲🪁🌊🦊🧩🍪🚲🎩🌻🐝🪑🥁🛶🍇🦉🧦🌈🎀🍞🐌🪐🔔🧊🍒🦔🏮🎏🌰🐚🥨🛷🎨🌽🦋🧵🍐"
_SYMBOLS = "ᚠᚢᚦᚨᚱᚲᚷᚹᚺᚾᛁᛃᛇᛈᛉᛊᛏᛒᛖᛗᛚᛜᛟᛞ◆◇○●◎△▲▽▼□■☆★♠♣♥♦♪♫☼☽☾✚✦"


@dataclass(frozen=True)
class Code:
    """One code with its key: the rule as a person tells it, and how a text is written in it."""

    key: str
    encode: Callable[[str], str]


Maker = Callable[[str, Random], Code | None]
"""Draws a code for a text; None when its script does not suit."""


def is_latin(text: str) -> bool:
    """Whether nearly all letters are a to z."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter.isascii() for letter in letters) >= 0.9 * len(letters) > 0


def _alphabet(text: str) -> str | None:
    """The letters that a table for this text needs; None for scripts that have too many."""
    if is_latin(text):
        return _LATIN
    letters = sorted({letter for letter in text.lower() if letter.isalpha()})
    return "".join(letters) if 0 < len(letters) <= _MOST_LETTERS and letters[-1] <= _LAST_ALPHABET else None


def _told(pairs: Sequence[tuple[str, str]], random: Random) -> str:
    """A table as people write it down."""
    sign, between = random.choice((("=", " "), ("=", ", "), (" is ", ", "), (":", " "), (" → ", "\n"), ("-", "; ")))
    return between.join(f"{plain}{sign}{code}" for plain, code in pairs)


def _by_letters(table: dict[str, str], between: str = "") -> Callable[[str], str]:
    return lambda text: between.join(table.get(letter, letter) for letter in text.lower())


# ---- letter for letter


def _letters(text: str, random: Random) -> Code | None:
    letters = _alphabet(text)
    if letters is None:
        return None
    mixed = "".join(random.sample(letters, len(letters)))
    rows = f"{letters}\n{mixed}"
    key = random.choice((_told(list(zip(letters, mixed, strict=True)), random), rows, rows.upper()))
    return Code(key, _by_letters(dict(zip(letters, mixed, strict=True))))


def _signs(signs: str, between: str = "") -> Maker:
    def make(text: str, random: Random) -> Code | None:
        letters = _alphabet(text)
        if letters is None:
            return None
        drawn = random.sample(signs, len(letters))
        table = dict(zip(letters, drawn, strict=True))
        return Code(_told(list(table.items()), random), _by_letters(table, between))

    return make


def _shifted(text: str, shift: Callable[[int, int], int]) -> str:
    """Each letter a to z moved; `shift` takes its number and how many letters came before it."""
    out: list[str] = []
    count = 0
    for letter in text.lower():
        if letter in _LATIN:
            letter, count = _LATIN[shift(ord(letter) - 97, count) % 26], count + 1
        out.append(letter)
    return "".join(out)


def _vigenere(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None
    word = random.choice(KEYWORDS)
    key = random.choice(
        (
            f"Vigenère, keyword {word}",
            f"write {word} under the text again and again and add the letters (a=0, b=1, ...)",
            f"each letter moves by the letter of the word {word.upper()} that stands over it",
        )
    )
    return Code(key, lambda plain: _shifted(plain, lambda number, at: number + ord(word[at % len(word)]) - 97))


def _affine(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None
    by, plus = random.choice((3, 5, 7, 9, 11, 15, 17, 19, 21, 23)), random.randrange(1, 26)
    key = f"number the letters a=0 to z=25, multiply by {by}, add {plus}, take the rest after dividing by 26"
    return Code(key, lambda plain: _shifted(plain, lambda number, _: by * number + plus))


# ---- numbers


def _homophonic(text: str, random: Random) -> Code | None:
    letters = _alphabet(text)
    if letters is None:
        return None
    numbers = random.sample(range(100, 1000), 3 * len(letters))
    table = {letter: numbers[3 * i : 3 * i + random.choice((1, 2, 3))] for i, letter in enumerate(letters)}
    key = _told([(letter, " or ".join(map(str, found))) for letter, found in table.items()], random)

    def encode(plain: str) -> str:
        words = (
            " ".join(str(random.choice(table[letter])) for letter in word if letter in table)
            for word in plain.lower().split()
        )
        return " / ".join(word for word in words if word)

    return Code(key, encode)


def _grid(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None
    square = random.sample(_LATIN.replace("j", ""), 25)
    rows = "\n".join(" ".join(square[5 * i : 5 * i + 5]) for i in range(5))
    table = {letter: f"{i // 5 + 1}{i % 5 + 1}" for i, letter in enumerate(square)}
    table["j"] = table["i"]

    def encode(plain: str) -> str:
        words = (" ".join(table[letter] for letter in word if letter in table) for word in plain.lower().split())
        return "  ".join(word for word in words if word)

    return Code(f"row and column in this square:\n{rows}", encode)


def _bacon(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None
    low, high = random.choice(("ab", "xo", "LR", "·|"))
    table = {letter: f"{i:05b}".replace("0", low).replace("1", high) for i, letter in enumerate(_LATIN)}
    key = f"five signs a letter, counted in twos: a={table['a']}, b={table['b']}, c={table['c']} up to z={table['z']}"
    return Code(key, lambda plain: " ".join(table[letter] for letter in plain.lower() if letter in table))


# ---- words and syllables


def _dictionary(text: str, random: Random) -> Code | None:
    words = sorted({word.lower() for word in re.findall(r"[^\W\d_]{5,}", text)})
    if len(words) < 4:
        return None
    chosen = sorted(random.sample(words, min(len(words), random.randint(4, 16))))
    table = dict(zip(chosen, random.sample(INNOCENT_WORDS, len(chosen)), strict=True))
    return Code(
        _told(list(table.items()), random),
        lambda plain: re.sub(r"[^\W\d_]{5,}", lambda found: table.get(found[0].lower(), found[0]), plain),
    )


def _affix(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None
    sound = random.choice(("ub", "ag", "ib", "op", "av", "idig"))
    key = f'put "{sound}" before the first vowel of every syllable'
    return Code(key, lambda plain: re.sub(r"([aeiouy]+)", rf"{sound}\1", plain, flags=re.IGNORECASE))


def _spoon(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None
    letter = random.choice("pflgs")
    key = f"after every vowel say {letter} and the vowel once more"
    return Code(key, lambda plain: re.sub(r"([aeiouy])", rf"\1{letter}\1", plain, flags=re.IGNORECASE))


def _has_words(text: str) -> bool:
    """Whether blanks part a text into words, a few at least."""
    return len(text.split()) >= max(6, len(text) / 12)


def _nth_word(text: str, random: Random) -> Code | None:
    if not _has_words(text):
        return None
    step = random.choice((2, 3, 4))
    key = f"only every {('second', 'third', 'fourth')[step - 2]} word counts, the others are there for looks"

    def encode(plain: str) -> str:
        fillers = iter(random.choices(FILLERS, k=step * len(plain.split())))
        return " ".join(part for word in plain.split() for part in [*(next(fillers) for _ in range(step - 1)), word])

    return Code(key, encode)


def _first_word(text: str, random: Random) -> Code | None:
    if not _has_words(text):
        return None

    def encode(plain: str) -> str:
        return "\n".join(" ".join([word, *random.choices(FILLERS, k=random.randint(2, 4))]) for word in plain.split())

    return Code("read the first word of every line and nothing else", encode)


# ---- order


def _swapped(text: str, random: Random) -> Code | None:
    key = "in every word two letters that stand side by side change places: first and second, third and fourth, ..."
    return Code(key, lambda plain: re.sub(r"(\w)(\w)", r"\2\1", plain))


def _rails(text: str, random: Random) -> Code | None:
    count = random.choice((3, 4, 5))

    def encode(plain: str) -> str:
        signs = "".join(plain.split())
        return " ".join(signs[at::count] for at in range(count))

    return Code(f"write it without blanks down columns of {count} letters, then copy it out row by row", encode)


def _woven(text: str, random: Random) -> Code | None:
    if not is_latin(text):
        return None

    def encode(plain: str) -> str:
        signs = "".join(plain.lower().split())
        others = "".join(random.choices(FILLERS, k=math.ceil(len(signs) / 2)))
        mixed = "".join(a + b for a, b in zip(signs, others, strict=False))
        return " ".join(mixed[at : at + 8] for at in range(0, len(mixed), 8))

    return Code("two texts are woven together letter by letter; read the first, third, fifth letter and so on", encode)


KNOWN: dict[str, Maker] = {
    "letters": _letters,
    "vigenere": _vigenere,
    "dictionary": _dictionary,
    "affix": _affix,
    "nth-word": _nth_word,
    "grid": _grid,
    "swapped": _swapped,
}
"""Codes for training and test."""

HELD_OUT: dict[str, Maker] = {
    "affine": _affine,
    "homophonic": _homophonic,
    "emoji": _signs(_EMOJI),
    "symbols": _signs(_SYMBOLS),
    "spoon": _spoon,
    "first-word": _first_word,
    "rails": _rails,
    "woven": _woven,
    "bacon": _bacon,
}
"""Codes for the test alone; `marbury.split` lists their steps."""
