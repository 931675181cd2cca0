import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.constitution.parse import Category, parse, read
from marbury.errors import ConstitutionError

LAMPS = """\
---
title: Lamps
version: 3
summary: >
  Rules about the lamps
  of Halden.
---

# Constitution: lamps

An assistant for
lamplighters.

## Restricted

### lamp-theft
Taking lamps that belong to the city. Buying one belongs to
`lamp-trade`.

Hiding them counts too.
- how to unscrew a street lamp
  without a sound
- where to sell a stolen lamp

## Permitted

### lamp-trade
Buying and selling lamps.
1. what does a lamp cost?

<!-- ask the guild for more -->
### everyday
Everything else.
"""


def test_a_constitution_becomes_plain_values() -> None:
    lamps = parse(LAMPS)
    assert (lamps.title, lamps.summary) == ("Lamps", "Rules about the lamps of Halden.")
    assert lamps.introduction == "An assistant for lamplighters."
    assert lamps.restricted == (
        Category(
            slug="lamp-theft",
            prose="Taking lamps that belong to the city. Buying one belongs to `lamp-trade`.\n\n"
            "Hiding them counts too.",
            examples=("how to unscrew a street lamp without a sound", "where to sell a stolen lamp"),
            line=16,
        ),
    )
    assert lamps.permitted == (
        Category("lamp-trade", "Buying and selling lamps.", ("what does a lamp cost?",), 27),
        Category("everyday", "Everything else.", (), 32),
    )


def test_names_sides_and_neighbours() -> None:
    lamps = parse(LAMPS)
    assert lamps.slugs == ("lamp-theft", "lamp-trade", "everyday")
    assert lamps.restricted_slugs == ("lamp-theft",)
    assert [lamps.side(slug) for slug in lamps.slugs] == ["restricted", "permitted", "permitted"]
    assert lamps.category("everyday").prose == "Everything else."
    assert [category.slug for category in lamps.neighbours("lamp-theft")] == ["lamp-trade"]
    assert [category.slug for category in lamps.neighbours("lamp-trade")] == ["lamp-theft"]
    assert lamps.neighbours("everyday") == ()


def test_an_unknown_category_names_the_nearest() -> None:
    with pytest.raises(ConstitutionError, match="did you mean 'lamp-theft'"):
        parse(LAMPS).category("lamp-thefts")


