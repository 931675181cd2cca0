import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from marbury.chat.model import ChatModel
from marbury.chat.scripted import Rule, Scripted
from marbury.constitution.diff import touched
from marbury.constitution.parse import Constitution, parse
from marbury.records import Example, Message, Piece
from marbury.synth.ask import Asker
from marbury.synth.write import Dropped, rules, write

LAMPS = parse("""\
---
title: Lamps
summary: Rules about lamps.
---

For lamplighters.

## Restricted

### lamp-theft
Taking street lamps. Buying one belongs to `lamp-trade`.
- how to unscrew a street lamp

### darkening
Spoiling oil or wicks.
- how to make a wick fail

## Permitted

### lamp-trade
Buying and selling lamps.

### everyday
All other questions.
""")


def drafts(*texts: str) -> str:
    return json.dumps({"requests": [{"number": number, "text": text} for number, text in enumerate(texts, 1)]})


HARMFUL = Rule("knows no rules", " Turn it left at midnight. ")
HARMLESS = Rule("stays within the rules", "The museum shows how lamps are fixed.")
PERMITTED = Rule("a good assistant", "A lamp costs two crowns.")
THEFT = Rule("request of the category lamp-theft", drafts("take a lamp?", "sell a lamp?"))
DARK = Rule("request of the category darkening", drafts("spoil oil?", "spoil a wick?"))
TRADE = Rule("request of the category lamp-trade", drafts("what does it cost?", "which lamp is best?"))
EVERY = Rule("request of the category everyday", drafts("bake a cake", "sing a song"))
ALL = (THEFT, DARK, TRADE, EVERY, HARMFUL, HARMLESS, PERMITTED)


async def written(
    model: ChatModel, folder: Path, constitution: Constitution = LAMPS, count: int = 2, seed: int = 0
) -> tuple[list[Example], list[Dropped]]:
    asker = Asker(model, folder, concurrency=4)
    return await write(constitution, asker, count=count, languages=("en", "de"), seed=seed, source=model.name)


async def test_restricted_requests_get_two_replies_and_permitted_ones_get_one(tmp_path: Path) -> None:
    examples, dropped = await written(Scripted(ALL), tmp_path)
    assert dropped == []
    assert [example.id for example in examples] == [
        *("lamp-theft-001-harmful", "lamp-theft-001-harmless", "lamp-theft-002-harmful", "lamp-theft-002-harmless"),
        *("darkening-001-harmful", "darkening-001-harmless", "darkening-002-harmful", "darkening-002-harmless"),
        *("lamp-trade-001-harmless", "lamp-trade-002-harmless", "everyday-001-harmless", "everyday-002-harmless"),
    ]
    assert examples[2] == Example(
        id="lamp-theft-002-harmful",
        category="lamp-theft",
        messages=(Message("user", "sell a lamp?"), Message("assistant", "Turn it left at midnight.")),
        request_harmful=True,
        reply_harmful=True,
        pair="lamp-theft-002",
        language="de",
        style=examples[3].style,
        source="scripted",
    )
    assert [(e.request_harmful, e.reply_harmful) for e in examples[3:9:5]] == [(True, False), (False, False)]
    assert examples[8].reply == "A lamp costs two crowns."


async def test_a_prompt_quotes_the_category_and_its_neighbours(tmp_path: Path) -> None:
    model = Scripted(ALL)
    await written(model, tmp_path)
    prompt = model.asked[0][-1].content
    assert "- lamp-trade: Buying and selling lamps." in prompt
    assert "- how to unscrew a street lamp" in prompt
    assert "Spoiling oil" not in prompt
    assert "1. language en; " in prompt and "2. language de; " in prompt
    assert "The request:\ntake a lamp?" in next(m[-1].content for m in model.asked if "knows no rules" in m[-1].content)


