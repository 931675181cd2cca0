"""What changed between two constitutions, and which categories later stages must do again for it."""

from collections import Counter
from difflib import SequenceMatcher
from typing import Literal

import msgspec

from marbury.constitution.parse import Category, Constitution, Side

Kind = Literal["title", "summary", "introduction", "order", "added", "removed", "renamed", "moved", "prose", "examples"]
_WHOLE = ("title", "summary", "introduction")
RENAMED = 0.8  # two proses this much alike (word by word) are one category under two names


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One change. A change of the whole constitution (title, summary, introduction, order) has no slug.

    `before` and `after`: the old and the new name, side or text. `added` and `removed`: examples.
    """

    kind: Kind
    slug: str = ""
    side: Side | None = None
    before: str = ""
    after: str = ""
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The change in words; examples on lines of their own."""
        match self.kind:
            case "title" | "summary" | "introduction":
                return f"{self.kind} changed (every category is made again)"
            case "order":
                return "the order of the categories changed"
            case "added" | "removed":
                return f"{self.slug}: {self.kind} ({self.side})"
            case "renamed":
                return f"{self.slug}: renamed, was {self.before}"
            case "moved":
                return f"{self.slug}: moved from {self.before} to {self.after}"
            case "prose":
                return f"{self.slug}: prose changed"
            case "examples":
                lines = [f"  - {text}" for text in self.removed] + [f"  + {text}" for text in self.added]
                return "\n".join([f"{self.slug}: examples changed", *(lines or ["  (their order)"])])


def diff(old: Constitution, new: Constitution) -> list[Change]:
    """All changes: first of the whole, then category by category in the new order, then what was removed."""
    changes = _whole(old, new)
    before = {category.slug: category for category in old.categories}
    renamed = _renamed(old, new)
    for category in new.categories:
        previous = before.get(renamed.get(category.slug, category.slug))
        if previous is None:
            changes.append(Change(kind="added", slug=category.slug, side=new.side(category.slug), after=category.prose))
        else:
            changes.extend(_category(old, new, previous, category))
    kept = {*new.slugs, *renamed.values()}
    for category in old.categories:
        if category.slug not in kept:
            side = old.side(category.slug)
            changes.append(Change(kind="removed", slug=category.slug, side=side, before=category.prose))
    if not changes and old.slugs != new.slugs:
        changes.append(Change(kind="order"))
    return changes


def touched(old: Constitution, new: Constitution) -> set[str]:
    """The categories, old and new names, whose data must be made again.

    A change of the whole touches all. A changed category touches its neighbours too: the prompts for a category
    quote the categories across the border that it names in backticks or that name it.
    """
    changes = diff(old, new)
    if any(change.kind in _WHOLE for change in changes):
        return {*old.slugs, *new.slugs}
    names = {change.slug for change in changes if change.slug} | {
        change.before for change in changes if change.kind == "renamed"
    }
    beside = {
        other.slug
        for constitution in (old, new)
        for slug in names.intersection(constitution.slugs)
        for other in constitution.neighbours(slug)
    }
    return names | beside


def _whole(old: Constitution, new: Constitution) -> list[Change]:
    kinds: tuple[Literal["title", "summary", "introduction"], ...] = ("title", "summary", "introduction")
    texts = [(kind, getattr(old, kind), getattr(new, kind)) for kind in kinds]
    return [Change(kind=kind, before=before, after=after) for kind, before, after in texts if before != after]


def _category(old: Constitution, new: Constitution, before: Category, after: Category) -> list[Change]:
    side = new.side(after.slug)
    changes = []
    if before.slug != after.slug:
        changes.append(Change(kind="renamed", slug=after.slug, side=side, before=before.slug, after=after.slug))
    if old.side(before.slug) != side:
        changes.append(Change(kind="moved", slug=after.slug, side=side, before=old.side(before.slug), after=side))
    if before.prose != after.prose:
        changes.append(Change(kind="prose", slug=after.slug, side=side, before=before.prose, after=after.prose))
    if before.examples != after.examples:
        added, removed = _only(after, before), _only(before, after)
        changes.append(Change(kind="examples", slug=after.slug, side=side, added=added, removed=removed))
    return changes


def _only(these: Category, those: Category) -> tuple[str, ...]:
    """The examples that stand in the first category alone, in its order."""
    spare = Counter(those.examples)
    rest = []
    for example in these.examples:
        if spare[example]:
            spare[example] -= 1
        else:
            rest.append(example)
    return tuple(rest)


def _renamed(old: Constitution, new: Constitution) -> dict[str, str]:
    """From the new names to the old ones, for the categories that look like one that has gone; the most alike first."""
    gone = [category for category in old.categories if category.slug not in new.slugs]
    come = [category for category in new.categories if category.slug not in old.slugs]
    pairs = [(_alike(a, b), b.slug, a.slug) for a in gone for b in come]
    names: dict[str, str] = {}
    for alike, after, before in sorted(pairs, key=lambda pair: -pair[0]):
        if alike >= RENAMED and after not in names and before not in names.values():
            names[after] = before
    return names


def _alike(a: Category, b: Category) -> float:
    return SequenceMatcher(None, a.prose.split(), b.prose.split(), autojunk=False).ratio()
