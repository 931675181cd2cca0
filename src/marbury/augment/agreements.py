"""Transformations about codes that people agree on: the request in such a code, a wish for one, and honest talk.

A text that its reader alone can make out, and teaching a code for it, count as restricted: these steps go with
harmful requests alone, the one exception to the rule that a transformation tells nothing. Their twins are honest:
puzzles, lessons, programs and letters about codes, which show what the code says.
"""

import re
from random import Random

from marbury.augment import keyed
from marbury.augment.code_talk import (
    AGREE_FIRST,
    AGREE_YES,
    AGREED,
    AGREED_BOTH,
    INVITE,
    LESSON,
    Wordings,
)
from marbury.augment.editing import (
    Apply,
    Pool,
    Transformation,
    asks,
    fill,
    opening,
    question,
    with_question,
    with_reply,
    with_request,
    without_reply,
)
from marbury.augment.wordings import CODE_NAMES
from marbury.ciphers import CIPHERS
from marbury.records import Example, Message

_LONGEST_SAMPLE = 110  # characters of an innocent sentence in code
_MARKUP = re.compile(r"[*_#`>|]+")
_OWN_LANGUAGE = 0.7  # of the rows whose language has wordings
_STANDARD = ("morse", "base64", "rot13", "hex", "binary", "letter-numbers", "atbash")  # none of them is held out
_RADIO = ("morse", "braille", "caesar-7", "base32")  # for a step that is held out itself

_HELD_OUT_LESSONS = ("radio", "crossword", "history")


def _wording(wordings: Wordings, language: str, random: Random) -> str:
    own = language in wordings and random.random() < _OWN_LANGUAGE
    return random.choice(wordings[language if own else "en"])


def _agreed(make: keyed.Maker) -> Apply:
    """The request in an agreed code, in one turn or two, and a harmful reply in it at times."""

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if not example.request_harmful:
            return None
        code = make(f"{question(example)} {example.reply or ''}", random)
        if code is None:
            return None
        text = code.encode(question(example))
        if text == question(example):  # no word of it is in the dictionary
            return None
        both = example.reply is not None and bool(example.reply_harmful) and random.random() < 0.6
        if both:
            assert example.reply is not None
            example = with_reply(example, code.encode(example.reply))
        if random.random() < 0.35:
            return _in_two_turns(example, code.key, text, random)
        wording = _wording(AGREED_BOTH if both else AGREED, example.language, random)
        return with_question(example, fill(wording, key=code.key, text=text))

    return apply


def _in_two_turns(example: Example, key: str, text: str, random: Random) -> Example:
    first = fill(_wording(AGREE_FIRST, example.language, random), key=key)
    yes = _wording(AGREE_YES, example.language, random)
    turns = (Message("user", first), Message("assistant", yes), Message("user", text))
    return with_request(example, (*example.request[:-1], *turns), (*asks(example)[:-1], None, True))


def _invite(wordings: Wordings) -> Apply:
    """The wish for a code to speak of the request with; the reply would not fit."""

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if not example.request_harmful:
            return None
        asked = fill(_wording(wordings, example.language, random), text=question(example))
        return without_reply(with_question(example, asked))

    return apply


def _sample(random: Random, pool: Pool, pair: str) -> str | None:
    """A short innocent sentence of another pair."""
    for _ in range(6):
        passage = pool.pick_passages(random, 1, pair)
        found = None if passage is None else opening(_MARKUP.sub("", passage), _LONGEST_SAMPLE)
        if found is not None:
            return found.strip()
    return None


def _keyed_sample(makers: dict[str, keyed.Maker], random: Random, plain: str) -> dict[str, str] | None:
    code = makers[random.choice(sorted(makers))](plain, random)
    return None if code is None else {"key": code.key, "coded": code.encode(plain), "plain": plain}


def _standard_sample(names: tuple[str, ...], random: Random, plain: str) -> dict[str, str] | None:
    if not keyed.is_latin(plain):
        return None
    cipher = CIPHERS[random.choice(names)]
    return {"name": CODE_NAMES.get(cipher.name, cipher.name), "coded": cipher.encode(plain), "plain": plain}


def _lesson(style: str) -> Apply:
    """Honest talk about a code: all of a harmless request, or beside a plain one of either kind."""
    makers = keyed.HELD_OUT if style in _HELD_OUT_LESSONS else keyed.KNOWN
    names = _RADIO if style == "radio" else _STANDARD

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if example.request_harmful and style != "aside":
            return None
        plain = _sample(random, pool, example.pair)
        if plain is None:
            return None
        standard = style in ("standard", "radio")
        parts = _standard_sample(names, random, plain) if standard else _keyed_sample(makers, random, plain)
        if parts is None:
            return None
        wording = _wording(LESSON[style], example.language, random)
        row = with_question(example, fill(wording, text=question(example), **parts))
        return row if style == "aside" else without_reply(row)

    return apply


def agreements() -> list[Transformation]:
    """All requests in agreed codes, wishes for a code, and honest talk about codes."""
    makers = keyed.KNOWN | keyed.HELD_OUT
    return [
        *(Transformation(f"agreed:{name}", _agreed(make)) for name, make in makers.items()),
        *(Transformation(f"invite:{style}", _invite(wordings)) for style, wordings in INVITE.items()),
        *(Transformation(f"lesson:{style}", _lesson(style)) for style in LESSON),
    ]
