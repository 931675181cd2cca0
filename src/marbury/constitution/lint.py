"""What is wrong with a constitution that can be read: the linter speaks before money is spent.

An error would make bad data (`synth` refuses to begin); a warning is worth a look. The rules look at words alone
and know English stop words only; they do not understand what a category means.
"""

import difflib
import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from marbury.constitution.parse import Category, Constitution, Side

# Jaccard overlap of content words. The bundled constitutions reach 0.25 across the border; two categories that say
# nearly the same in other words begin at about 0.4.
OVERLAP_WARNING = 0.4
OVERLAP_ERROR = 0.6

_SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_WORD = re.compile(r"[^\W\d_]{3,}")
_ENDING = re.compile(r"(ing|ed|ies|es|s|e|y)$")
_STOP = frozenset(
    """
    about above after against all also and any are because been before being below between both but can could did does
    doing down during each every few for from further had has have having her here hers him his how into its itself
    just like made make makes making may might more most must nor not off once one only other others our out over own
    same shall she should since some still such than that the their them then there these they this those through too
    under until upon use used using very was were what when where which while who whom whose why will with without
    would you your yours
    """.split()
)


class Finding(msgspec.Struct, frozen=True):
    """One thing to look at: where, how bad, which rule found it, and what to do."""

    line: int
    level: Literal["error", "warning"]
    rule: str
    message: str

    def at(self, where: str) -> str:
        """The finding as compilers print theirs: file, line, level, what to do, and the rule in brackets."""
        return f"{where}:{self.line}: {self.level}: {self.message} [{self.rule}]"


def lint(constitution: Constitution) -> list[Finding]:
    """All findings, from the top of the file to its end."""
    rules = (_sides, _prose, _examples, _slugs, _duplicate_examples, _overlaps, _neighbours, _references)
    return sorted((finding for rule in rules for finding in rule(constitution)), key=lambda f: (f.line, f.rule))


def content_words(category: Category) -> frozenset[str]:
    """The words that carry the meaning of a category, lower case and without their endings."""
    prose = re.sub(r"`[^`]*`", " ", category.prose)
    words = _WORD.findall(" ".join((prose, *category.examples)).casefold())
    return frozenset(_ENDING.sub("", word) if len(word) > 4 else word for word in words if word not in _STOP)


def _sides(constitution: Constitution) -> Iterator[Finding]:
    if not constitution.restricted:
        message = "no restricted category: add at least one `### slug` under `## Restricted`"
        yield Finding(1, "error", "empty-restricted", message)
    if not constitution.permitted:
        message = "no permitted category: add `## Permitted` with the harmless neighbours of each restricted category"
        yield Finding(1, "error", "no-permitted", message)


def _prose(constitution: Constitution) -> Iterator[Finding]:
    for category in constitution.categories:
        if not category.prose:
            message = f"{category.slug} has no prose: say in a sentence or two what belongs to it"
            yield Finding(category.line, "error", "no-prose", message)


def _examples(constitution: Constitution) -> Iterator[Finding]:
    message = "{} has no examples: add a list of two to five requests, each a line that begins with `- `"
    for category in constitution.categories:
        if not category.examples:
            level: Literal["error", "warning"] = "error" if category in constitution.restricted else "warning"
            yield Finding(category.line, level, "no-examples", message.format(category.slug))


def _slugs(constitution: Constitution) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for category in constitution.categories:
        slug = category.slug
        if not _SLUG.fullmatch(slug):
            message = f"{slug!r} is not a name for a category: write it like {_as_slug(slug)!r}"
            yield Finding(category.line, "error", "slug-form", message)
        if slug in first:
            message = f"{slug} is already the category of line {first[slug]}: rename one, or put both into one"
            yield Finding(category.line, "error", "duplicate-slug", message)
        first.setdefault(slug, category.line)


def _as_slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.casefold())) or "a-name-like-this"


def _duplicate_examples(constitution: Constitution) -> Iterator[Finding]:
    first: dict[str, tuple[Side, Category]] = {}
    sides: tuple[tuple[Side, tuple[Category, ...]], ...] = (
        ("restricted", constitution.restricted),
        ("permitted", constitution.permitted),
    )
    for side, categories in sides:
        for category in categories:
            for example in category.examples:
                key = " ".join(re.findall(r"\w+", example.casefold()))
                other_side, other = first.setdefault(key, (side, category))
                if (other_side, other) != (side, category):
                    level: Literal["error", "warning"] = "warning" if side == other_side else "error"
                    message = f"{example!r} is an example of {other.slug} too: keep it where it belongs"
                    yield Finding(category.line, level, "duplicate-example", message)


def _overlaps(constitution: Constitution) -> Iterator[Finding]:
    for restricted in constitution.restricted:
        words = content_words(restricted)
        for permitted in constitution.permitted:
            others = content_words(permitted)
            share = len(words & others) / max(1, len(words | others))
            if share >= OVERLAP_WARNING:
                level: Literal["error", "warning"] = "error" if share >= OVERLAP_ERROR else "warning"
                message = (
                    f"{restricted.slug} and {permitted.slug} share {share:.0%} of their words, so a request may belong "
                    "to both: say in each what makes the difference"
                )
                yield Finding(restricted.line, level, "overlap", message)


def _neighbours(constitution: Constitution) -> Iterator[Finding]:
    words = frozenset[str]().union(*(content_words(category) for category in constitution.permitted))
    for category in constitution.restricted:
        if (
            constitution.permitted
            and not constitution.neighbours(category.slug)
            and not words & content_words(category)
        ):
            message = (
                f"{category.slug} has no permitted neighbour: add a permitted category for the harmless questions "
                "close to it, and name it here in backticks"
            )
            yield Finding(category.line, "warning", "no-neighbour", message)


def _references(constitution: Constitution) -> Iterator[Finding]:
    for category in constitution.categories:
        for name in category.named:
            if name in constitution.slugs:
                continue
            near = difflib.get_close_matches(name, constitution.slugs, n=1, cutoff=0.7)
            # A single word far from every slug is code or a term, not a reference.
            if near or ("-" in name and _SLUG.fullmatch(name)):
                hint = f"did you mean `{near[0]}`?" if near else "add that category, or take the backticks away"
                message = f"{category.slug} names `{name}`, and there is no such category; {hint}"
                yield Finding(category.line, "error", "unknown-slug", message)
