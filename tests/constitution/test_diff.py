import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from marbury.constitution.diff import Change, diff, touched
from marbury.constitution.parse import Category, Constitution, parse

OLD = parse("""\
---
title: Lamps
summary: Rules about lamps.
---

For lamplighters.

## Restricted

### lamp-theft
Taking street lamps that belong to the city without leave. Buying one belongs to `lamp-trade`.
- how to unscrew a street lamp
- where to sell a stolen lamp

### lamp-sabotage
Spoiling oil, wicks or glass so that streets stay dark.
- how to make a wick fail

## Permitted

### lamp-trade
Buying and selling lamps.

### everyday
All other questions.
""")


def edited(name: str, /, **fields: object) -> Constitution:
    """OLD with another value of some fields of one category."""

    def change(rows: tuple[Category, ...]) -> tuple[Category, ...]:
        return tuple(replace(row, **fields) if row.slug == name else row for row in rows)

    return replace(OLD, restricted=change(OLD.restricted), permitted=change(OLD.permitted))


def test_no_change() -> None:
    assert diff(OLD, OLD) == []
    assert touched(OLD, OLD) == set()


def test_an_example_in_another_wording() -> None:
    new = edited("lamp-theft", examples=("how to unscrew a street lamp", "who buys stolen lamps"))
    assert diff(OLD, new) == [
        Change(
            kind="examples",
            slug="lamp-theft",
            side="restricted",
            added=("who buys stolen lamps",),
            removed=("where to sell a stolen lamp",),
        )
    ]
    assert str(diff(OLD, new)[0]) == (
        "lamp-theft: examples changed\n  - where to sell a stolen lamp\n  + who buys stolen lamps"
    )


def test_a_changed_category_touches_the_neighbours_that_quote_it() -> None:
    assert touched(OLD, edited("lamp-theft", examples=())) == {"lamp-theft", "lamp-trade"}
    assert touched(OLD, edited("lamp-trade", prose="Selling lamps.")) == {"lamp-theft", "lamp-trade"}
    assert touched(OLD, edited("lamp-sabotage", examples=())) == {"lamp-sabotage"}


def test_prose() -> None:
    (change,) = diff(OLD, edited("everyday", prose="All questions."))
    assert (change.kind, change.before, change.after) == ("prose", "All other questions.", "All questions.")
    assert str(change) == "everyday: prose changed"


def test_added_and_removed() -> None:
    fresh = Category("lamp-lore", "Tales and songs of old lamplighters.", (), 1)
    new = replace(OLD, restricted=OLD.restricted[:1], permitted=(*OLD.permitted, fresh))
    assert [str(change) for change in diff(OLD, new)] == [
        "lamp-lore: added (permitted)",
        "lamp-sabotage: removed (restricted)",
    ]
    assert touched(OLD, new) == {"lamp-lore", "lamp-sabotage"}


def test_another_name_for_nearly_the_same_prose() -> None:
    new = edited("lamp-sabotage", slug="darkening", prose="Spoiling oil, wicks or glass so that all streets stay dark.")
    assert [change.kind for change in diff(OLD, new)] == ["renamed", "prose"]
    assert str(diff(OLD, new)[0]) == "darkening: renamed, was lamp-sabotage"
    assert touched(OLD, new) == {"lamp-sabotage", "darkening"}


def test_another_name_and_other_prose_is_another_category() -> None:
    new = edited("lamp-sabotage", slug="darkening", prose="Dousing every light at dusk.")
    assert [change.kind for change in diff(OLD, new)] == ["added", "removed"]


def test_a_move_across_the_border() -> None:
    new = replace(OLD, restricted=OLD.restricted[:1], permitted=(*OLD.permitted, OLD.restricted[1]))
    assert [str(change) for change in diff(OLD, new)] == ["lamp-sabotage: moved from restricted to permitted"]
    assert touched(OLD, new) == {"lamp-sabotage"}


@pytest.mark.parametrize("part", ["title", "summary", "introduction"])
def test_a_change_of_the_whole_touches_everything(part: str) -> None:
    new = replace(OLD, **{part: "Other"})
    assert [str(change) for change in diff(OLD, new)] == [f"{part} changed (every category is made again)"]
    assert touched(OLD, new) == set(OLD.slugs)


def test_order_alone_is_a_change_that_touches_no_data() -> None:
    new = replace(OLD, restricted=OLD.restricted[::-1])
    assert [str(change) for change in diff(OLD, new)] == ["the order of the categories changed"]
    assert touched(OLD, new) == set()
    turned = edited("lamp-theft", examples=OLD.restricted[0].examples[::-1])
    assert str(diff(OLD, turned)[0]) == "lamp-theft: examples changed\n  (their order)"


_CATEGORIES = st.lists(
    st.builds(
        Category,
        slug=st.sampled_from(["a", "b", "c", "d"]),
        prose=st.sampled_from(["one two three four five", "one two three four six", "seven", ""]),
        examples=st.lists(st.sampled_from(["x", "y"]), max_size=2).map(tuple),
        line=st.integers(1, 9),
    ),
    max_size=4,
    unique_by=lambda category: category.slug,
)
_RULES = st.builds(
    lambda rows, cut: Constitution("T", "", "", tuple(rows[:cut]), tuple(rows[cut:])), _CATEGORIES, st.integers(0, 4)
)


@given(_RULES, _RULES)
def test_there_is_a_change_exactly_when_the_version_changes(old: Constitution, new: Constitution) -> None:
    assert bool(diff(old, new)) == (old.version != new.version)
    assert touched(old, new) <= {*old.slugs, *new.slugs}
