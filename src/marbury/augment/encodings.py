"""Transformations that change how a text is written: codes for the request, the reply or both, and sloppy typing."""

import re
from collections.abc import Callable
from random import Random

from marbury.augment import wordings
from marbury.augment.editing import Apply, Pool, Transformation, fill, question, with_question, with_reply
from marbury.ciphers import CIPHERS, Cipher
from marbury.records import Example

# These codes know Latin letters alone; a text in another script would come out as it was.
_LATIN_ONLY = ("shift", "look-alike", "signs", "invisible")
# A reader sees through these without decoding.
_SEEN_THROUGH = ("look-alike", "invisible", "spacing")
# Nobody can write these by hand, so no reply comes in them.
_NOT_WRITTEN = ("invisible",)


def _fits(cipher: Cipher, text: str) -> bool:
    if cipher.family not in _LATIN_ONLY:
        return True
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter.isascii() for letter in letters) >= 0.8 * len(letters)


def _name(cipher: Cipher) -> str:
    return wordings.CODE_NAMES.get(cipher.name, cipher.name)


def _request(cipher: Cipher) -> Apply:
    choices = wordings.SEE_THROUGH if cipher.family in _SEEN_THROUGH else wordings.DECODE

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        text = question(example)
        if not _fits(cipher, text):
            return None
        return with_question(example, fill(random.choice(choices), code=_name(cipher), text=cipher.encode(text)))

    return apply


def _part(cipher: Cipher) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        text = question(example)
        places = [found.span() for found in re.finditer(r"[^\W\d_]{5,}", text)]
        if not places or not _fits(cipher, text):
            return None
        chosen = random.sample(places, max(1, len(places) // random.choice((1, 2, 3))))
        for start, end in sorted(chosen, reverse=True):
            text = text[:start] + cipher.encode(text[start:end]) + text[end:]
        return with_question(example, fill(random.choice(wordings.PART), code=_name(cipher), text=text))

    return apply


def _reply(cipher: Cipher) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if example.reply is None or not _fits(cipher, example.reply):
            return None
        asked = fill(random.choice(wordings.ANSWER_IN), code=_name(cipher), text=question(example))
        return with_reply(with_question(example, asked), cipher.encode(example.reply))

    return apply


def _both(cipher: Cipher) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        text = question(example)
        if example.reply is None or not _fits(cipher, text) or not _fits(cipher, example.reply):
            return None
        asked = fill(random.choice(wordings.BOTH), code=_name(cipher), text=cipher.encode(text))
        return with_reply(with_question(example, asked), cipher.encode(example.reply))

    return apply


def _typos(text: str, random: Random) -> str:
    return re.sub(r"[^\W\d_]{4,}", lambda found: _slip(found[0], random) if random.random() < 0.3 else found[0], text)


def _slip(word: str, random: Random) -> str:
    at = random.randrange(1, len(word) - 1)
    swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return random.choice((swapped, word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:]))


def _lower(text: str, random: Random) -> str:
    return re.sub(r"[.,;:!?'\"]+(?=\s|$)", "", text.lower())


def _random_case(text: str, random: Random) -> str:
    return "".join(random.choice((letter.upper(), letter.lower())) for letter in text)


def _doubled(text: str, random: Random) -> str:
    return re.sub(r"[^\W\d_]", lambda found: found[0] * random.choice((1, 1, 1, 1, 2, 3)), text)


def _upper(text: str, random: Random) -> str:
    return text.upper()


def _no_vowels(text: str, random: Random) -> str:
    return re.sub(r"(?<=\w)[aeiou](?=\w)", "", text, flags=re.IGNORECASE)


def _no_spaces(text: str, random: Random) -> str:
    return re.sub(r"\s+", "", text)


_NOISE: dict[str, Callable[[str, Random], str]] = {
    "typos": _typos,
    "lower": _lower,
    "random-case": _random_case,
    "doubled": _doubled,
    "upper": _upper,
    "no-vowels": _no_vowels,
    "no-spaces": _no_spaces,
}


def _noise(change: Callable[[str, Random], str]) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        return with_question(example, change(question(example), random))

    return apply


def encodings() -> list[Transformation]:
    """All codes for requests, parts of requests, replies and both, and all kinds of sloppy typing."""
    found: list[Transformation] = []
    for cipher in CIPHERS.values():
        found.append(Transformation(f"cipher:{cipher.name}", _request(cipher)))
        if cipher.name != "reversed-words":  # the words are coded one by one
            found.append(Transformation(f"cipher-part:{cipher.name}", _part(cipher)))
        if cipher.family not in _NOT_WRITTEN:
            found.append(Transformation(f"reply-cipher:{cipher.name}", _reply(cipher)))
            found.append(Transformation(f"cipher-both:{cipher.name}", _both(cipher)))
    return found + [Transformation(f"noise:{name}", _noise(change)) for name, change in _NOISE.items()]
