"""Models that play written answers: for tests, drills and examples. No network, and the same every time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

import msgspec

from marbury.errors import ModelError
from marbury.records import Finish, Message, Piece, read_rows


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reply to every request whose last user message contains `match`; an empty `match` fits all."""

    match: str
    reply: str
    finish: Finish = "stop"


class Scripted:
    """Answers by rules: the first that fits wins. Keeps what it was asked in `asked`."""

    def __init__(self, rules: Iterable[Rule], *, name: str = "scripted", size: int = 16, delay_s: float = 0.0) -> None:
        """`size`: characters per piece; `delay_s`: seconds of silence before each piece."""
        assert size > 0
        self.asked: list[tuple[Message, ...]] = []
        self._rules = tuple(rules)
        self._name = name
        self._size = size
        self._delay_s = delay_s

    @classmethod
    def load(cls, path: Path) -> "Scripted":
        """The rules in a JSONL file: rows of `match`, `reply` and, if need be, `finish`.

        Raises:
            DataError: the file is missing, or a row is not a rule.
        """
        return cls(read_rows(path, Rule), name=f"scripted:{path.stem}")

    @property
    def name(self) -> str:
        """How reports call the model."""
        return self._name

    @property
    def calls(self) -> int:
        """How often the model was asked."""
        return len(self.asked)

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        """The reply of the first rule that fits. Raises ModelError when none does."""
        self.asked.append(tuple(messages))
        last = next((message.content for message in reversed(messages) if message.role == "user"), "")
        rule = next((rule for rule in self._rules if rule.match in last), None)
        if rule is None:
            hint = 'add a rule for it, or one with an empty "match" at the end'
            raise ModelError(f"{self._name} has no rule for {last[:80]!r}: {hint}")
        for start in range(0, len(rule.reply), self._size):
            await asyncio.sleep(self._delay_s)
            yield Piece(rule.reply[start : start + self._size])
        yield Piece(finish=rule.finish)


class ScriptedReply(Scripted):
    """Answers everything with one text, in `pieces` pieces of nearly equal length."""

    def __init__(self, text: str, pieces: int = 1, *, finish: Finish = "stop", delay_s: float = 0.0) -> None:
        size = max(1, -(-len(text) // pieces))
        super().__init__([Rule("", text, finish)], name="scripted-reply", size=size, delay_s=delay_s)
