"""What a message says, sorted into the channels that are watched.

All text blocks of a message are one channel, and so are all blocks of thinking: a word that is divided between two
blocks is read as one. The name and the input of each tool call have a channel of their own.
"""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from marbury.guard import AsyncWatch, JudgedRequest, Released
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.escapes import Unescaping
from marbury.serve.protocols.messages.wire import TEXTS, TOOL
from marbury.serve.protocols.protocol import Asked
from marbury.serve.protocols.watched import one_more

_LAST_WORD = re.compile(r"\S*\Z")


@dataclass(eq=False)
class Block:
    """A content block that the upstream has begun. `ready` was released and has not left."""

    kind: str
    id: str = ""
    name: str = ""
    named: bool = False  # a tool's name is complete
    complete: bool = False  # the upstream has ended it
    owed: int = 0  # characters that wait for their release
    ready: str = ""
    escapes: Unescaping | None = None


class Op(NamedTuple):
    """One thing to do, in order: start and stop of a block; text (with what a watch released) and its end."""

    kind: str
    block: Block | None = None
    channel: "Channel | None" = None
    last: bool = False


@dataclass(eq=False)
class Channel:
    """One text and its watch. Borders are read but never said: they are no part of the reply."""

    name: str
    watch: AsyncWatch
    last_word: str = ""  # the end of what was said, as a client sees it that puts the blocks together
    apart: bool = False  # something else was said since
    owners: deque[tuple[Block | None, int]] = field(default_factory=deque)  # of what is not released; None: a border

    def say(self, block: Block, text: str) -> str:
        """What is to be read for a text: after a border, a word that goes on is read from its beginning."""
        again = self.last_word if self.apart and not text[0].isspace() else ""
        if again:
            self.owners.append((None, len(again)))
        self.apart = False
        self.owners.append((block, len(text)))
        block.owed += len(text)
        self.last_word = _last_word(self.last_word + text)
        return again + text

    def border(self) -> str:
        """What is to be read between two blocks, so that the last word of the first is complete and need not wait."""
        if self.apart:
            return ""
        self.apart = True
        border = "\n" if self.last_word else "-\n"  # white space does not end white space
        self.owners.append((None, len(border)))
        return border

    def take(self, result: Released) -> None:
        """Give its owners what was released."""
        text = result.text
        while text:
            block, left = self.owners.popleft()
            part, text = text[:left], text[left:]
            if len(part) < left:
                self.owners.appendleft((block, left - len(part)))
            if block is not None:
                _ready(block, part, name=self.name.endswith(".name"))


class Speech:
    """The channels of one message. `plan` is what is to be done with what was said since the plan was last taken."""

    def __init__(self, judged: JudgedRequest, asked: Asked) -> None:
        self._judged = judged
        self._asked = asked
        self._tools = 0
        self._channels: dict[str, Channel] = {}
        self._inputs: dict[Block, Channel] = {}
        self.plan: list[Op] = []
        self.steps: list[tuple[AsyncWatch, str | None]] = []

    def take(self) -> tuple[list[Op], list[tuple[AsyncWatch, str | None]]]:
        """The plan so far and the texts to be judged for it."""
        taken = self.plan, self.steps
        self.plan, self.steps = [], []
        return taken

    def start(self, block: Block, name: str = "") -> None:
        """A block begins."""
        for kind in TEXTS:
            channel = self._channels.get(kind)
            if channel is not None and kind != block.kind and (border := channel.border()):
                self._push(channel, border)
        self.plan.append(Op("start", block))
        if block.kind != TOOL:
            return
        if name:
            channel = self._channel(f"tool_use[{self._tools}].name")
            self._push(channel, channel.say(block, name))
            self._finish(channel, block)
        block.named = not name
        block.escapes = Unescaping()
        self._inputs[block] = self._channel(f"tool_use[{self._tools}].input")
        self._tools += 1

    def say(self, block: Block, text: str, *, last: bool = False) -> None:
        """A text in a block."""
        if block.escapes is not None:
            channel, text = self._inputs[block], block.escapes.feed(text, last=last)
        else:
            channel = self._channels.get(block.kind) or self._first(block.kind)
        if text:
            self._push(channel, channel.say(block, text))

    def stop(self, block: Block) -> None:
        """A block ends. Its text may still go on in another one; a tool's input cannot."""
        if block.kind == TOOL:
            self.say(block, "", last=True)
            self._finish(self._inputs[block])
        self.plan.append(Op("stop", block))

    def finish(self) -> None:
        """The message ends."""
        for kind in TEXTS:
            if kind in self._channels:
                self._finish(self._channels[kind])

    def close(self) -> None:
        """Read nothing more."""
        for channel in self._channels.values():
            channel.watch.close()

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every channel so far."""
        return [
            OutputVerdict(0, channel.name, channel.watch.verdict)
            for channel in self._channels.values()
            if channel.watch.verdict is not None
        ]

    def _first(self, kind: str) -> Channel:
        """The channel of a kind; that of the text goes on from a reply that the client has begun itself."""
        channel, messages = self._channel(kind), self._asked.messages
        if kind == "text" and messages and messages[-1].role == "assistant":
            channel.last_word, channel.apart = _last_word(messages[-1].content), True
        return channel

    def _channel(self, name: str) -> Channel:
        channel = self._channels[name] = Channel(name, one_more(self._judged))
        return channel

    def _push(self, channel: Channel, text: str) -> None:
        self.steps.append((channel.watch, text))
        self.plan.append(Op("text", None, channel))

    def _finish(self, channel: Channel, named: Block | None = None) -> None:
        self.steps.append((channel.watch, None))
        self.plan.append(Op("text", named, channel, last=True))


def _ready(block: Block, part: str, *, name: bool) -> None:
    block.owed -= len(part)
    if name:
        block.name += part
    else:
        block.ready += part if block.escapes is None else block.escapes.release(len(part))


def _last_word(text: str) -> str:
    found = _LAST_WORD.search(text[-64:])
    return found.group() if found else ""
