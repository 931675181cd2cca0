"""Codes that write letters as groups of other signs: base64, hex, Morse and the like.

A pattern finds a run of the code, a function decodes it, and its *gain* says whether that was more than chance: how
much more probable the decoded text is than as many groups drawn blindly. So no run is decoded for its looks alone,
and a run may stand anywhere in a text. All patterns scan in linear time.
"""

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from marbury.ciphers import CIPHERS
from marbury.views.letters import Reading
from marbury.views.likeness import total

FIRST = 14.0  # nats that the runs of one code must gain together to make a view
MORE = 7.0  # nats that each of them must gain
BYTE = 5.545  # nats of a byte drawn blindly
_BEYOND = 1.2  # nats that a letter of another script gains over its bytes drawn blindly
_CASES = 0.7  # nats that a byte costs because letters come in two cases and `likeness` knows one
_OTHER = -3.5  # what such a letter costs in `likeness`
_LATIN = 0x24F  # the last letter that does not
_GAP = " \n\t\r,:;"  # what may stand between groups, and is the text's own after the last
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True)
class Span:
    """What was decoded of a run: the text, how many characters of the run it took, and the nats of its groups drawn
    blindly."""

    text: str
    used: int
    blind: float


class Read(Protocol):
    """How a code is read, and what that is worth."""

    def __call__(self, run: str, whole: bool) -> Span:
        """Decode the head of a run; with `whole` False the run may go on, and only complete groups are taken.

        Raises:
            ValueError: what it begins with is no text.
        """
        ...

    def gain(self, text: str, run: str, blind: float) -> float:
        """Nats that a decoded text gains over its run, which was drawn blindly or is language itself."""
        ...


@dataclass(frozen=True)
class SpanCode:
    """One code. `run` finds where it begins, `more` matches what may follow in a run, an unfinished group included.

    A text without `hint` has no run.
    """

    name: str
    run: re.Pattern[str]
    more: re.Pattern[str]
    read: Read
    hint: str = ""


# ---- bytes


