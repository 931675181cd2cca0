"""Transformations that hide a request or a reply in length: pages of innocent text before it, after it and within it.

They go with harmful and harmless rows alike, so length tells nothing. Steps for training keep what the labels speak
of within the tokens that a training sequence holds (the beginning of the request, and the end of request and reply);
those of the test go up to about a thousand words and put it anywhere.
"""

import re
from random import Random

from marbury.augment import wordings
from marbury.augment.editing import (
    Apply,
    Exchange,
    Pool,
    Transformation,
    after_system,
    fill,
    question,
    with_question,
    with_reply,
)
from marbury.records import Example, Message

WINDOW = 384  # tokens of a training sequence, as [train] max_tokens has it by default
_LEAST = 120  # characters of an innocent part
_JOINTS = 12  # tokens between the parts of a reply
_BREAK = re.compile(r"(?<=[.!?。！？])\s+|\n+")

Range = tuple[int, int]  # characters, at least and at most


def tokens(text: str) -> int:
    """About as many tokens as a text has: one for 3.6 characters of ASCII, one for any other character."""
    plain = sum(letter.isascii() for letter in text)
    return round(plain / 3.6) + len(text) - plain


def _room(example: Example) -> int:
    """Tokens at the end of a reply that a training sequence keeps."""
    request = sum(tokens(message.content) + 1 for message in example.request)
    return WINDOW - min(WINDOW // 2, request)


def _kept(example: Example) -> int:
    """Characters of innocent text that may follow the reply, or stand in it, so that all of it is still kept."""
    return int(3.6 * (_room(example) - tokens(example.reply or "") - _JOINTS))


def _reply_long(before: Range, after: Range, trained: bool) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if example.reply is None:
            return None
        low, high = after
        if trained:
            high = min(high, _kept(example))
        if high < low:
            return None
        parts = [pool.pick_text(random, before, example.pair), example.reply]
        if high > 0:
            parts.append(pool.pick_text(random, (low, high), example.pair))
        return with_reply(example, "\n\n".join(part for part in parts if part)) if all(parts) else None

    return apply


def _woven(within: Range, trained: bool) -> Apply:
    """Innocent passages between the sentences of the reply, and one before it."""

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        sentences = [] if example.reply is None else [part for part in _BREAK.split(example.reply) if part.strip()]
        if len(sentences) < 2:
            return None
        room = _kept(example) if trained else within[1]
        cuts = sorted(random.sample(range(1, len(sentences)), min(len(sentences) - 1, random.choice((1, 2)))))
        share = min(within[1], room // len(cuts))
        if share < within[0]:
            return None
        parts = [pool.pick_text(random, (_LEAST, 900), example.pair)]
        for start, end in zip([0, *cuts], [*cuts, len(sentences)], strict=True):
            parts.append(" ".join(sentences[start:end]))
            if end < len(sentences):
                parts.append(pool.pick_text(random, (within[0], share), example.pair))
        return with_reply(example, "\n\n".join(part for part in parts if part)) if all(parts) else None

    return apply


def _request_long(before: Range, after: Range, choices: tuple[str, ...], trained: bool) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        low, high = after
        if trained:
            high = min(high, int(3.6 * (WINDOW // 2 - tokens(question(example)))))
        passage = pool.pick_text(random, before, example.pair)
        rest = pool.pick_text(random, (low, high), example.pair) if 0 < low <= high else ""
        if passage is None or rest is None or (low > high):
            return None
        wording = random.choice(choices)
        return with_question(example, fill(wording, passage=passage, text=question(example), after=rest).strip())

    return apply


def _history(count: int) -> Apply:
    """A long innocent conversation first: what its turns ask for is known to be harmless."""

    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        exchanges = pool.pick_exchanges(random, count, example.pair)
        return None if exchanges is None else after_system(example, [_turns(given) for given in exchanges])

    return apply


def _turns(given: Exchange) -> tuple[Message, Message]:
    return Message("user", given.question), Message("assistant", given.answer)


_LENGTHS: dict[str, Apply] = {
    "long:reply-end": _reply_long((600, 2200), (0, 0), trained=True),
    "long:reply-inside": _reply_long((300, 1400), (_LEAST, 700), trained=True),
    "long:reply-woven": _woven((_LEAST, 600), trained=True),
    "long:request-end": _request_long((900, 2600), (0, 0), wordings.LONG_BEFORE, trained=True),
    "long:request-inside": _request_long((500, 1800), (_LEAST, 500), wordings.LONG_AROUND, trained=True),
    "long:history-2": _history(2),
    "long:reply-far-end": _reply_long((4200, 5600), (0, 0), trained=False),
    "long:reply-deep": _reply_long((2000, 4000), (1000, 2400), trained=False),
    "long:reply-scattered": _woven((500, 2000), trained=False),
    "long:request-deep": _request_long((2000, 4500), (400, 2000), wordings.LONG_DEEP, trained=False),
    "long:history-6": _history(6),
}


def lengths() -> list[Transformation]:
    """All ways to make a row long."""
    return [Transformation(name, apply) for name, apply in _LENGTHS.items()]
