"""Public safety data as splits by source, for the benchmarks that take its folder. Nothing of it is copied.

The folder has one JSONL file per source with `messages`, `label`, `prompt_label`, `kind` and `lang`. Whole sources are
held out: marbury-base was adapted without them too. Whatever in training reads nearly like a test row is removed.
"""

import gzip
import json
import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from datasketch import MinHash, MinHashLSH

from marbury.records import Example, Message

HELD_OUT = ("fuzzyai", "oasst", "self_instruct", "mtbench101")  # the same as in scripts/marbury_base.py
NEAR = 0.7  # Jaccard similarity of word sets from which two texts are near-duplicates
PERMUTATIONS = 64
_SPEAKER = re.compile(r"^\s*\[[A-Za-z ]{2,20}\]:?\s*|^\s*(?:AIM|DAN|ChatGPT|GPT|AI|Assistant|JailBreak|TB)\s*:\s*")


class Text(NamedTuple):
    """A request, and the reply to it if the row is an exchange; `harmful` speaks of the last of them."""

    id: str
    source: str
    request: str
    reply: str | None
    harmful: bool

    @property
    def whole(self) -> str:
        """Request and reply as one text."""
        return self.request if self.reply is None else f"{self.request}\n\n{self.reply}"

    def example(self, request_harmful: bool | None = None) -> Example:
        """The row as a training example without a category; the reply is labelled if there is one."""
        asked = self.harmful if request_harmful is None else request_harmful
        messages = [Message("user", self.request)]
        if self.reply is not None:
            messages.append(Message("assistant", self.reply))
        return Example(
            id=self.id,
            category="",
            messages=tuple(messages),
            request_harmful=asked,
            reply_harmful=None if self.reply is None else self.harmful,
            pair=self.id,
            source=self.source,
        )


def rows(folder: Path, source: str) -> Iterator[dict[str, Any]]:
    """The rows of one source. Leaves with a message when the file is not there."""
    path = next(iter(sorted(folder.glob(f"{source}.jsonl*"))), None)
    if path is None:
        sys.exit(f"{folder}: no {source}.jsonl or {source}.jsonl.gz; give the folder of the public safety data")
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _single(row: dict[str, Any]) -> tuple[str, str | None] | None:
    """Request and reply of a row with one user turn; None for longer conversations."""
    talk = [m for m in row["messages"] if m["role"] != "system"]
    if not talk or talk[0]["role"] != "user" or len(talk) > 2:
        return None
    return talk[0]["content"], talk[1]["content"] if len(talk) == 2 else None


def requests(folder: Path, source: str, harmful: bool) -> list[Text]:
    """The English requests of a source with this label, each once; of exchanges the request alone."""
    label = "harmful" if harmful else "benign"
    found: dict[str, Text] = {}
    for row in rows(folder, source):
        told = row["label"] if row["kind"] == "prompt" else row["prompt_label"] if row["kind"] == "exchange" else None
        single = _single(row)
        if told == label and single and row["lang"] == "en":
            found.setdefault(single[0], Text(row["id"], source, single[0], None, harmful))
    return list(found.values())


def exchanges(folder: Path, source: str, harmful: bool) -> list[Text]:
    """The exchanges of a source whose reply has this label. A speaker's tag before the reply is taken off."""
    label, found = ("harmful" if harmful else "benign"), []
    for row in rows(folder, source):
        single = _single(row)
        if row["kind"] == "exchange" and row["label"] == label and single and single[1]:
            found.append(Text(row["id"], source, single[0], _SPEAKER.sub("", single[1]), harmful))
    return found


def sample(texts: Sequence[Text], count: int, seed: str) -> list[Text]:
    """At most this many, the same for the same seed."""
    chosen = sorted(texts)
    random.Random(seed).shuffle(chosen)
    return chosen[:count]


def without_near(train: Iterable[Text], test: Iterable[Text]) -> tuple[list[Text], int]:
    """The training texts that no test text resembles (MinHash of the words), and how many were removed."""
    index = MinHashLSH(threshold=NEAR, num_perm=PERMUTATIONS)
    for number, text in enumerate(test):
        index.insert(number, _hash(text))
    before = list(train)
    kept = [text for text in before if not index.query(_hash(text))]
    return kept, len(before) - len(kept)


def _hash(text: Text) -> MinHash:
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch([word.encode() for word in sorted(set(re.findall(r"\w+", text.whole.casefold())))])
    return sketch


def write_errors(path: Path, scored: Iterable[tuple[float, Text]], count: int = 50) -> None:
    """The harmful texts with the lowest scores and the harmless ones with the highest, for a person to read."""
    ranked = sorted(scored, key=lambda pair: pair[0])
    misses = [pair for pair in ranked if pair[1].harmful][:count]
    alarms = [pair for pair in reversed(ranked) if not pair[1].harmful][:count]
    with path.open("w", encoding="utf-8") as out:
        for kind, pairs in (("miss", misses), ("false alarm", alarms)):
            for score, text in pairs:
                row = {"kind": kind, "score": score, "id": text.id, "request": text.request, "reply": text.reply}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
