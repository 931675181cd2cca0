"""What nobody can read: pieces that are no words, no numbers, no source code and no code that can be undone.

The rule looks at one piece alone (white space, then at most 32 characters without any), so a text that grows gets the
marks that the whole text gets. Latin, Cyrillic and Greek words are judged by their letters; other scripts that
people write in are taken as readable, because nothing is known about their words here.
"""

import base64
import binascii
import re
import unicodedata
from functools import lru_cache

from marbury.ciphers import CIPHERS
from marbury.views.find import views
from marbury.views.letters import LOOK_ALIKES
from marbury.views.likeness import JUNK, SCALE, SYMBOLS, TRIGRAMS

SHORTEST = 4  # letters of a word that is judged
_UNLIKE = -8.0  # nats by which letters in no order are more probable than a word
_UNLIKE_LESS = -18.0  # the same where signs inside it look like source code, and for letters known by their sound
_LIKE = 2.5  # nats by which a word that was shifted must be like language to count as decoded
_ACRONYM = 5  # capitals that may stand for anything
_DIGITS_AMONG, _SHORTEST_MIX = 5, 12  # changes between letters and digits, and the length, of a random string
_HEX = re.compile(r"(?:[0-9a-f]{16,}|[0-9A-F]{16,})")
_SIGNS_ALONE, _KINDS = 5, 4  # signs of no script in one piece, and how many different ones

# Ideographs and kana: each ends a piece.
WIDE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# The pieces of `classifier/encoding.py` without white space; a test compares the two.
_PIECE = re.compile(rf"[{WIDE}]|[^\s{WIDE}]{{1,32}}")
_RUN = re.compile(r"[^\W\d_]+")
_PART = re.compile(r"[^\W\d_a-z]?[a-z]+|[^\W\d_a-z]+")
_MIX = re.compile(r"[^\W_]{12,}", re.ASCII)
_CHANGE = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_REPEATED = re.compile(r"(.)\1{2,}")
_CODE = re.compile(r"[^\W\d_][(){}\[\]<>=;:/\\.$#@&|%*+~^_]+[^\W_]|[({\[<=$\\@#&%*_]")
_LINK = re.compile(r"\W*(?:\w+://|www\.)")
_BASE64 = re.compile(r"\W*?([A-Za-z0-9+/_-]{12,}={0,2})\W*")
_BASE32 = re.compile(r"\W*?([A-Z2-7]{16,}=*)\W*")

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SOUNDED = re.compile("[\u0370-\u052f]")
# Letters of two other alphabets by their sound, so that one table of letters judges all three.
_SOUNDS = str.maketrans(
    "абвгдежзийклмнопрстуфхцчшщыэюяіїєґў" + "αβγδεζηθικλμνξοπρσςτυφχψω" + "ıłøđßæœħŧ",
    "abvgdezzijklmnoprstufhccssieuaiiegu" + "avgdezitiklmnxoprsstyfhpo" + "ilodsaoht",
    "ъь",
)


@lru_cache(maxsize=1)
def _nats() -> tuple[bytes, float]:
    """The table of letters, and what a letter costs in it when letters come in no order."""
    return TRIGRAMS.read_bytes(), -JUNK * SCALE


@lru_cache(maxsize=1)
def _shifts() -> tuple[dict[int, int], ...]:
    """What `views` undoes letter for letter."""
    tables = [_LETTERS[by:] + _LETTERS[:by] for by in range(1, 26)]
    for name in ("atbash", "keyboard-shift"):
        decode = CIPHERS[name].decode
        assert decode is not None
        tables.append(decode(_LETTERS))
    return tuple(str.maketrans(_LETTERS, table) for table in tables)


def _folded(word: str) -> str:
    """A word in the letters a to z, or empty when it is in another script."""
    if not word.isascii():
        word = unicodedata.normalize("NFKD", word.lower()).translate(_SOUNDS)
        word = "".join(letter for letter in word if not unicodedata.combining(letter))
        if not (word.isascii() and word.isalpha()):
            return ""
    word = word.lower()
    return _REPEATED.sub(r"\1", word) if len(word) > 5 else word


def _worth(word: str) -> float:
    """Nats by which a folded word is more probable as language than as letters in no order."""
    table, cost = _nats()
    before = before2 = 0
    value = cost * (len(word) + 1)
    for letter in word.encode():
        letter -= 96
        value -= table[(before2 * SYMBOLS + before) * SYMBOLS + letter]
        before2, before = before, letter
    return (value - table[(before2 * SYMBOLS + before) * SYMBOLS]) / SCALE