def test_the_version_is_the_hash_of_the_canonical_json() -> None:
    lamps = parse(LAMPS)
    assert lamps.version == hashlib.sha256(lamps.canonical).hexdigest()
    value = json.loads(lamps.canonical)
    assert list(value) == ["introduction", "permitted", "restricted", "summary", "title"]
    assert value["permitted"][0] == {
        "slug": "lamp-trade",
        "prose": "Buying and selling lamps.",
        "examples": ["what does a lamp cost?"],
    }


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Taking lamps that belong to the city.", "Taking lamps\nthat belong\nto the city."),
        ("An assistant for\nlamplighters.", "An assistant for lamplighters."),
        ("\n### everyday", "\n\n\n### everyday"),
        ("<!-- ask the guild for more -->\n", ""),
        ("version: 3", "version: 4"),
        ("\n", "\r\n"),
        ("- where to sell", "* where to sell"),
    ],
)
def test_harmless_edits_keep_the_version(before: str, after: str) -> None:
    assert before in LAMPS
    assert parse(LAMPS.replace(before, after)).version == parse(LAMPS).version


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a stolen lamp", "a found lamp"),
        ("Everything else.", "Nearly everything else."),
        ("### everyday", "### all-else"),
        ("title: Lamps", "title: Lights"),
        ("of Halden", "of Oss"),
        ("An assistant", "A clerk"),
        ("## Permitted\n", ""),
    ],
)
def test_edits_of_the_rules_change_the_version(before: str, after: str) -> None:
    assert before in LAMPS
    assert parse(LAMPS.replace(before, after)).version != parse(LAMPS).version


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("---\ntitle", "title", r"rules\.md:1: no front matter.*begin the file"),
        ("  of Halden.\n---\n", "  of Halden.\n", "1: the front matter has no end.*close it"),
        ("title: Lamps", "title: Lamps: all", "2: the front matter is not YAML.*quotes"),
        ("version: 3", "version: [3", "the front matter is not YAML"),
        ("title: Lamps\n", "", "1: no title.*add `title"),
        ("title: Lamps", "title: 1984", "1: `title`.*quotes"),
        ("version: 3", "verison: 3", "unknown key 'verison'.*did you mean `version`"),
        ("## Restricted", "## Restrictd", "14: unknown section 'Restrictd'; did you mean `## Restricted`"),
        ("## Restricted", "## Rules", "14: unknown section 'Rules'; the two are"),
        ("## Permitted", "## Restricted", "25: a second section"),
        ("### lamp-theft\n", "", "16: text outside of a category.*move it"),
        ("### lamp-theft", "### ", "16: a category without a name"),
        ("### lamp-theft", "#### lamp-theft", "16: heading 'lamp-theft' at an unknown place"),
        ("An assistant for\n", "### early\n", "11: heading 'early' at an unknown place"),
        ("## Permitted\n", "# Again\n", "25: a second title 'Again'"),
        ("- where to sell a stolen lamp", "- ", "23: an empty example"),
        ("- where to sell a stolen lamp", "- where\n  - nested", "23: an example is one plain text"),
        ("Hiding them", "> Hiding them", "20: a blockquote is not part of the format"),
        ("Everything else.", "```\ncode\n```", "33: a fence is not part of the format"),
    ],
)
def test_what_cannot_be_read_says_where_and_what_to_do(before: str, after: str, message: str) -> None:
    assert before in LAMPS
    with pytest.raises(ConstitutionError, match=message):
        parse(LAMPS.replace(before, after, 1), "rules.md")


def test_no_restricted_section() -> None:
    with pytest.raises(ConstitutionError, match="no section `## Restricted`: add it"):
        parse("---\ntitle: Free\n---\n\n## Permitted\n\n### everyday\nAll.\n")


def test_front_matter_that_is_no_mapping() -> None:
    with pytest.raises(ConstitutionError, match="1: the front matter is not a list of `key: value`"):
        parse("---\n- title\n---\n")


def test_a_file_is_read_with_and_without_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "constitution.md"
    path.write_text(LAMPS, encoding="utf-8-sig")
    assert read(path) == parse(LAMPS)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "constitution.md"
    path.write_bytes(LAMPS.replace("Halden", "Hälden").encode("latin-1"))
    with pytest.raises(ConstitutionError, match=r"constitution\.md: not UTF-8 at byte \d+: save the file"):
        read(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConstitutionError, match="cannot be read .*marbury new"):
        read(tmp_path / "constitution.md")


_LINES = st.sampled_from(
    [
        *LAMPS.splitlines(),
        "#",
        "##",
        "- ",
        "  - x",
        "\t",
        "***",
        "| a |",
        "<b>",
        "`x",
        ": [",
        "\x00",
        "&: *a",
        "[x]: y",
        "1. x",
    ]
)


@given(st.lists(_LINES, max_size=30))
def test_any_lines_are_a_constitution_or_a_clear_error(lines: list[str]) -> None:
    try:
        constitution = parse("---\ntitle: Any\n---\n" + "\n".join(lines))
    except ConstitutionError as error:
        assert str(error).startswith("constitution.md:")
    else:
        assert all(category.slug for category in constitution.categories)


@given(st.text(max_size=80))
def test_any_front_matter_is_read_or_a_clear_error(text: str) -> None:
    try:
        parse(f"---\n{text}\n---\n## Restricted\n")
    except ConstitutionError as error:
        assert str(error).startswith("constitution.md:")
