"""Ways to write a text so that it looks like something else, and the way back where there is one.

Pure functions on text; augmentation hides requests and replies with them, the guard's views undo them.
`encode` takes any text, lone surrogates too, and leaves characters alone that its code does not know. `decode`
raises nothing but ValueError, where a text is plainly not in the code.
"""

import base64
import binascii
import codecs
import re
import string
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from confusable_homoglyphs import confusables

_BYTES = ("utf-8", "surrogatepass")
_LOWER, _UPPER = string.ascii_lowercase, string.ascii_uppercase


@dataclass(frozen=True)
class Cipher:
    """One code. `decode` is None where the way back is lost; some codes lose the case of letters."""

    name: str
    family: str
    encode: Callable[[str], str]
    decode: Callable[[str], str] | None


def _as_bytes(name: str, write: Callable[[bytes], bytes], read: Callable[[bytes], bytes]) -> Cipher:
    def encode(text: str) -> str:
        return write(text.encode(*_BYTES)).decode("ascii")

    def decode(text: str) -> str:
        return read(text.strip().encode("ascii")).decode(*_BYTES)

    return Cipher(name, "bytes", encode, decode)


def _percent(data: bytes) -> bytes:
    return b"".join(b"%%%02X" % byte for byte in data)


def _unpercent(data: bytes) -> bytes:
    if not re.fullmatch(rb"(?:%[0-9A-Fa-f]{2})*", data):
        raise ValueError("not percent-encoded throughout")
    return binascii.unhexlify(data.replace(b"%", b""))


def _binary(data: bytes) -> bytes:
    return " ".join(f"{byte:08b}" for byte in data).encode()


def _unbinary(data: bytes) -> bytes:
    return bytes(int(group, 2) for group in data.split())


def _decimal(text: str) -> str:
    return " ".join(str(ord(letter)) for letter in text)


def _character(number: int) -> str:
    if number > 0x10FFFF:
        raise ValueError(f"no character has the number {number}")
    return chr(number)


def _undecimal(text: str) -> str:
    return "".join(_character(int(number)) for number in text.split())


def _entities(text: str) -> str:
    return "".join(f"&#{ord(letter)};" for letter in text)


def _unentities(text: str) -> str:
    return re.sub(r"&#(\d{1,7});", lambda found: _character(int(found[1])), text)


def _escapes(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}" for letter in text)


def _unescapes(text: str) -> str:
    pattern = r"\\u([0-9a-f]{4})|\\U([0-9a-f]{8})"
    return re.sub(pattern, lambda found: _character(int(found[1] or found[2], 16)), text)


def _mapped(name: str, family: str, table: Mapping[str, str], fold: bool = False) -> Cipher:
    """A code letter by letter; `fold`: upper case is written like lower case and comes back as lower case."""
    forth = {ord(plain): code for plain, code in table.items()}
    if fold:
        forth |= {ord(plain.upper()): code for plain, code in table.items()}
    back = {ord(code): plain for plain, code in table.items()}
    return Cipher(name, family, lambda text: text.translate(forth), lambda text: text.translate(back))


def _shifted(name: str, lower: str) -> Cipher:
    table = dict(zip(_LOWER + _UPPER, lower + lower.upper(), strict=True))
    return _mapped(name, "shift", table)


def _rows_shifted(rows: tuple[str, ...]) -> str:
    next_key = {row[i]: row[(i + 1) % len(row)] for row in rows for i in range(len(row))}
    return "".join(next_key[letter] for letter in _LOWER)


def _offset(first: int, letters: str) -> dict[str, str]:
    return {letter: chr(first + i) for i, letter in enumerate(letters)}


def _signs(name: str, table: Mapping[str, str], between: str, words: str) -> Cipher:
    """A code that writes each letter as a sign of several characters; white space becomes the word mark."""
    back = {code: plain for plain, code in table.items()}

    def encode(text: str) -> str:
        return words.join(between.join(table.get(letter, letter) for letter in word) for word in text.lower().split())

    def decode(text: str) -> str:
        return " ".join("".join(back.get(sign, sign) for sign in word.split(between)) for word in text.split(words))

    return Cipher(name, "signs", encode, decode)


def _pig_latin(text: str) -> str:
    return re.sub(r"\b([b-df-hj-np-tv-z]*)([a-z]+)\b", r"\2\1ay", text, flags=re.IGNORECASE | re.ASCII)


def _of_script(letter: str, script: str) -> bool:
    return unicodedata.name(letter, "").startswith(script)


def _homoglyphs() -> dict[str, str]:
    """For each Latin letter the look-alike of another script, Cyrillic first, as Unicode's confusables list it."""
    table: dict[str, str] = {}
    for letter in string.ascii_letters:
        listed = [twin["c"] for twin in confusables.confusables_data.get(letter, ())]
        twins = [twin for twin in listed if len(twin) == 1 and twin.isalpha() and twin.islower() == letter.islower()]
        for script in ("CYRILLIC", "GREEK", "ARMENIAN"):
            found = [twin for twin in twins if _of_script(twin, script) and twin not in table.values()]
            if found:
                table[letter] = found[0]
                break
    return table


