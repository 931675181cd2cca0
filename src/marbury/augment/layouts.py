"""Transformations that change what stands around a request or a reply: instructions, formats, history, padding."""

from collections.abc import Iterable
from random import Random

from marbury.augment import wordings
from marbury.augment.editing import (
    Apply,
    Exchange,
    Pool,
    Transformation,
    after_system,
    fill,
    has_system,
    question,
    with_question,
    with_reply,
    with_request,
)
from marbury.records import Example, Message

_SHORTEST_PART = 20  # characters of a turn when a request is sent in parts


def _system(texts: tuple[str, ...]) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if has_system(example):
            return None
        return with_request(example, (Message("system", random.choice(texts)), *example.request))

    return apply


def _format(layouts: tuple[str, ...]) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        system = random.choice(wordings.ASSISTANTS + wordings.PRODUCTS)
        return with_question(example, fill(random.choice(layouts), system=system, text=question(example)))

    return apply


def _turns_of(exchanges: Iterable[Exchange]) -> list[tuple[Message, Message]]:
    return [(Message("user", given.question), Message("assistant", given.answer)) for given in exchanges]


def _many_shot(count: int) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        shots = pool.pick_shots(random, count, example.pair)
        return None if shots is None else after_system(example, _turns_of(shots))

    return apply


def _shots_in_text(count: int) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        shots = pool.pick_shots(random, count, example.pair)
        if shots is None:
            return None
        written = "\n\n".join(f"Q: {shot.question}\nA: {shot.answer}" for shot in shots)
        wording = random.choice(wordings.SHOTS_IN_TEXT)
        return with_question(example, fill(wording, shots=written, text=question(example)))

    return apply


def _spliced(example: Example, random: Random, pool: Pool) -> Example | None:
    exchanges = pool.pick_exchanges(random, 1, example.pair)
    return None if exchanges is None else after_system(example, _turns_of(exchanges))


def _pasted(example: Example, random: Random, pool: Pool) -> Example | None:
    exchanges = pool.pick_exchanges(random, 1, example.pair)
    if exchanges is None:
        return None
    given = exchanges[0]
    wording = random.choice(wordings.PASTED)
    return with_question(example, fill(wording, question=given.question, answer=given.answer, text=question(example)))


def _padded(choices: tuple[str, ...]) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        passage = pool.pick_passages(random, random.choice((1, 1, 2, 3)), example.pair)
        after = pool.pick_passages(random, 1, example.pair)
        if passage is None or after is None:
            return None
        return with_question(
            example, fill(random.choice(choices), passage=passage, after=after, text=question(example))
        )

    return apply


def _reply_padded(before: bool, after: bool) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        if example.reply is None:
            return None
        parts: list[str | None] = [example.reply]
        if before:
            parts.insert(0, pool.pick_passages(random, random.choice((1, 2, 2, 3)), example.pair))
        if after:
            parts.append(pool.pick_passages(random, random.choice((1, 1, 2)), example.pair))
        texts = [part for part in parts if part is not None]
        return with_reply(example, "\n\n".join(texts)) if len(texts) == len(parts) else None

    return apply


def _cut(text: str, count: int, random: Random) -> list[str] | None:
    """A text in some parts of about the same length, cut between words; None when it is too short for that."""
    words = text.split(" ")
    if len(text) < 2 * count * _SHORTEST_PART or len(words) < count:
        return None
    edges = [round(len(words) * (i + random.uniform(-0.2, 0.2)) / count) for i in range(1, count)]
    parts = [" ".join(words[a:b]) for a, b in zip([0, *edges], [*edges, len(words)], strict=True)]
    return parts if all(len(part) >= _SHORTEST_PART for part in parts) else None


def _in_turns(count: int) -> Apply:
    def apply(example: Example, random: Random, pool: Pool) -> Example | None:
        parts = _cut(question(example), count, random)
        if parts is None:
            return None
        first, later = random.choice(wordings.PARTS_FIRST), random.choice(wordings.PARTS_NEXT)
        turns = [Message("user", fill(first, text=parts[0], count=str(count)))]
        for number, part in enumerate(parts[1:], 2):
            turns.append(Message("assistant", random.choice(wordings.ACKNOWLEDGED)))
            turns.append(Message("user", fill(later, text=part, number=str(number), count=str(count))))
        return with_request(example, (*example.request[:-1], *turns))

    return apply


_LAYOUTS: dict[str, Apply] = {
    "system:product": _system(wordings.PRODUCTS),
    "system:assistant": _system(wordings.ASSISTANTS),
    "system:policy": _system(wordings.POLICIES),
    **{f"system:{name}": _format(layouts) for name, layouts in wordings.FORMATS.items()},
    "many-shot:2": _many_shot(2),
    "many-shot:4": _many_shot(4),
    "many-shot:8": _many_shot(8),
    "many-shot:text-3": _shots_in_text(3),
    "many-shot:text-6": _shots_in_text(6),
    "splice:exchange": _spliced,
    "splice:transcript": _pasted,
    "pad:before": _padded(wordings.PAD_BEFORE),
    "pad:after": _padded(wordings.PAD_AFTER),
    "pad:around": _padded(wordings.PAD_AROUND),
    "pad:reply-before": _reply_padded(before=True, after=False),
    "pad:reply-after": _reply_padded(before=False, after=True),
    "pad:reply-around": _reply_padded(before=True, after=True),
    "turns:2": _in_turns(2),
    "turns:3": _in_turns(3),
}


def layouts() -> list[Transformation]:
    """All formats, system messages, histories, paddings and splittings."""
    return [Transformation(name, apply) for name, apply in _LAYOUTS.items()]
