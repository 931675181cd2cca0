"""The split: stable, of the promised sizes, and one that divides every family and kind."""

from marbury.augment.templates import bundled
from marbury.augment.transformations import all_steps, divide
from marbury.ciphers import CIPHERS
from marbury.split import HELD_OUT_TEMPLATE_FAMILIES, HELD_OUT_TRANSFORMATIONS, is_held_out, split_of


def test_shares_are_as_promised() -> None:
    splits = [split_of(f"pair-{i}") for i in range(5000)]
    assert 0.68 < splits.count("train") / 5000 < 0.72
    assert 0.09 < splits.count("valid") / 5000 < 0.11
    assert 0.18 < splits.count("test") / 5000 < 0.22


def test_split_never_moves() -> None:
    assert [split_of(f"p{i}") for i in range(6)] == ["valid", "test", "train", "valid", "train", "train"]


def test_another_seed_is_another_split() -> None:
    names = [f"pair-{i}" for i in range(200)]
    assert [split_of(name) for name in names] != [split_of(name, 1) for name in names]


def test_steps_are_held_out_by_name_or_family() -> None:
    assert is_held_out("cipher:base32")
    assert is_held_out("reply-cipher:base32")
    assert not is_held_out("cipher:base64")
    assert is_held_out("template:fiction/t-999")
    assert is_held_out("attack:fiction/x-1")
    assert not is_held_out("template:persona/t-001")
    assert not is_held_out("wrapper:few-shot/w-045")


def test_every_held_out_name_exists() -> None:
    steps = all_steps()
    unwritten = {f"{kind}:zero-width" for kind in ("reply-cipher", "cipher-both")} | {"cipher-part:reversed-words"}
    assert HELD_OUT_TRANSFORMATIONS - unwritten <= steps.keys()
    families = {row.family for kind in ("template", "wrapper") for row in bundled(kind)}
    assert families > HELD_OUT_TEMPLATE_FAMILIES


def test_about_a_third_is_held_out_everywhere() -> None:
    assert 0.25 < sum(is_held_out(f"cipher:{name}") for name in CIPHERS) / len(CIPHERS) < 0.4
    for kind in ("template", "wrapper"):
        rows = bundled(kind)
        assert 0.25 < sum(row.family in HELD_OUT_TEMPLATE_FAMILIES for row in rows) / len(rows) < 0.4


def test_every_kind_but_attacks_has_both() -> None:
    known, held_out = divide(all_steps())
    assert {step.kind for step in known.values()} == {step.kind for step in held_out.values()}


def test_no_template_text_is_on_both_sides() -> None:
    rows = bundled("template") + bundled("wrapper")
    texts = {
        side: {turn.content for row in rows for turn in row.turns if held(row.family) == side} for side in (True, False)
    }
    shared = {text for text in texts[True] & texts[False] if text != "{query}"}
    assert not shared


def held(family: str) -> bool:
    return family in HELD_OUT_TEMPLATE_FAMILIES
