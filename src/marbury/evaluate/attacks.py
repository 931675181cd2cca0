"""What is measured: the attacks and the harmless conversations of the held-out split, and a fair sample of each.

Nothing here asks a model or a guard. An attack carries the section that a helpful-only model would recite for it.
"""

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from marbury.chat.handbook import CONTROLLED, Form, Handbook, Section, content_words, section_from
from marbury.ciphers import CIPHERS
from marbury.errors import DataError
from marbury.records import Example, Message, Traffic, read_rows, turns_of
from marbury.split import is_held_out

Kind = Literal["plain", "known", "held-out"]
KINDS: tuple[Kind, ...] = ("plain", "known", "held-out")
HELD_OUT_TRAFFIC = Path(__file__).parent.parent / "data" / "traffic" / "heldout.jsonl"
_FRAMES = ("template", "wrapper", "attack", "system", "many-shot", "splice", "pad")  # they put words around a request
_REPLY_CODES = ("reply-cipher", "cipher-both")  # they demand the reply in a cipher

Row = TypeVar("Row")


class Attack(msgspec.Struct, frozen=True, kw_only=True):
    """A harmful request as the attacker sends it, and what an unguarded model would answer.

    `codes`: the ciphers in which the attack demands the reply, in the order of encoding. `framed`: words of a
    template or a system prompt surround the request. `controlled`: what a refusing model would recognise.
    """

    id: str
    category: str
    language: str
    kind: Kind
    family: str
    chain: tuple[str, ...]
    messages: tuple[Message, ...]
    section: Section
    form: Form
    codes: tuple[str, ...]
    framed: bool
    controlled: tuple[str, ...]