@dataclass(frozen=True)
class _Bytes:
    """Groups of `size` signs that stand for `gives` bytes. Letters in no order count as text: they may be a code."""

    size: int
    gives: int
    signs: re.Pattern[str]
    decode: Callable[[str], bytes]

    def __call__(self, run: str, whole: bool) -> Span:
        signs = self.signs.findall(run)
        if not whole:
            del signs[len(signs) // self.size * self.size :]
        elif self.size > 2 and len(signs) % self.size == 1:
            signs.pop()
        data = self.decode("".join(signs))
        text, good = _text_of(data)
        if good < len(data):  # the rest is something else, or the last group cuts a letter
            while good % self.gives:
                text = text[:-1]
                good = len(text.encode())
            signs = signs[: good // self.gives * self.size]
        if not text:
            raise ValueError("no text in these bytes")
        used = len(run.rstrip(_GAP)) if whole and good == len(data) else _reach(run, self.signs, len(signs))
        blind = BYTE if self.size > 2 or not "".join(signs).isdigit() else 4.605
        return Span(text, used, blind * good)

    def gain(self, text: str, run: str, blind: float) -> float:
        """As `Read` says."""
        cost = total(text, ordered=False) - _CASES * len(text)
        if not text.isascii():
            beyond = [letter for letter in text if ord(letter) > _LATIN]
            cost += sum(_BEYOND + _CASES - _OTHER - BYTE * len(letter.encode()) for letter in beyond)
        return cost + min(blind, -total(run))


def _reach(run: str, signs: re.Pattern[str], count: int) -> int:
    """Where the last of so many signs ends."""
    end = 0
    for number, found in enumerate(signs.finditer(run)):
        if number == count:
            break
        end = found.end()
    return end


def _text_of(data: bytes) -> tuple[str, int]:
    """As much text as the bytes begin with, and how many bytes it took."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        text = data[: error.start].decode()
    broken = _CONTROL.search(text)
    if broken:
        text = text[: broken.start()]
    return text, len(text.encode())


def _base64(signs: str) -> bytes:
    return base64.b64decode(signs.replace("-", "+").replace("_", "/") + "=" * (-len(signs) % 4))


def _base32(signs: str) -> bytes:
    signs = signs[: len(signs) - (len(signs) % 8 in (1, 3, 6))]  # no number of bytes fills these
    return base64.b32decode(signs + "=" * (-len(signs) % 8))


def _hex(signs: str) -> bytes:
    return binascii.unhexlify(signs[: len(signs) // 2 * 2])


def _binary(signs: str) -> bytes:
    return bytes(int(signs[i : i + 8], 2) for i in range(0, len(signs) - 7, 8))


# ---- groups that stand for one character each


@dataclass(frozen=True)
class _Groups:
    """Groups of signs, each for a character: `means` gives the text of a match of `group`.

    `blind`: nats of a group drawn blindly. `grows`: signs by which a group at the end could still grow.
    `mixed`: letters that the code does not know stand among the groups; they are few.
    """

    group: re.Pattern[str]
    means: Callable[[re.Match[str]], str]
    blind: float
    grows: str = ""
    mixed: bool = False

    def __call__(self, run: str, whole: bool) -> Span:
        end = len(run) if whole or not self.grows else len(run.rstrip(self.grows))
        used, count, kept = 0, 0, 0
        parts: list[str] = []
        for found in self.group.finditer(run, 0, end):
            if found.start() != used:
                break
            used = found.end()
            parts.append(self.means(found))
            count += not parts[-1].isspace() and bool(parts[-1])
            kept += self.mixed and parts[-1].isalpha() and parts[-1] == found[0]
        text = "".join(parts)
        if re.search("[\ud800-\udbff][\udc00-\udfff]", text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if not text or _CONTROL.search(text) or kept > count / 3:
            raise ValueError("no text in these groups")
        return Span(text, used, self.blind * count)

    def gain(self, text: str, run: str, blind: float) -> float:
        """As `Read` says."""
        return total(text) + min(blind, -total(run))


def _number(digits: str, base: int = 10) -> str:
    value = int(digits, base)
    if value > 0x10FFFF:
        raise ValueError("no character has this number")
    return chr(value)


def _decimal(found: re.Match[str]) -> str:
    return _number(found[0]) if found[0].isdigit() else ""


def _entity(found: re.Match[str]) -> str:
    return _number(found[1]) if found[1] else _number(found[2], 16)


def _escape(found: re.Match[str]) -> str:
    return _number(next(digits for digits in found.groups() if digits), 16)


_MORSE = {CIPHERS["morse"].encode(letter): letter for letter in map(chr, range(33, 127)) if not letter.isupper()}


def _morse(found: re.Match[str]) -> str:
    sign = found[0]
    if sign.isspace():
        return " " if len(sign) > 2 or "\n" in sign else ""
    if sign[0] in "/|":
        return " "
    if sign[0] in ".-" and sign not in _MORSE:
        raise ValueError("no such sign")
    return _MORSE.get(sign, sign)


def _letter_number(found: re.Match[str]) -> str:
    sign = found[0]
    if sign.isdigit():
        return chr(96 + int(sign)) if 1 <= int(sign) <= 26 else sign
    return sign.replace("-", "")


def _spaced(found: re.Match[str]) -> str:
    sign = found[0]
    if not sign.isspace():
        return sign
    return "\n" if "\n" in sign else " " if len(sign) > 1 else ""


def _first(found: re.Match[str]) -> str:
    return found[0][0]


# ---- all of them

_PRINTABLE = 4.55  # nats of a printable character drawn blindly
_LETTER = 3.3  # nats of a letter drawn blindly
_ENTITY = r"&#(?:(\d{1,7})|[xX]([0-9A-Fa-f]{1,6}));"
_X = "[0-9A-Fa-f]"
_ESCAPE = rf"\\(?:u({_X}{{4}})|U({_X}{{8}})|x({_X}{{2}})|[ux]\{{({_X}{{1,6}})\}})"
_ESCAPE_ = re.sub(r"\((?=\[)", "(?:", _ESCAPE)
_ENTITY_ = r"&#(?:\d{1,7}|[xX][0-9A-Fa-f]{1,6});"
_B85 = r"[0-9A-Za-z!#$%&()*+\-;<=>?@^_`{|}~]"
_LETTER_SIGN = r"(?:\d{1,2}(?!\d)|[^\w\s-]|[^\W\d_](?![^\W_]))"
_MORSE_SIGN, _MORSE_GAP = r"(?:[.\-]{1,6}|[^\s.\-/|](?!\S))", r"(?: ?[/|] ?| {1,3}|\n)"
_DASH = r"[.\-_*|·~+]"


def _compiled(name: str, run: str, more: str, read: Read, hint: str = "") -> SpanCode:
    return SpanCode(name, re.compile(run, re.DOTALL), re.compile(more, re.DOTALL), read, hint)


def _any(signs: str) -> re.Pattern[str]:
    return re.compile(signs)


SPANS = (
    _compiled(
        "base64",
        r"(?<![A-Za-z0-9+/_-])(?![A-Za-z]?[a-z]{7})[A-Za-z0-9+/_-]{8,}(?:(?<=[A-Za-z0-9+/_-]{40})(?:\r?\n[A-Za-z0-9+/_-]{4,})+)?={0,2}",
        r"[A-Za-z0-9+/_-]*(?:\r?\n[A-Za-z0-9+/_-]{4,})*={0,2}",
        _Bytes(4, 3, _any(r"[A-Za-z0-9+/_-]"), _base64),
    ),
    _compiled("base32", r"\b[A-Z2-7]{8,}={0,6}", r"[A-Z2-7]*={0,6}", _Bytes(8, 5, _any("[A-Z2-7]"), _base32)),
    _compiled(
        "base85",
        rf"(?<!\S)(?=[A-Za-z()-]{{0,19}}[^A-Za-z()\s-]){_B85}{{10,}}",
        rf"{_B85}*",
        _Bytes(5, 4, _any(_B85), base64.b85decode),
    ),
    _compiled(
        "hex",
        rf"(?<![^\W_])(?:(?:0x|\\x)?{_X}{{2}}[ :,\n]?){{4,}}",
        rf"[ :,\n]?(?:(?:0x|\\x)?{_X}{{2}}[ :,\n]?)*(?:(?:0|\\)?x?{_X}?\Z)?",
        _Bytes(2, 1, _any(rf"(?:(?<=0x)|(?<=\\x)|(?!0x)){_X}"), _hex),
    ),
    _compiled(
        "binary",
        r"\b(?:[01]{8}[\s,]?){3,}",
        r"[\s,]?(?:[01]{8}[\s,]?)*(?:[01]{0,7}\Z)?",
        _Bytes(8, 1, _any("[01]"), _binary),
    ),
    _compiled(
        "percent",
        rf"(?:%{_X}{{2}}){{3,}}",
        rf"(?:%{_X}{{2}})*(?:%{_X}?\Z)?",
        _Bytes(2, 1, _any(_X), _hex),
        "%",
    ),
    _compiled(
        "html-entities",
        rf"(?:{_ENTITY_}){{3,}}",
        rf"(?:{_ENTITY_})*(?:&(?:#[xX]?{_X}{{0,7}})?\Z)?",
        _Groups(_any(_ENTITY), _entity, _PRINTABLE),
        "&#",
    ),
    _compiled(
        "unicode-escapes",
        rf"(?:{_ESCAPE_}){{3,}}",
        rf"(?:{_ESCAPE_})*(?:\\(?:[uUx]\{{?{_X}{{0,8}})?\Z)?",
        _Groups(_any(_ESCAPE), _escape, _PRINTABLE),
        "\\",
    ),
    _compiled(
        "decimal",
        r"(?<![\w.,;-])\d{2,7}(?:[\s,;]{1,2}\d{2,7}){4,}",
        r"(?:[\s,;]{0,2}\d{1,7})*[\s,;]{0,2}",
        _Groups(_any(r"\d+|[\s,;]+"), _decimal, _PRINTABLE, "0123456789"),
    ),
    _compiled(
        "letter-numbers",
        rf"(?<![\w.,-])(?:[^\w\s-]-){{0,3}}\d{{1,2}}(?:(?:-|\s{{1,2}}){_LETTER_SIGN}){{4,}}",
        rf"(?:(?:-|\s{{1,2}})?{_LETTER_SIGN})*[-\s]{{0,2}}",
        _Groups(_any(r"\d+|[^\d]"), _letter_number, _LETTER, "0123456789", mixed=True),
    ),
    _compiled(
        "morse",
        rf"(?<!\S)[.\-]{{1,6}}(?:{_MORSE_GAP}{_MORSE_SIGN}){{3,}}(?!\S)",
        rf"(?:{_MORSE_GAP}?{_MORSE_SIGN})*{_MORSE_GAP}?",
        _Groups(_any(r"[.\-]+|[/|]|\s+|\S"), _morse, 3.6, ".-", mixed=True),
    ),
    _compiled(
        "spaced",
        r"(?<!\S)\S(?:[ \n]{1,5}\S(?!\S)){4,}",
        r"(?:[ \n]{0,5}\S(?!\S))*[ \n]{0,5}",
        _Groups(_any(r"\S|\s+"), _spaced, _LETTER, " \n"),
    ),
    _compiled(
        "punctuated",
        rf"(?<!\w)\w({_DASH})(?:.\1){{3,}}\w?",
        rf"(?:.{_DASH})*.?",
        _Groups(_any(r".."), _first, _LETTER),
    ),
)


def read_spans(text: str, codes: tuple[SpanCode, ...] = SPANS) -> list[Reading]:
    """The readings of a text with all runs of one code decoded, for each code that gains enough."""
    found = (read_span(code, text) for code in codes if code.hint in text)
    return [reading for reading in found if reading]


def read_span(code: SpanCode, text: str) -> Reading | None:
    """A text with all runs of one code decoded, or None where they gain too little."""
    parts: list[str] = []
    done, start = 0, -1
    gains: dict[str, float] = {}  # of different runs: a name again and again is no code
    for run in code.run.finditer(text):
        span, gained = decoded(code, run[0], True)
        if gained < MORE:
            continue
        start = run.start() if start < 0 else start
        gains[run[0]] = gained
        parts += [text[done : run.start()], span.text]
        done = run.start() + span.used
    gain = sum(gains.values())
    return Reading(code.name, gain, "".join(parts) + text[done:], start) if gain >= FIRST else None


def decoded(code: SpanCode, run: str, whole: bool) -> tuple[Span, float]:
    """What the head of a run says, and its gain; nothing, and less than nothing, where it is no text."""
    try:
        span = code.read(run, whole)
    except ValueError:
        return Span("", 0, 0.0), -FIRST
    return span, code.read.gain(span.text, run[: span.used], span.blind)