_MORSE = dict(
    zip(
        _LOWER + string.digits + ".,?'!/()&:;=+-_\"@",
        ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
        "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----. .-.-.- --..-- ..--.. .----. -.-.-- -..-. -.--. "
        "-.--.- .-... ---... -.-.-. -...- .-.-. -....- ..--.- .-..-. .--.-.".split(),
        strict=True,
    )
)
_BRAILLE_DOTS = (
    "1 12 14 145 15 124 1245 125 24 245 13 123 134 1345 135 1234 12345 1235 234 2345 136 1236 2456 1346 13456 1356"
)
_BRAILLE = {
    letter: chr(0x2800 + sum(1 << (int(dot) - 1) for dot in dots))
    for letter, dots in zip(_LOWER, _BRAILLE_DOTS.split(), strict=True)
}
_SMALL_CAPS = dict(zip("abcdefghijklmnopqrstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", strict=True))
_TURNED = dict(zip("abcdefghijklmnopqrstuvwxyz?!.,", "ɐqɔpǝɟƃɥᴉɾʞlɯuodbɹsʇnʌʍxʎz¿¡˙'", strict=True))
_LEET = {"a": "4", "e": "3", "i": "1", "o": "0", "s": "5", "t": "7"}
_PRINTABLE = "".join(map(chr, range(33, 127)))
_NO_WIDTH = re.compile("[\u200b\u200c\u200d\u2060\ufeff]")


def _upside_down() -> Cipher:
    turn = _mapped("upside-down", "look-alike", _TURNED, fold=True)
    unturn = turn.decode
    assert unturn is not None
    return Cipher(turn.name, turn.family, lambda text: turn.encode(text)[::-1], lambda text: unturn(text)[::-1])


_ALL = (
    _as_bytes("base64", base64.b64encode, lambda data: base64.b64decode(data, validate=True)),
    _as_bytes("base32", base64.b32encode, base64.b32decode),
    _as_bytes("base85", base64.b85encode, base64.b85decode),
    _as_bytes("hex", binascii.hexlify, binascii.unhexlify),
    _as_bytes("percent", _percent, _unpercent),
    _as_bytes("binary", _binary, _unbinary),
    Cipher("decimal", "numbers", _decimal, _undecimal),
    Cipher("html-entities", "numbers", _entities, _unentities),
    Cipher("unicode-escapes", "numbers", _escapes, _unescapes),
    Cipher("rot13", "shift", lambda text: codecs.encode(text, "rot13"), lambda text: codecs.encode(text, "rot13")),
    _mapped("rot47", "shift", dict(zip(_PRINTABLE, _PRINTABLE[47:] + _PRINTABLE[:47], strict=True))),
    _shifted("atbash", _LOWER[::-1]),
    _shifted("caesar-7", _LOWER[7:] + _LOWER[:7]),
    _shifted("keyboard-shift", _rows_shifted(("qwertyuiop", "asdfghjkl", "zxcvbnm"))),
    Cipher("reversed-letters", "order", lambda text: text[::-1], lambda text: text[::-1]),
    Cipher(
        "reversed-words",
        "order",
        lambda text: " ".join(text.split(" ")[::-1]),
        lambda text: " ".join(text.split(" ")[::-1]),
    ),
    Cipher("pig-latin", "order", _pig_latin, None),
    Cipher("spaced", "spacing", " ".join, lambda text: text[::2]),
    Cipher("zero-width", "invisible", "\u200b".join, lambda text: _NO_WIDTH.sub("", text)),
    _mapped("tags", "invisible", _offset(0xE0020, " " + _PRINTABLE)),
    _mapped("leetspeak", "look-alike", _LEET, fold=True),
    _mapped("homoglyphs", "look-alike", _homoglyphs()),
    _mapped("full-width", "look-alike", _offset(0xFF01, _PRINTABLE) | {" ": "\u3000"}),
    _mapped("mathematical", "look-alike", _offset(0x1D5D4, _UPPER + _LOWER) | _offset(0x1D7EC, string.digits)),
    _mapped("fraktur", "look-alike", _offset(0x1D56C, _UPPER + _LOWER)),
    _mapped("circled", "look-alike", _offset(0x24B6, _UPPER + _LOWER)),
    _mapped("small-caps", "look-alike", _SMALL_CAPS, fold=True),
    _upside_down(),
    _signs("morse", _MORSE, " ", " / "),
    _signs("letter-numbers", {letter: str(i) for i, letter in enumerate(_LOWER, 1)}, "-", " "),
    _mapped("braille", "signs", _BRAILLE, fold=True),
)
CIPHERS: dict[str, Cipher] = {cipher.name: cipher for cipher in _ALL}
