"""What a client got to hear: every text of an answer, in whatever shape, and how the answer ended.

Nothing here knows an endpoint. A text is found wherever JSON has a string; what is said in parts is joined by its
place, so that a word cut over a hundred chunks is one word again.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from marbury.drill import text as texts

_INDICES = ("index", "output_index", "content_index", "summary_index")
_LAST = ("message_stop", "response.completed", "response.incomplete", "response.failed")
_REASONS = ("finish_reason", "stop_reason")
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
FILTERED = ("content_filter", "refusal")

Place = tuple[Any, ...]


class Heard(NamedTuple):
    """An answer as a client reads it."""

    said: dict[Place, str]  # by place, without errors
    errors: str  # all that stands in error objects
    reasons: tuple[str, ...]  # why it ended, as it says itself
    code: str  # the code of its error
    ended: bool  # it said that it had ended
    raw: str

    @property
    def filtered(self) -> bool:
        """It says that something was withheld."""
        return any(reason in FILTERED for reason in self.reasons)

    def has(self, text: str) -> bool:
        """Whether a text is there in one piece."""
        return any(text in said for said in self.said.values())

    def through(self, word: str, *, counts: bool) -> tuple[int, int]:
        """How many words and letters of what was flagged are there; `counts`: the word itself is part of it."""
        places = list(self.said.values())
        told = counts and any(word.casefold() in said.casefold() for said in places)
        if not any(map(texts.letters, places)):  # in an error, in half an event, in a body that is no JSON
            places = [_plain(self.raw)]
            told = told or (counts and not self.said and not self.errors and word.casefold() in places[0].casefold())
        found = set().union(*(texts.words(said) for said in places))
        most = max((texts.letters(said) for said in places), default=0)
        return len(found) + told, most + told


def heard(body: bytes, streamed: bool) -> Heard:
    """Read the body of an answer."""
    said: dict[Place, list[str]] = {}
    errors: list[str] = []
    reasons: list[str] = []
    code, ended = "", not streamed
    for data in _events(body) if streamed else [body]:
        ended = ended or data.strip() == b"[DONE]"
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            continue
        kind = value.get("type", "") if isinstance(value, dict) else ""
        ended = ended or kind in _LAST
        for place, text in _strings(value, (str(kind),)):
            if "error" in place[1:]:
                errors.append(text)
                code = text if place[-1] == "code" else code
                continue
            if place[-1] in _REASONS or place[-2:] == ("incomplete_details", "reason"):
                reasons.append(text)
            said.setdefault(place, []).append(text)
    joined = {place: _plain("".join(parts)) for place, parts in said.items()}
    return Heard(joined, " ".join(errors), tuple(reasons), code, ended, body.decode(errors="replace"))


def _strings(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Every string with its place: the names of the fields down to it, and the indices beside them."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, place)
    elif isinstance(value, dict):
        here = place + tuple((name, value[name]) for name in _INDICES if isinstance(value.get(name), int))
        for name, part in value.items():
            yield from _strings(part, (*here, name))
            if texts.letters(name):  # a key can be a text too
                yield (*here, "key"), name


def _events(body: bytes) -> Iterator[bytes]:
    lines: list[bytes] = []
    for line in [*body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"), b""]:
        if line.startswith(b"data:"):
            lines.append(line[5:].removeprefix(b" "))
        elif not line and lines:
            yield b"\n".join(lines)
            lines = []


def _plain(text: str) -> str:
    r"""The text with its \uXXXX read: JSON can stand inside JSON."""
    return _UNICODE.sub(lambda found: chr(int(found[1], 16)), text)