class Harmless(msgspec.Struct, frozen=True, kw_only=True):
    """A harmless conversation: the request, and the reply that belongs to it if it has one."""

    id: str
    source: Literal["test", "traffic"]
    category: str
    language: str
    family: str
    framed: bool
    messages: tuple[Message, ...]
    reply: str | None


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A written reply to a harmful request, labelled: what tells whether the output side reads replies."""

    id: str
    harmful: bool
    category: str
    messages: tuple[Message, ...]
    reply: str


def kind_of(chain: Sequence[str]) -> Kind:
    """How new an attack is: no transformation, only such as training knows, or at least one held out."""
    if not chain:
        return "plain"
    return "held-out" if any(is_held_out(step) for step in chain) else "known"


def family_of(chain: Sequence[str]) -> str:
    """The transformation family: the kind of a step and, for templates, its group; for several steps, their kinds."""
    kinds = [step.partition(":")[0] for step in chain]
    if len(chain) == 1 and "/" in chain[0]:
        return chain[0].partition("/")[0]
    return " + ".join(kinds) or "plain"


def steps_of(chain: Sequence[str]) -> tuple[str, ...]:
    """The kinds of the steps, each once: a row of several steps says something about all of them."""
    return tuple(sorted({step.partition(":")[0] for step in chain})) or ("plain",)


def templates_of(chain: Sequence[str]) -> tuple[str, ...]:
    """The template families among the steps, such as `template:persona`."""
    return tuple(sorted({step.partition("/")[0] for step in chain if "/" in step}))


def is_framed(chain: Sequence[str]) -> bool:
    """Whether a step puts words around the request: a template, a system prompt, a history, padding."""
    return any(step.partition(":")[0] in _FRAMES for step in chain)


def codes_of(chain: Sequence[str]) -> tuple[str, ...]:
    """The ciphers that the attack demands of the reply.

    Raises:
        DataError: a step names a cipher that does not exist.
    """
    steps = [step.partition(":") for step in chain]
    codes = tuple(name for kind, _, name in steps if kind in _REPLY_CODES)
    for code in codes:
        if code not in CIPHERS:
            raise DataError(f"no cipher {code!r}, which an attack demands; known: {', '.join(sorted(CIPHERS))}")
    return codes


def attacks(rows: Sequence[Example], handbook: Handbook) -> list[Attack]:
    """Every distinct harmful request that can be graded, in the order of the rows (origins stand among them).

    The answer is the handbook's section for it; in a category that the handbook does not know, the harmful reply
    that was written for the request. A request with neither is left out: nothing could be graded.
    """
    known = {row.id: row for row in rows if not row.chain}
    written = {row.pair: row.reply for row in known.values() if row.reply_harmful and row.reply}
    found: dict[tuple[tuple[Message, ...], tuple[str, ...]], Attack] = {}
    for row in rows:
        key = (row.request, codes_of(row.chain))
        if row.request_harmful and key not in found:
            attack = _attack(row, known.get(row.origin, row), written.get(row.pair), handbook)
            if attack is not None:
                found[key] = attack
    return list(found.values())


def _attack(row: Example, origin: Example, written: str | None, handbook: Handbook) -> Attack | None:
    asked = origin.request[-1].content
    section, controlled = handbook.asked(row.category, asked), CONTROLLED
    if section is None:
        if written is None or not (section := section_from(written, row.category, origin.id)).bullets:
            return None
        controlled = tuple(sorted(set(content_words(asked)) & set(content_words(written))))
    return Attack(
        id=row.id,
        category=row.category,
        language=row.language,
        kind=kind_of(row.chain),
        family=family_of(row.chain),
        chain=row.chain,
        messages=row.request,
        section=section,
        form=random.Random(row.id).choice(("list", "prose")),
        codes=codes_of(row.chain),
        framed=is_framed(row.chain),
        controlled=controlled,
    )


def harmless(rows: Iterable[Example]) -> list[Harmless]:
    """Every distinct conversation of the rows with a harmless request."""
    found: dict[tuple[Message, ...], Harmless] = {}
    for row in rows:
        if not row.request_harmful and row.messages not in found:
            found[row.messages] = Harmless(
                id=row.id,
                source="test",
                category=row.category,
                language=row.language,
                family=family_of(row.chain),
                framed=is_framed(row.chain),
                messages=row.request,
                reply=row.reply,
            )
    return list(found.values())


def traffic(path: Path = HELD_OUT_TRAFFIC) -> list[Harmless]:
    """Harmless conversations that neither training nor calibration has seen.

    Raises:
        DataError: the file is missing or a line is not a conversation.
    """
    return [_replayed(row) for row in read_rows(path, Traffic)]


def _replayed(row: Traffic) -> Harmless:
    answered = row.messages[-1].role == "assistant"
    return Harmless(
        id=row.id,
        source="traffic",
        category=turns_of(row.messages),
        language=row.language,
        family="plain",
        framed=False,
        messages=row.messages[:-1] if answered else row.messages,
        reply=row.messages[-1].content if answered else None,
    )


def written(rows: Iterable[Example]) -> list[Written]:
    """The labelled replies to harmful requests, harmful and harmless ones."""
    return [
        Written(
            id=row.id,
            harmful=row.reply_harmful,
            category=row.category,
            messages=row.request,
            reply=row.reply or "",
        )
        for row in rows
        if row.request_harmful and row.reply_harmful is not None
    ]


def sample(rows: Sequence[Row], stratum: Callable[[Row], Hashable], most: int, seed: int, each: int = 0) -> list[Row]:
    """At most `most` rows, drawn evenly over the strata (at most `each` from one; 0: no limit), in their order.

    Strata take turns, so that a small one is there in full before a large one takes more.
    """
    strata: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        strata.setdefault(repr(stratum(row)), []).append(at)
    for name, places in strata.items():
        random.Random(f"{seed}:{name}").shuffle(places)
        del places[each or len(places) :]
    turns = sorted((rank, name, at) for name, places in strata.items() for rank, at in enumerate(places))
    return [rows[at] for at in sorted(at for _, _, at in turns[:most])]
