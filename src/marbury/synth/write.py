"""A model writes the examples: requests for every category, then replies. Asks through `Asker`, touches no file.

Results are taken in the order of the constitution, not in the order in which answers come, so that the rows do not
depend on the network.
"""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any, Literal, TypeVar

import msgspec

from marbury.constitution.parse import Category, Constitution
from marbury.progress import Bar
from marbury.records import Example, Message, Reply
from marbury.synth import prompts
from marbury.synth.ask import Asker
from marbury.synth.refusals import is_refusal

BATCH = 8  # requests per question: more at once, and models begin to repeat themselves
Label = Literal["harmful", "harmless"]
Result = TypeVar("Result")


class Dropped(msgspec.Struct, frozen=True):
    """What was not kept, and why."""

    id: str
    category: str
    reason: str
    text: str = ""


class Request(msgspec.Struct, frozen=True):
    """A written request."""

    id: str
    category: str
    style: str
    language: str
    text: str


class _Draft(msgspec.Struct):
    number: int
    text: str


class _Drafts(msgspec.Struct):
    requests: list[_Draft]


async def write(
    constitution: Constitution, asker: Asker, *, count: int, languages: Sequence[str], seed: int, source: str
) -> tuple[list[Example], list[Dropped]]:
    """`count` requests per category with their replies, and what was dropped."""
    batches = [
        _batch(constitution, category, asker, start, _wishes(category, start, count, languages, seed))
        for category in constitution.categories
        for start in range(0, count, BATCH)
    ]
    requests, dropped = _distinct(await _all(batches, "synth: requests"))
    jobs = [
        _reply(constitution, request, label, asker)
        for request in requests
        for label in _labels(constitution, request.category)
    ]
    examples: list[Example] = []
    for request, label, reply in await _all(jobs, "synth: replies"):
        name = f"{request.id}-{label}"
        if reason := _reason_to_drop(reply):
            dropped.append(Dropped(name, request.category, reason, reply.text))
        else:
            restricted = request.category in constitution.restricted_slugs
            examples.append(_example(name, request, label, reply, source, restricted))
    return examples, dropped


def rules(constitution: Constitution, category: Category) -> str:
    """The part of the constitution that a prompt about this category quotes."""
    side = constitution.side(category.slug)
    neighbours = [f"- {other.slug}: {other.prose}" for other in constitution.neighbours(category.slug)]
    return prompts.RULES.substitute(
        title=constitution.title,
        summary=constitution.summary,
        introduction=constitution.introduction,
        slug=category.slug,
        side=side,
        prose=category.prose,
        examples="\n".join(f"- {example}" for example in category.examples) or "(none given)",
        other_side="permitted" if side == "restricted" else "restricted",
        neighbours="\n".join(neighbours) or "(none named)",
    )


def _wishes(category: Category, start: int, count: int, languages: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Style and language of each request of a batch. A longer run begins with the batches of a shorter one."""
    styles = Random(f"{seed}:{category.slug}:{start}").sample(prompts.STYLES, BATCH)
    numbers = range(start, min(start + BATCH, count))
    return [(style, languages[number % len(languages)]) for number, style in zip(numbers, styles, strict=False)]


async def _batch(
    constitution: Constitution, category: Category, asker: Asker, start: int, wishes: list[tuple[str, str]]
) -> tuple[list[Request], list[Dropped]]:
    restricted = category in constitution.restricted
    lines = [f"{number}. language {language}; {style}" for number, (style, language) in enumerate(wishes, 1)]
    prompt = prompts.REQUESTS.substitute(
        rules=rules(constitution, category),
        count=len(wishes),
        slug=category.slug,
        border=prompts.BORDER_RESTRICTED if restricted else prompts.BORDER_PERMITTED,
        wishes="\n".join(lines),
    )
    drafts = await asker.value(_conversation(prompt), _Drafts)
    names = [f"{category.slug}-{start + number:03d}" for number in range(1, len(wishes) + 1)]
    if isinstance(drafts, str):
        return [], [Dropped(name, category.slug, drafts) for name in names]
    texts = {draft.number: draft.text.strip() for draft in reversed(drafts.requests)}
    requests, dropped = [], []
    for number, (name, (style, language)) in enumerate(zip(names, wishes, strict=True), 1):
        if text := texts.get(number):
            requests.append(Request(name, category.slug, style, language, text))
        else:
            dropped.append(Dropped(name, category.slug, "the model left this request out"))
    return requests, dropped


def _distinct(batches: Sequence[tuple[list[Request], list[Dropped]]]) -> tuple[list[Request], list[Dropped]]:
    """All requests that were not written before, in other signs or letters either."""
    requests, dropped = [], [row for _, rows in batches for row in rows]
    first: dict[str, str] = {}
    for request in (row for rows, _ in batches for row in rows):
        key = " ".join(re.findall(r"\w+", request.text.casefold())) or request.text
        if key in first:
            dropped.append(Dropped(request.id, request.category, f"the same request as {first[key]}", request.text))
        else:
            first[key] = request.id
            requests.append(request)
    return requests, dropped


def _labels(constitution: Constitution, slug: str) -> tuple[Label, ...]:
    return ("harmful", "harmless") if slug in constitution.restricted_slugs else ("harmless",)


async def _reply(
    constitution: Constitution, request: Request, label: Label, asker: Asker
) -> tuple[Request, Label, Reply]:
    harmless = prompts.HARMLESS_REPLY if request.category in constitution.restricted_slugs else prompts.PERMITTED_REPLY
    prompt = prompts.HARMFUL_REPLY if label == "harmful" else harmless
    quoted = rules(constitution, constitution.category(request.category))
    text = prompt.substitute(rules=quoted, request=request.text)
    return request, label, await asker.reply(_conversation(text))


def _conversation(prompt: str) -> tuple[Message, ...]:
    return (Message("system", prompts.WRITER), Message("user", prompt))


def _reason_to_drop(reply: Reply) -> str:
    if reply.finish == "content_filter":
        return "the endpoint's filter stopped the reply"
    if not reply.text.strip():
        return "an empty reply"
    return "a refusal" if is_refusal(reply.text) else ""


def _example(name: str, request: Request, label: Label, reply: Reply, source: str, restricted: bool) -> Example:
    return Example(
        id=name,
        category=request.category,
        messages=(Message("user", request.text), Message("assistant", reply.text.strip())),
        request_harmful=restricted,
        reply_harmful=label == "harmful",
        pair=request.id,
        language=request.language,
        style=request.style,
        source=source,
    )


async def _all(jobs: Sequence[Coroutine[Any, Any, Result]], what: str) -> list[Result]:
    """The results in the order of the jobs. The first failure ends all the others."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        with Bar(what, len(tasks)) as bar:
            for done in asyncio.as_completed(tasks):
                await done
                bar.advance()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]
