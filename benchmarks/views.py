"""What the views recover, how often they look where nothing is hidden, and what they cost.

    python benchmarks/views.py

Recovered: nine in ten words of the text stand in one reading. Requests and replies of the bundled corpus in the
Latin alphabet, written in each code from end to end; in the last column every second word of five letters or more.
Streamed, they come in the classifier's pieces.
"""

import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from rich.console import Console
from rich.table import Table

from marbury.calibrate import BUNDLED, read_traffic
from marbury.ciphers import CIPHERS, Cipher
from marbury.classifier.encoding import cut
from marbury.synth.corpus import load
from marbury.views import ViewStream, views

EVERY = 25  # of the rows, in the table of codes
ENOUGH = 0.9


def is_latin(text: str) -> bool:
    letters = [letter for letter in text if letter.isalpha()]
    return sum(letter.isascii() for letter in letters) >= 0.8 * len(letters)


def streamed(text: str) -> list[str]:
    """The readings of a text that arrives piece by piece."""
    stream, found = ViewStream(), dict[int, str]()
    for piece in cut(text):
        for number, part in stream.push(piece):
            found[number] = found.get(number, "") + part
    for number, part in stream.finish():
        found[number] = found.get(number, "") + part
    return list(found.values())


def whole(text: str) -> list[str]:
    return [view.text for view in views(text)]


def is_recovered(wanted: str, found: Iterable[str]) -> bool:
    words = Counter(re.findall(r"[a-z]+", wanted.lower()))
    return any(
        (words & Counter(re.findall(r"[a-z]+", text.lower()))).total() >= ENOUGH * words.total() for text in found
    )


def in_part(text: str, cipher: Cipher) -> str:
    """A text with every second long word in code."""
    places = [found.span() for found in re.finditer(r"[^\W\d_]{5,}", text)][::2]
    for start, end in reversed(places):
        text = text[:start] + cipher.encode(text[start:end]) + text[end:]
    return text


def shares(texts: Sequence[str], cipher: Cipher, read: Callable[[str], list[str]]) -> float:
    """Of how many texts the words come back, in percent."""
    decode = cipher.decode or (lambda text: text)
    coded = [cipher.encode(text) for text in texts]
    return 100 * sum(is_recovered(decode(code), read(code)) for code in coded) / len(texts)


def share_of_parts(texts: Sequence[str], cipher: Cipher) -> float:
    """The same where words are in code among plain ones."""
    return 100 * sum(is_recovered(text, whole(in_part(text, cipher))) for text in texts) / len(texts)


def per_row(texts: Sequence[str], read: Callable[[str], list[str]]) -> tuple[float, float]:
    """Readings for each text, and microseconds for each character."""
    started = time.perf_counter()
    count = sum(len(read(text)) for text in texts)
    taken = time.perf_counter() - started
    return count / len(texts), 1e6 * taken / sum(map(len, texts))


def harmless() -> Iterator[tuple[str, list[str]]]:
    """Texts as they are bundled: none of them is in a code, but a few have one in them."""
    corpus, traffic = load(), read_traffic(sorted(BUNDLED.glob("*.jsonl")))
    yield "corpus, requests", [row.request[-1].content for row in corpus]
    yield "corpus, replies", [row.reply for row in corpus if row.reply]
    yield "traffic, all messages", [message.content for row in traffic for message in row.messages]


def main() -> None:
    # `make bench` gives every script a run folder; this one needs none.
    if len(sys.argv) > 2:
        sys.exit("usage: python benchmarks/views.py")
    plain = [row for row in load() if is_latin(row.messages[0].content)][::EVERY]
    requests = [row.request[-1].content for row in plain]
    replies = [row.reply for row in plain if row.reply]
    console = Console(width=120)
    table = Table("code", title=f"recovered, in % ({len(requests)} requests, {len(replies)} replies)")
    for column in ("requests, whole", "requests, streamed", "replies, whole", "replies, streamed", "in part, whole"):
        table.add_column(column, justify="right")
    for name, cipher in CIPHERS.items():
        found = [shares(texts, cipher, read) for texts in (requests, replies) for read in (whole, streamed)]
        table.add_row(name, *(f"{share:.0f}" for share in [*found, share_of_parts(requests, cipher)]))
    console.print(table)
    table = Table("texts as they are", "", "readings each, whole", "streamed", "µs a character, whole", "streamed")
    for name, texts in harmless():
        (count, cost), (count_s, cost_s) = per_row(texts, whole), per_row(texts, streamed)
        table.add_row(name, f"{len(texts)}", f"{count:.4f}", f"{count_s:.4f}", f"{cost:.2f}", f"{cost_s:.2f}")
    console.print(table)


if __name__ == "__main__":
    main()
