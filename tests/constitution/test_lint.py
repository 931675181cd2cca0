import pytest

from marbury.constitution.lint import Finding, lint
from marbury.constitution.parse import parse

GOOD = """\
---
title: Lamps
---

## Restricted

### lamp-theft
Taking street lamps from the city without leave. Buying one belongs to `lamp-trade`.
- how to unscrew a street lamp without a sound

## Permitted

### lamp-trade
Buying and selling lamps, honest prices, guarantees and repairs.
- what does a good lamp cost?

### everyday
All other questions.
- bake me a cake
"""


def found(before: str, after: str) -> list[tuple[int, str, str]]:
    """What the linter says about GOOD with one edit."""
    assert before in GOOD
    return [(f.line, f.level, f.rule) for f in lint(parse(GOOD.replace(before, after, 1)))]


def test_good_rules_have_no_findings() -> None:
    assert lint(parse(GOOD)) == []


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (GOOD[GOOD.index("## Permitted") :], "", [(1, "error", "no-permitted"), (7, "error", "unknown-slug")]),
        ("All other questions.\n", "", [(17, "error", "no-prose")]),
        ("- how to unscrew a street lamp without a sound\n", "", [(7, "error", "no-examples")]),
        ("- bake me a cake\n", "", [(17, "warning", "no-examples")]),
        ("### everyday", "### lamp-theft", [(17, "error", "duplicate-slug")]),
        ("### everyday", "### Every Day", [(17, "error", "slug-form")]),
        ("- bake me a cake", "- What does a GOOD lamp cost", [(17, "warning", "duplicate-example")]),
        (
            "- what does a good",
            "- How to unscrew a street lamp without a sound!\n- what does a good",
            [(13, "error", "duplicate-example")],
        ),
        ("`lamp-trade`", "`lamp-trades`", [(7, "error", "unknown-slug")]),
        ("`lamp-trade`", "`oil-trade-law`", [(7, "error", "unknown-slug")]),
        ("`lamp-trade`", "a shop with `sudo`", []),
    ],
)
def test_each_rule_finds_its_fault(before: str, after: str, expected: list[tuple[int, str, str]]) -> None:
    assert found(before, after) == expected


def test_an_empty_restricted_side() -> None:
    rules = parse("---\ntitle: Free\n---\n## Restricted\n## Permitted\n### everyday\nAll questions.\n- bake a cake\n")
    assert [(f.level, f.rule) for f in lint(rules)] == [("error", "empty-restricted")]


def test_categories_that_say_the_same_overlap() -> None:
    same = "Taking street lamps from the city without leave.\n- how to unscrew a street lamp without a sound please"
    findings = lint(parse(GOOD.replace("All other questions.\n- bake me a cake", same)))
    assert [(f.line, f.level, f.rule) for f in findings] == [(7, "error", "overlap")]
    assert "lamp-theft and everyday share" in findings[0].message


def test_categories_that_say_much_the_same_are_worth_a_look() -> None:
    near = "Taking street lamps from the city with leave, permits, ladders.\n- how to unscrew a street lamp"
    findings = lint(parse(GOOD.replace("All other questions.\n- bake me a cake", near)))
    assert [(f.line, f.level, f.rule) for f in findings] == [(7, "warning", "overlap")]


def test_a_restricted_category_without_a_neighbour() -> None:
    alone = "### weather-magic\nCalling storms.\n- summon hail over Oss\n\n## Permitted"
    findings = lint(parse(GOOD.replace("## Permitted", alone)))
    assert [(f.line, f.level, f.rule) for f in findings] == [(11, "warning", "no-neighbour")]
    named = alone.replace("storms.", "storms. Forecasts belong to `everyday`.")
    assert lint(parse(GOOD.replace("## Permitted", named))) == []


def test_a_finding_says_what_to_do() -> None:
    rules = GOOD.replace("### everyday", "### Every Day")
    message = "'Every Day' is not a name for a category: write it like 'every-day'"
    assert lint(parse(rules)) == [Finding(17, "error", "slug-form", message)]
    assert lint(parse(rules))[0].at("rules.md") == f"rules.md:17: error: {message} [slug-form]"


def test_findings_come_from_top_to_bottom() -> None:
    rules = GOOD.replace("- bake me a cake\n", "").replace("- how to unscrew a street lamp without a sound\n", "")
    assert [f.line for f in lint(parse(rules))] == [7, 16]
