"""Counts the tables of `marbury.views.likeness` from the bundled texts, and writes them beside the other data.

    python scripts/likeness.py

Run it when the bundled texts change much; the same texts give the same bytes.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from marbury.views.likeness import DATA, ORDER, SCALE, SYMBOLS, TRIGRAMS, WORDS, bare, shape

ENGLISH = 0.5  # the weight of English in the letters; the other languages share the rest by what there is of them
FREQUENT = 160  # words whose order is counted


def texts() -> list[tuple[str, str]]:
    """Language and text of every message that is bundled."""
    found = []
    for path in sorted(DATA.parent.glob("*/**/*.jsonl")):
        for line in path.read_bytes().splitlines():
            row: dict[str, Any] = msgspec.json.decode(line)
            messages = row.get("messages") or row.get("turns") or []
            found += [(row.get("language", "en"), message["content"]) for message in messages]
    return found


def letters(text: str) -> NDArray[np.int64]:
    """Letters as 1 to 26 with single boundaries between words; other scripts are left out."""
    folded = unicodedata.normalize("NFKD", text).lower()
    folded = re.sub(r"[\u0300-\u036f]", "", folded)
    words = re.findall(r"[a-z]+", folded)
    padded = "`" + "`".join(words) + "`"  # the character before "a"
    return np.frombuffer(padded.encode(), np.uint8).astype(np.int64) - 96


def count(rows: Iterable[str]) -> NDArray[np.float64]:
    """How often each letter follows each two; a word begins after two boundaries."""
    counts = np.zeros(SYMBOLS**3)
    for text in rows:
        now = letters(text)
        before, before2 = now[1:-1], now[:-2] * (now[1:-1] != 0)
        np.add.at(counts, before2 * SYMBOLS**2 + before * SYMBOLS + now[2:], 1.0)
        np.add.at(counts, now[1:2], 1.0)
    return counts.reshape(SYMBOLS, SYMBOLS, SYMBOLS)


def smooth(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of the third letter, with fewer letters before it where counts are few (Witten and Bell)."""
    lower = np.full(SYMBOLS, 1 / SYMBOLS)
    for axes in ((0, 1), (0,), ()):
        seen = counts.sum(axis=axes) if axes else counts
        kinds = (seen > 0).sum(-1, keepdims=True)
        lower = (seen + np.maximum(kinds, 1) * lower) / (seen.sum(-1, keepdims=True) + np.maximum(kinds, 1))
    return lower


def trigrams(rows: list[tuple[str, str]]) -> bytes:
    """The table of letters: a byte for each three, minus log-probability in sixteenths of a nat."""
    english = count(text for language, text in rows if language == "en")
    others = count(text for language, text in rows if language != "en")
    share = others.sum() / english.sum() * ENGLISH / (1 - ENGLISH)
    nats = -np.log(smooth(english * share + others))
    table: NDArray[np.uint8] = np.clip(np.rint(nats * SCALE), 0, 255).astype(np.uint8)
    return table.tobytes()


def word_order(rows: list[tuple[str, str]]) -> tuple[str, bytes]:
    """The frequent words, and the table of their order: a signed byte for each two, log-ratio to the other way."""
    sentences = [[word for word in text.split(" ") if word] for _, text in rows]
    seen = Counter(bare(word) for words in sentences for word in words)
    del seen[""]
    frequent = sorted(word for word, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT])
    numbers = {word: number for number, word in enumerate(frequent, 1)}
    pairs, shapes = np.zeros((FREQUENT + 1,) * 2), np.zeros((4, 4))
    for words in sentences:
        known = [numbers.get(bare(word), 0) for word in words]
        forms = [shape(word) for word in words]
        np.add.at(pairs, (known[:-1], known[1:]), 1.0)
        np.add.at(shapes, (forms[:-1], forms[1:]), 1.0)
    tables = [np.log((table + 3.0) / (table.T + 3.0)).clip(-4, 4) for table in (pairs, shapes)]
    packed = np.concatenate([np.rint(table * SCALE).clip(-127, 127).astype(np.int8).ravel() for table in tables])
    return "\n".join(frequent) + "\n", packed.tobytes()


def main() -> None:
    rows = texts()
    DATA.mkdir(exist_ok=True)
    words, order = word_order(rows)
    TRIGRAMS.write_bytes(trigrams(rows))
    WORDS.write_text(words, encoding="utf-8")
    ORDER.write_bytes(order)


if __name__ == "__main__":
    main()
