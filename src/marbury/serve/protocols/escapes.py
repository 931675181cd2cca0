"""JSON text on its way to a reader: what is judged has its escapes decoded, what leaves are the characters that came.

A tool's input is read by whoever parses it, so `\\u0066` must be judged as the letter it is. Escapes are decoded
wherever a backslash stands, also where it makes no JSON: the text may be read before it is complete, or never parsed.
"""

import re
from collections import deque

_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_ONE = re.compile(r"\\(?:u[0-9a-fA-F]{4}|[^u])", re.DOTALL)
_BEGUN = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?\Z")
_BEGUN_PAIR = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Unescaping:
    """Decodes a text that comes in parts, and gives back the parts as they came for what is released of it."""

    def __init__(self) -> None:
        self._rest = ""  # an escape whose end has not arrived
        self._parts: deque[tuple[str, str]] = deque()  # decoded, as it came; neither is empty

    def feed(self, text: str, *, last: bool = False) -> str:
        """The decoded characters that are complete now."""
        text, self._rest = self._rest + text, ""
        new: list[tuple[str, str]] = []
        place = 0
        while (cut := text.find("\\", place)) >= 0:
            new.append((text[place:cut],) * 2)
            begun = _BEGUN_PAIR.match(text, cut) or _BEGUN.match(text, cut)
            if begun and not last:
                self._rest, text = text[cut:], text[:cut]
                place = cut
                break
            decoded, came = _escape(text, cut)
            new.append((decoded, came))
            place = cut + len(came)
        new.append((text[place:],) * 2)
        self._parts.extend(part for part in new if part[0])
        return "".join(decoded for decoded, _ in new)

    def release(self, count: int) -> str:
        """As they came: the next `count` decoded characters."""
        out: list[str] = []
        while count:
            decoded, came = self._parts.popleft()
            if len(decoded) > count:  # only plain parts have more than one character
                self._parts.appendleft((decoded[count:], came[count:]))
                came = came[:count]
            count -= min(count, len(decoded))
            out.append(came)
        return "".join(out)


def unescaped(text: str) -> str:
    """A whole text with its escapes decoded."""
    return Unescaping().feed(text, last=True)


def _escape(text: str, place: int) -> tuple[str, str]:
    """The escape at a place, decoded and as it came; a backslash that begins none stands for itself."""
    found = _PAIR.match(text, place) or _ONE.match(text, place)
    came = found.group() if found else "\\"
    return (_decoded(came) if found else came), came


def _decoded(escape: str) -> str:
    if escape[1] != "u":
        return _LETTERS.get(escape[1], escape[1])
    high = int(escape[2:6], 16)
    if len(escape) == 12:
        return chr(0x10000 + ((high - 0xD800) << 10) + int(escape[8:12], 16) - 0xDC00)
    return "\ufffd" if 0xD800 <= high < 0xE000 else chr(high)
