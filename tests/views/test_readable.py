"""What nobody can read: ordinary texts have next to none of it, codes that no view knows are made of it."""

import base64
import re
import string
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.calibrate import BUNDLED, read_traffic
from marbury.ciphers import CIPHERS
from marbury.classifier.encoding import cut
from marbury.synth.corpus import load
from marbury.views.readable import is_unreadable, share, unreadable

TRAFFIC = [message.content for row in read_traffic(sorted(BUNDLED.glob("*.jsonl")))[:400] for message in row.messages]
TALE = (
    "The keeper of the northern lighthouse wrote every evening how many ships had passed, which flags they carried "
    "and whether their lanterns burned steadily, because the harbour master wanted to know."
)


def alphabet(text: str) -> str:
    mixed = list(string.ascii_lowercase)
    Random(3).shuffle(mixed)
    return text.lower().translate(str.maketrans(string.ascii_lowercase, "".join(mixed)))


def vigenere(text: str, key: str = "lantern") -> str:
    letters = [letter for letter in text.lower() if letter in string.ascii_lowercase]
    shifted = iter(chr((ord(letter) + ord(key[i % len(key)]) - 2 * 97) % 26 + 97) for i, letter in enumerate(letters))
    return re.sub("[a-z]", lambda _: next(shifted), text.lower())


UNKNOWN: dict[str, Callable[[str], str]] = {
    "alphabet": alphabet,
    "vigenere": vigenere,
    "base64 from its second letter on": lambda text: base64.b64encode(text.encode()).decode()[1:],
    "hex of a code": lambda text: bytes(255 - byte for byte in text.encode()).hex(),
}


def test_ordinary_texts_have_next_to_none() -> None:
    pieces = [piece for text in TRAFFIC for piece in cut(text)]
    assert sum(map(is_unreadable, pieces)) < 0.001 * len(pieces)
    assert sum(share(text) > 0.05 for text in TRAFFIC) <= 0.005 * len(TRAFFIC)


@pytest.mark.parametrize("language", sorted({row.language for row in load()} - {"la", "eo", "sv"}))
def test_no_language_of_the_corpus_is_unreadable(language: str) -> None:
    texts = [message.content for row in load() if row.language == language for message in row.messages][:60]
    assert sum(map(share, texts)) < 0.01 * len(texts)


@pytest.mark.parametrize("name", UNKNOWN)
def test_codes_that_no_view_knows_are_unreadable(name: str) -> None:
    assert share(UNKNOWN[name](TALE)) > 0.4
    assert unreadable(UNKNOWN[name](TALE)) > 0.4


@pytest.mark.parametrize("name", sorted(CIPHERS.keys() - {"base85", "leetspeak"}))
def test_the_pieces_of_a_known_code_can_be_read(name: str) -> None:
    assert share(CIPHERS[name].encode(TALE)) < 0.12


@pytest.mark.parametrize("name", CIPHERS)
def test_what_a_view_decodes_is_readable(name: str) -> None:
    assert unreadable(CIPHERS[name].encode(TALE)) < 0.12


@pytest.mark.parametrize(
    "piece",
    [
        "",
        " ",
        " lighthouse,",
        "XMLHttpRequest",
        "self._cache[piece]",
        "0x7ffd9c1f,",
        "2024-11-25T06:14:04",
        "https://example.org/d/1BxiMVs0XRA5",
        "std::vector<std::pair<int,",
        "getElementById(",
        "HTTPS/TLS",
        "aaaaaargh",
        "3.14159265358979",
        "Strč",
        "соответствующего",
        "χρησιμοποιούνται",
        "灯",
        "สวัสดีชาวโลก",
        "🎉🎉🎉🎉🎉🎉🎉🎉🎉🎉",
        "Uryyb",
        "T3J2YW5lIHNsZWVwcyB1bmRlciBtaXN0",
        "4f7276616e6520736c65657073",
    ],
)
def test_readable(piece: str) -> None:
    assert not is_unreadable(piece)


@pytest.mark.parametrize(
    "piece",
    [
        " xqzkvbtw",
        "(Wkqxzpt),",
        "d670460b4b4aece5915caf5c68d12f56",
        "9fG3kLq8Zx1Pv7Rt",
        "AFRmMZIeGVmcm9zdGVkIGdsYXNz",
        "🍎🐍🌙🎈🔑🐙🍄🚂🎻",
        "ᚠᚢᚦᚨᚱᚲᚷᚹᚻᚾ",
        "щхъфжцбщкпчъ",
    ],
)
def test_unreadable(piece: str) -> None:
    assert is_unreadable(piece)


def test_streamed_pieces_and_whole_texts_agree() -> None:
    text = f"{TALE}\n\n{alphabet(TALE)} 漢字かな {vigenere(TALE)}"
    pieces = cut(text)
    marked = sum(len(piece.strip()) for piece in pieces if is_unreadable(piece))
    assert share(text) == marked / sum(len(piece.strip()) for piece in pieces)


@given(st.text(max_size=120))
def test_any_text_has_a_share(text: str) -> None:
    assert 0.0 <= share(text) <= 1.0
    marked = sum(len(piece.strip()) for piece in cut(text) if is_unreadable(piece))
    assert share(text) == marked / max(1, sum(len(piece.strip()) for piece in cut(text)))


def test_one_strange_word_is_a_small_share() -> None:
    assert 0.0 < share(f"{TALE} xqzkvbtw") < 0.06
    assert unreadable("") == 0.0
