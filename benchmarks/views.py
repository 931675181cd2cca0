"""What the views recover, how often they look where nothing is hidden, what nobody can read, and what it all costs.

    python benchmarks/views.py [folder]

Recovered: nine in ten words of the text stand in one reading. Requests and replies of the bundled corpus in the
Latin alphabet, written in each code from end to end; in the last column every second word of five letters or more.
Streamed, they come in the classifier's pieces. Unreadable: the share of characters in marked pieces, and after the
best view. The letters were counted from the bundled texts; a folder with JSONL files of rows with `messages` or `text`
(also .jsonl.gz) adds the marks on texts that were not.
"""

import gzip
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import mean

from rich.console import Console
from rich.table import Table

from marbury.augment import keyed
from marbury.calibrate import BUNDLED, read_traffic
from marbury.ciphers import CIPHERS, Cipher
from marbury.classifier.encoding import cut
from marbury.synth.corpus import load
from marbury.views import ViewStream, views
from marbury.views.readable import is_unreadable, share, unreadable

EVERY = 25  # of the rows, in the table of codes
ENOUGH = 0.9
MARKED = 0.05  # the share of a text in marked pieces from which it counts as strange
MOST_TEXTS = 2000  # of each file of a folder


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


def texts_in(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The texts of the JSONL files in a folder, by file and language; none in a run folder."""
    for path in sorted([*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]):
        found: dict[str, list[str]] = {}
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for row in map(json.loads, lines):
                messages = row.get("messages") or [{"content": row.get("text", "")}]
                texts = found.setdefault(f"{path.name.partition('.')[0]} {row.get('lang', '')}", [])
                texts += [message["content"] for message in messages][: max(0, MOST_TEXTS - len(texts))]
        yield from sorted(found.items())


def marks(texts: Sequence[str]) -> tuple[str, ...]:
    """Texts, pieces, marked pieces and strange texts, and microseconds a piece that was not seen before."""
    pieces = [piece for text in texts for piece in cut(text)]
    started = time.process_time()
    marked = sum(map(is_unreadable, pieces))
    cost = 1e6 * (time.process_time() - started) / max(1, len(pieces))
    strange = sum(share(text) > MARKED for text in texts)
    found = f"{100 * marked / max(1, len(pieces)):.3f}", f"{100 * strange / max(1, len(texts)):.2f}"
    return f"{len(texts)}", f"{len(pieces)}", *found, f"{cost:.1f}"


def coded(texts: Sequence[str]) -> Iterator[tuple[str, str, list[str]]]:
    """The texts in each code: those that views know, and those with a key that they do not know."""
    for name, cipher in CIPHERS.items():
        yield name, "yes" if cipher.decode else "no", [cipher.encode(text) for text in texts]
    for name, make in (keyed.KNOWN | keyed.HELD_OUT).items():
        codes = [(make(text, Random(number)), text) for number, text in enumerate(texts)]
        yield name, "no", [code.encode(text) for code, text in codes if code is not None]


def unreadable_tables(texts: Sequence[str], folder: Path | None) -> Iterator[Table]:
    table = Table("ordinary texts", "texts", "pieces", title="unreadable")
    for column in ("marked pieces, %", f"texts > {MARKED:.0%}, %", "µs a piece"):
        table.add_column(column, justify="right")
    for name, found in [*harmless(), *(texts_in(folder) if folder else ())]:
        table.add_row(name, *marks(found))
    yield table
    table = Table("code", "views know it", title=f"unreadable ({len(texts)} requests)")
    for column in ("share, %", "after views, %", f"texts > {MARKED:.0%}, %"):
        table.add_column(column, justify="right")
    for name, known, written in coded(texts):
        left = [unreadable(text) for text in written]
        strange = mean(value > MARKED for value in left)
        table.add_row(
            name, known, f"{100 * mean(map(share, written)):.0f}", f"{100 * mean(left):.0f}", f"{100 * strange:.0f}"
        )
    yield table


def main() -> None:
    # `make bench` gives every script a run folder, in which there are no texts of this kind.
    if len(sys.argv) > 2:
        sys.exit("usage: python benchmarks/views.py [folder with JSONL files of texts]")
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else None
    if folder is not None and not folder.is_dir():
        sys.exit(f"{folder} is no folder: give one with JSONL files whose rows have `messages` or `text`")
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
    for table in unreadable_tables(requests, folder):
        console.print(table)


if __name__ == "__main__":
    main()
