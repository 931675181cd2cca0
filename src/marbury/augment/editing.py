"""What a transformation is, the innocent material it may use, and the few edits that all of them are made of."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import msgspec

from marbury.records import Example, Message

_SENTENCE_END = re.compile(r"(?<=[.!?…。！？।])[\"'”’)]*(?=\s|$)|(?<=[。！？])")


@dataclass(frozen=True)
class Exchange:
    """A harmless question and its answer, and the pair they come from."""

    pair: str
    question: str
    answer: str


@dataclass(frozen=True)
class Passage:
    """A paragraph of a harmless reply, and the pair it comes from."""

    pair: str
    text: str


@dataclass(frozen=True)
class Pool:
    """Innocent material of one split. It never gives a row its own text back.

    `exchanges` are whole; `shots` are short questions with the first sentences of their answers.
    """

    exchanges: tuple[Exchange, ...] = ()
    shots: tuple[Exchange, ...] = ()
    passages: tuple[Passage, ...] = ()

    def pick_exchanges(self, random: Random, count: int, pair: str) -> list[Exchange] | None:
        """Some exchanges of other pairs, or None when there are too few."""
        found = _sample(random, self.exchanges, count, pair)
        return found if len(found) == count else None

    def pick_shots(self, random: Random, count: int, pair: str) -> list[Exchange] | None:
        """Some short exchanges of other pairs, or None when there are too few."""
        found = _sample(random, self.shots, count, pair)
        return found if len(found) == count else None

    def pick_passages(self, random: Random, count: int, pair: str) -> str | None:
        """Some paragraphs of other pairs, one below the other, or None when there are too few."""
        found = _sample(random, self.passages, count, pair)
        return "\n\n".join(passage.text for passage in found) if len(found) == count else None

    def pick_text(self, random: Random, size: tuple[int, int], pair: str) -> str | None:
        """Paragraphs of other pairs, at least and at most so many characters together, or None without enough."""
        least, most = random.randint(*size), size[1]
        chosen: list[str] = []
        length = 0
        for passage in random.sample(self.passages, min(len(self.passages), 20 + most // 40)):
            if passage.pair != pair and length + len(passage.text) <= most:
                chosen.append(passage.text)
                length += len(passage.text) + 2
            if length >= least:
                return "\n\n".join(chosen)
        return "\n\n".join(chosen) if length >= size[0] else None


Apply = Callable[[Example, Random, Pool], Example | None]


@dataclass(frozen=True)
class Transformation:
    """One step: its name `kind:detail`, and what it does. It gives None where it does not fit the row."""

    name: str
    apply: Apply

    @property
    def kind(self) -> str:
        """The part of the name before the colon."""
        return self.name.partition(":")[0]


Material = TypeVar("Material", Exchange, Passage)


def _sample(random: Random, items: tuple[Material, ...], count: int, pair: str) -> list[Material]:
    tried = random.sample(items, min(len(items), 2 * count + 4))
    return [item for item in tried if item.pair != pair][:count]


POOL_LIMIT = 10_000  # of each kind of material: memory must not grow with the rows


class Growing:
    """A pool being filled row by row; above its limit every item has the same chance to be in it."""

    def __init__(self, seed: int = 0, limit: int = POOL_LIMIT) -> None:
        self._random, self._limit = Random(f"{seed}:pool"), limit
        self._exchanges: list[Exchange] = []
        self._shots: list[Exchange] = []
        self._passages: list[Passage] = []
        self._seen = [0, 0, 0]

    def _put(self, kind: int, kept: list[Material], item: Material) -> None:
        self._seen[kind] += 1
        if len(kept) < self._limit:
            kept.append(item)
        elif (place := self._random.randrange(self._seen[kind])) < self._limit:
            kept[place] = item

    def add(self, row: Example) -> None:
        """Take the material of a permitted request with a harmless reply; leave any other row."""
        if row.request_harmful or row.reply_harmful is not False:
            return
        answer = row.messages[-1].content
        if len(row.messages) == 2:
            asked, start = row.messages[0].content, opening(answer, 240)
            self._put(0, self._exchanges, Exchange(row.pair, asked, answer))
            if start is not None and len(asked) <= 240:
                self._put(1, self._shots, Exchange(row.pair, asked, start))
        for part in (part.strip() for part in answer.split("\n\n")):
            if 80 <= len(part) <= 700:
                self._put(2, self._passages, Passage(row.pair, part))

    def pool(self) -> Pool:
        """What was kept."""
        return Pool(tuple(self._exchanges), tuple(self._shots), tuple(self._passages))


def pool_of(examples: Iterable[Example], seed: int = 0, limit: int = POOL_LIMIT) -> Pool:
    """The innocent material of some rows: permitted requests with harmless replies, one turn each."""
    growing = Growing(seed, limit)
    for row in examples:
        growing.add(row)
    return growing.pool()


def opening(text: str, limit: int) -> str | None:
    """The first whole sentences of a text, up to a number of characters; None when the first is longer."""
    ends = [found.end() for found in _SENTENCE_END.finditer(text[: limit + 1])]
    return text[: ends[-1]] if ends and 0 < ends[-1] <= limit else None


def question(example: Example) -> str:
    """The last user turn of the request."""
    return example.request[-1].content


def asks(example: Example) -> tuple[bool | None, ...]:
    """Of each user turn of the request whether it asks for harm, as far as the row says it."""
    if example.turns:
        return example.turns
    return _asks(example, sum(message.role == "user" for message in example.request))


def _asks(example: Example, count: int) -> tuple[bool | None, ...]:
    """The same for a request of some user turns of which the last says what the label says."""
    return (None,) * (count - 1) + (True,) if example.request_harmful else (False,) * count


def with_request(example: Example, request: Iterable[Message], turns: tuple[bool | None, ...] | None = None) -> Example:
    """The row with another request before its reply. `turns` may be left out where no turn but the last asks."""
    messages = tuple(request)
    count = sum(message.role == "user" for message in messages)
    if turns is None:
        same = count == sum(message.role == "user" for message in example.request)
        turns = example.turns if same or count < 2 else _asks(example, count)
    reply = example.messages[len(example.request) :]
    return msgspec.structs.replace(example, messages=(*messages, *reply), turns=turns)


def after_system(example: Example, exchanges: Iterable[tuple[Message, Message]]) -> Example:
    """The row with innocent exchanges right at its beginning, after the system message if there is one."""
    head = 1 if has_system(example) else 0
    before = [turn for pair in exchanges for turn in pair]
    turns = (False,) * (len(before) // 2) + asks(example)
    return with_request(example, (*example.request[:head], *before, *example.request[head:]), turns)


def with_question(example: Example, text: str) -> Example:
    """The row with another text in the last user turn of its request."""
    return with_request(example, (*example.request[:-1], Message("user", text)))


def with_reply(example: Example, text: str) -> Example:
    """The row with another text of its reply."""
    assert example.reply is not None
    return msgspec.structs.replace(example, messages=(*example.request, Message("assistant", text)))


def without_reply(example: Example) -> Example:
    """The row up to its request."""
    return msgspec.structs.replace(example, messages=example.request, reply_harmful=None)


def has_system(example: Example) -> bool:
    """Whether the conversation begins with instructions of an operator."""
    return example.messages[0].role in ("system", "developer")


def fill(wording: str, **parts: str) -> str:
    """A wording with its `{name}` places filled; braces inside the filled-in texts stay as they are."""
    pieces = re.split(r"\{(\w+)\}", wording)
    return "".join(parts.get(piece, f"{{{piece}}}") if i % 2 else piece for i, piece in enumerate(pieces))
