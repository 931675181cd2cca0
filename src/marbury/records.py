"""The plain data that the floors hand to each other. Nothing here reads a file or knows a model."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from marbury.errors import DataError

Role = Literal["system", "developer", "user", "assistant", "tool"]
Finish = Literal["stop", "length", "content_filter"]
Split = Literal["train", "valid", "test"]
Turns = Literal["single", "multi"]


class Message(msgspec.Struct, frozen=True):
    """One turn of a conversation."""

    role: Role
    content: str


class Piece(msgspec.Struct, frozen=True):
    """A part of a reply as it streams; the last one carries `finish`."""

    text: str = ""
    finish: Finish | None = None


class Reply(msgspec.Struct, frozen=True):
    """A whole reply of a chat model."""

    text: str
    finish: Finish = "stop"


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A labelled conversation. It ends with the reply, or with the request when `reply_harmful` is None.

    `pair` names the rows that share a request: they stay on one side of every split.
    `chain` lists the transformations that made the row from the example `origin`.
    `turns` says of each user turn of the request whether it asks for harm (None: unknown); empty where nobody said.
    """

    id: str
    category: str
    messages: tuple[Message, ...]
    request_harmful: bool
    reply_harmful: bool | None = None
    pair: str
    language: str = "en"
    style: str = ""
    source: str = ""
    origin: str = ""
    chain: tuple[str, ...] = ()
    turns: tuple[bool | None, ...] = ()

    @property
    def request(self) -> tuple[Message, ...]:
        """The conversation without the reply that the labels speak of."""
        return self.messages if self.reply_harmful is None else self.messages[:-1]

    @property
    def reply(self) -> str | None:
        """The reply that the labels speak of."""
        return None if self.reply_harmful is None else self.messages[-1].content


class Traffic(msgspec.Struct, frozen=True):
    """A conversation from harmless traffic; it may end with a request or with a reply."""

    id: str
    messages: tuple[Message, ...]
    language: str = "en"


def turns_of(messages: Sequence[Message]) -> Turns:
    """Whether a conversation asks once or more than once."""
    return "multi" if sum(m.role == "user" for m in messages) > 1 else "single"


Row = TypeVar("Row", bound=msgspec.Struct)


def read_rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    """The rows of a JSONL file.

    Raises:
        DataError: the file is missing, or a line is not a row of this kind (says which line and why).
    """
    decoder = msgspec.json.Decoder(kind)
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield decoder.decode(line)
                    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                        raise DataError(f"{path}:{number}: not a {kind.__name__} row: {error}") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error


def to_jsonl(rows: Iterable[msgspec.Struct]) -> bytes:
    """Rows as the bytes of a JSONL file."""
    encode = msgspec.json.Encoder().encode
    return b"".join(encode(row) + b"\n" for row in rows)
