"""What the scripted upstream says to one request, and how its bytes are cut on their way."""

import json
import random
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

WIRES = ("events", "joined", "bytes", "inside characters", "CRLF and comments", "escaped")


@dataclass(frozen=True)
class Script:
    """One reply. `channel` is the drill's own name of a field; each endpoint knows what it is called there."""

    channel: str
    pieces: tuple[str, ...]
    flag: int | None = None  # the piece in which the word completes
    choice: int = 0  # which choice says it; the others say `aside`
    choices: int = 1
    aside: str = ""
    wire: str = "events"
    delay_s: float = 0.0  # before every event
    dies: bool = False  # breaks the connection in place of an end
    late: str = ""  # said once the reply has ended

    @property
    def text(self) -> str:
        """All that is said on the channel."""
        return "".join(self.pieces)


class Event(NamedTuple):
    """One server-sent event, and which piece it carries."""

    data: bytes
    piece: int | None = None


def event(value: Any, piece: int | None = None, name: str = "") -> Event:
    """A JSON value as an event."""
    head = f"event: {name}\n" if name else ""
    return Event(f"{head}data: {json.dumps(value, ensure_ascii=False)}\n\n".encode(), piece)


DONE = Event(b"data: [DONE]\n\n")


class Write(NamedTuple):
    """Bytes that are written at once; `ends`: how many events are complete after them."""

    data: bytes
    ends: int


def writes(events: list[Event], wire: str, seed: int = 0) -> list[Write]:
    """The events as they go over the wire."""
    if wire == "joined":
        return [Write(b"".join(event.data for event in events), len(events))]
    return [
        Write(part, number + last)
        for number, event in enumerate(events)
        for part, last in _parts(_dressed(event.data, wire), wire, seed + number)
    ]


def _parts(data: bytes, wire: str, seed: int) -> list[tuple[bytes, int]]:
    """An event's bytes in writes; the last one of them has a 1."""
    cuts: list[int] = []
    if wire == "bytes":
        chosen = random.Random(seed)
        while (end := (cuts[-1] if cuts else 0) + chosen.randint(1, 9)) < len(data):
            cuts.append(end)
    elif wire == "inside characters":  # after the first byte of each that has several
        cuts = [i + 1 for i, byte in enumerate(data) if byte >= 0xC0]
    bounds = [0, *cuts, len(data)]
    return [(data[a:b], int(b == len(data))) for a, b in zip(bounds, bounds[1:], strict=False)]


def _dressed(data: bytes, wire: str) -> bytes:
    if wire == "CRLF and comments":
        return b": still here\r\n\r\n" + data.replace(b"\n", b"\r\n")
    if wire == "escaped":  # JSON may write any letter as \uXXXX; names of fields stay, for old parsers
        return re.sub(rb'(: ")((?:[^"\\])*)(")', lambda m: m[1] + _escaped(m[2]) + m[3], data)
    return data


def _escaped(text: bytes) -> bytes:
    units = text.decode().encode("utf-16-be")
    return b"".join(b"\\u%04x" % int.from_bytes(units[i : i + 2], "big") for i in range(0, len(units), 2))
