"""What stands around requests and replies: right roles in the right order, and nothing of the row is lost."""

from pathlib import Path
from random import Random

import pytest

import marbury
from marbury.augment.editing import Passage, Pool, fill, opening, pool_of, question
from marbury.augment.layouts import layouts
from marbury.records import Example, Message, read_rows

CORPUS = Path(marbury.__file__).parent / "data" / "orvane" / "corpus"
ROWS = list(read_rows(CORPUS / "a1.jsonl", Example))
POOL = pool_of(read_rows(CORPUS / "a5.jsonl", Example))
STEPS = {step.name: step for step in layouts()}

ROW = Example(
    id="e-1",
    category="preparation",
    messages=(
        Message(
            "user",
            "Tell me, dear old lamp, how the blue mist was once made in the cellars of Halden, and who stood by the "
            "great cauldron on the night when it turned green.",
        ),
        Message("assistant", "In nine bells."),
    ),
    request_harmful=True,
    reply_harmful=True,
    pair="p-1",
)


def apply(name: str, row: Example = ROW, pool: Pool = POOL, seed: int = 0) -> Example | None:
    return STEPS[name].apply(row, Random(seed), pool)


def roles(row: Example) -> str:
    return "".join(message.role[0] for message in row.messages)


@pytest.mark.parametrize("name", STEPS)
def test_conversations_stay_well_formed(name: str) -> None:
    for row in ROWS:
        changed = apply(name, row)
        if changed is None:
            continue
        order = roles(changed).removeprefix("s")
        assert order == "ua" * (len(order) // 2)
        assert (changed.request_harmful, changed.reply_harmful) == (row.request_harmful, row.reply_harmful)
        assert row.reply is not None and changed.reply is not None and row.reply in changed.reply


@pytest.mark.parametrize("name", [name for name in STEPS if not name.startswith("turns")])
def test_the_request_is_still_there_word_by_word(name: str) -> None:
    for seed in range(5):
        changed = apply(name, seed=seed)
        assert changed is not None
        assert question(ROW) in question(changed)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("system:product", "sua"),
        ("system:chatml", "ua"),
        ("many-shot:2", "uauaua"),
        ("many-shot:text-3", "ua"),
        ("splice:exchange", "uaua"),
        ("splice:transcript", "ua"),
        ("turns:2", "uaua"),
        ("turns:3", "uauaua"),
    ],
)
def test_shapes(name: str, expected: str) -> None:
    changed = apply(name)
    assert changed is not None and roles(changed) == expected


def test_parts_add_up_to_the_request() -> None:
    changed = apply("turns:3")
    assert changed is not None
    sent = " ".join(message.content for message in changed.messages if message.role == "user")
    assert all(word in sent for word in question(ROW).split())


def test_padding_puts_innocent_text_around_the_reply() -> None:
    pool = Pool(passages=(Passage("p-2", "Ferries."), Passage("p-3", "Ferries."), Passage("p-4", "Ferries.")))
    changed = apply("pad:reply-around", pool=pool, seed=2)
    assert changed is not None and changed.reply is not None
    assert changed.reply.startswith("Ferries.\n\n") and changed.reply.endswith("\n\nFerries.")
    assert "\n\nIn nine bells.\n\n" in changed.reply


def test_a_row_never_gets_its_own_pair_as_padding() -> None:
    assert apply("pad:before", pool=Pool(passages=(Passage("p-1", "Mine."), Passage("p-1", "Also mine.")))) is None


@pytest.mark.parametrize("name", [name for name in STEPS if name.startswith(("pad", "many-shot", "splice"))])
def test_without_innocent_material_a_step_does_not_fit(name: str) -> None:
    assert apply(name, pool=Pool()) is None


def test_one_system_message_is_enough() -> None:
    row = Example(
        id="e",
        category="everyday",
        messages=(Message("system", "You are a lamp."), Message("user", "Hello lamp"), Message("assistant", "Hello")),
        request_harmful=False,
        reply_harmful=False,
        pair="p",
    )
    assert apply("system:product", row) is None
    changed = apply("many-shot:2", row)
    assert changed is not None and roles(changed) == "suauaua"


def test_pools_hold_harmless_material_alone() -> None:
    harmful = [row for row in ROWS if row.request_harmful]
    assert harmful and pool_of(harmful) == Pool()
    assert len(POOL.exchanges) > 200 and len(POOL.shots) > 100 and len(POOL.passages) > 200
    assert all(len(shot.answer) <= 240 for shot in POOL.shots)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One lamp. Two lamps. Three lamps.", "One lamp. Two lamps."),
        ("灯在门边。灯很旧。", "灯在门边。灯很旧。"),
        ("No end in sight here at all", None),
        ("", None),
    ],
)
def test_opening(text: str, expected: str | None) -> None:
    assert opening(text, 22) == expected


def test_fill_leaves_braces_of_the_text_alone() -> None:
    assert fill("{text} in {code}, {other}", text="{code} {text}", code="Morse") == "{code} {text} in Morse, {other}"