def _words(text: str) -> list[str]:
    """The folded words of a piece that are long enough to be judged; acronyms are none."""
    found: list[str] = []
    for run in _RUN.findall(text):
        if len(run) < SHORTEST or (len(run) <= _ACRONYM and run.isupper()):
            continue
        parts = [run]
        if not (run.islower() or run.isupper() or run.istitle()) and run.isascii():
            parts = _PART.findall(run)
            if len(run) < 3.5 * len(parts):  # no names joined by capitals, but letters of both cases at random
                parts = [run]
        found += [word for part in parts if len(part) >= SHORTEST and len(word := _folded(part)) >= SHORTEST]
    return found


def _is_shifted(words: list[str]) -> bool:
    """Whether a code that `views` undoes letter for letter, or mirror writing, makes language of the words."""
    joined = " ".join(words)
    readings = [joined.translate(table) for table in _shifts()] + [joined[::-1]]
    return any(sum(map(_worth, reading.split())) >= _LIKE * len(words) for reading in readings)


def _in_bytes(body: str) -> list[bytes]:
    """What a piece stands for if it is written in hex, base32 or base64."""
    found: list[bytes] = []
    try:
        if run := _HEX.search(body):
            found.append(bytes.fromhex(run[0][: len(run[0]) // 2 * 2]))
        if run := _BASE32.fullmatch(body):
            text = run[1].rstrip("=")
            found.append(base64.b32decode(text[: len(text) // 8 * 8]))
        if run := _BASE64.fullmatch(body):
            text = run[1].rstrip("=").translate({45: "+", 95: "/"})
            found.append(base64.b64decode(text[: len(text) // 4 * 4]))
    except (ValueError, binascii.Error):
        return found
    return found


def _is_text(data: bytes) -> bool:
    """Whether bytes are readable text; a character may be cut at either end."""
    for skipped in range(4):
        text = data[skipped:].decode("utf-8", "replace").removesuffix("\ufffd")
        if text and "\ufffd" not in text and all(c.isprintable() or c in "\n\t\r" for c in text):
            return not any(is_unreadable(part) for part in text.split())
    return False


def _is_random(body: str) -> bool:
    """Whether letters and digits are mixed as no name or number mixes them."""
    return bool(_HEX.search(body) and not body.isdigit() and re.search("[A-Fa-f]", body)) or any(
        len(_CHANGE.findall(run)) >= _DIGITS_AMONG for run in _MIX.findall(body)
    )


def _is_sign(point: str) -> bool:
    """Whether a character is a picture or a letter of a dead alphabet, and stands for no letter that it looks like."""
    if LOOK_ALIKES.decode(point) != point:
        return False
    if "\u1680" <= point <= "\u16ff":  # Ogham, runes
        return True
    kind = unicodedata.category(point)
    return kind in ("So", "Co", "Cn") or (kind == "Lo" and "\U00010000" <= point < "\U0001b000")


def is_unreadable(piece: str) -> bool:
    """Whether a piece (white space, then at most 32 characters) is neither language, number, code nor decodable."""
    body = piece.strip()
    if len(body) < SHORTEST:
        return False
    words = _words(body)
    value = sum(map(_worth, words))
    if value >= _UNLIKE and len(body) < _SHORTEST_MIX and body.isascii():
        return False
    if not body.isascii() and sum(map(_is_sign, body)) >= _SIGNS_ALONE:
        return len({point for point in body if _is_sign(point)}) >= _KINDS
    unlike = value < (_UNLIKE_LESS if _CODE.search(body) or _SOUNDED.search(body) else _UNLIKE)
    if not (unlike or _is_random(body)) or _LINK.match(body):
        return False
    return not (unlike and _is_shifted(words)) and not any(map(_is_text, _in_bytes(body)))


def share(text: str) -> float:
    """The share of a text's characters, white space aside, that stand in unreadable pieces."""
    pieces = _PIECE.findall(text)
    marked = sum(len(piece) for piece in pieces if is_unreadable(piece))
    return marked / max(1, sum(map(len, pieces)))


def unreadable(text: str) -> float:
    """The same share for the best decoded reading of a text: 0 for what can be read, up to 1.

    Of a text beyond 65,536 characters the decoded readings hold its two ends.
    """
    found = share(text)
    return min([found, *(share(view.text) for view in views(text))]) if found > 0 else 0.0