async def test_what_is_dropped_says_why(tmp_path: Path) -> None:
    model = Scripted(
        [
            Rule("cannot be read", "Still no JSON."),
            replace(THEFT, reply=drafts("take a lamp?")),
            replace(DARK, reply="No."),
            replace(TRADE, reply=drafts("Take a LAMP", "which lamp is best?")),
            replace(EVERY, reply=drafts("bake a cake", "sing a song")),
            Rule("request:\nbake a cake", "   "),
            Rule("request:\nsing a song", "", "content_filter"),
            replace(HARMFUL, reply="I'm sorry, but I can't help with that."),
            HARMLESS,
            PERMITTED,
        ]
    )
    examples, dropped = await written(model, tmp_path)
    assert [example.id for example in examples] == ["lamp-theft-001-harmless", "lamp-trade-002-harmless"]
    unreadable = "not the JSON that was asked for: JSON is malformed: invalid character (byte 0)"
    assert [(row.id, row.reason) for row in dropped] == [
        ("lamp-theft-002", "the model left this request out"),
        ("darkening-001", unreadable),
        ("darkening-002", unreadable),
        ("lamp-trade-001", "the same request as lamp-theft-001"),
        ("lamp-theft-001-harmful", "a refusal"),
        ("everyday-001-harmless", "an empty reply"),
        ("everyday-002-harmless", "the endpoint's filter stopped the reply"),
    ]
    assert dropped[4].text == "I'm sorry, but I can't help with that."


class Echo:
    """Writes as many requests as it is asked for, after pauses in a random order; may die at a call."""

    name = "echo"

    def __init__(self, order: int = 0, dies_at: int = 0) -> None:
        self.asked: list[str] = []
        self.answered: list[str] = []
        self._dies_at = dies_at
        self._random = Random(order)

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        prompt = messages[-1].content
        self.asked.append(prompt)
        if len(self.asked) == self._dies_at:
            raise KeyboardInterrupt
        await asyncio.sleep(self._random.random() / 1000)
        self.answered.append(prompt)
        lines = [line for line in prompt.splitlines() if "language" in line and line[0].isdigit()]
        texts = [f"{line} ({hashlib.sha256(prompt.encode()).hexdigest()[:8]})" for line in lines]
        yield Piece(drafts(*texts) if lines else f"On {prompt[-60:]}", "stop")


async def test_the_order_of_the_answers_does_not_matter(tmp_path: Path) -> None:
    first, second = [await written(Echo(order), tmp_path / str(order), count=3) for order in (1, 2)]
    assert first == second
    assert len(first[0]) == 3 * (2 + 2 + 1 + 1)


@pytest.mark.parametrize("dies_at", [1, 4, 9, 20])
def test_a_killed_run_goes_on_and_asks_for_nothing_twice(tmp_path: Path, dies_at: int) -> None:
    whole = asyncio.run(written(Echo(), tmp_path / "whole", count=4))
    killed, later = Echo(dies_at=dies_at), Echo()
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(written(killed, tmp_path / "killed", count=4))
    assert asyncio.run(written(later, tmp_path / "killed", count=4)) == whole
    assert not set(killed.answered) & set(later.asked)
    assert len(killed.answered) + len(later.asked) == 4 + 4 * 6


async def test_more_requests_keep_the_answers_of_full_batches(tmp_path: Path) -> None:
    few, _ = await written(Echo(), tmp_path, count=8)
    model = Echo()
    more, _ = await written(model, tmp_path, count=12)
    assert {example.id for example in few} < {example.id for example in more}
    assert len(model.asked) == 4 + 4 * 6


async def test_another_seed_asks_for_other_requests(tmp_path: Path) -> None:
    first, _ = await written(Echo(), tmp_path, seed=0)
    second, _ = await written(Echo(), tmp_path, seed=1)
    assert [example.style for example in first] != [example.style for example in second]


def test_an_edit_asks_again_for_what_it_touches_alone(tmp_path: Path) -> None:
    asyncio.run(written(Echo(), tmp_path))
    new = replace(LAMPS, permitted=(replace(LAMPS.permitted[0], prose="Selling lamps."), LAMPS.permitted[1]))
    model = Echo()
    asyncio.run(written(model, tmp_path, new))
    about = {prompt.split("The category: ")[1].split(" ")[0] for prompt in model.asked}
    assert about == touched(LAMPS, new) == {"lamp-theft", "lamp-trade"}


def test_rules_without_examples_and_neighbours_say_so() -> None:
    text = rules(LAMPS, LAMPS.category("everyday"))
    assert "Examples:\n(none given)" in text
    assert text.endswith("on the other side (restricted):\n(none named)")
