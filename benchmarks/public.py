"""Public safety data as splits by source, for the benchmarks that take its folder. Nothing of it is copied.

The folder has one JSONL file per source with `messages`, `label`, `prompt_label`, `kind` and `lang`. Whole sources are
held out: marbury-base was adapted without them too. Whatever in training reads nearly like a test row, holds one or is
held by one, is removed. A paraphrase of a test row is not found.
"""

import gzip
import json
import random
import re
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from datasketch import MinHash, MinHashLSH

from marbury.records import Example, Message

HELD_OUT = ("fuzzyai", "oasst", "self_instruct", "mtbench101")  # the same as in scripts/marbury_base.py
NEAR = 0.7  # Jaccard similarity of word sets from which two texts are near-duplicates
HELD = 5  # words from which a text that stands inside another one counts as the same
PERMUTATIONS = 64
_WORD = re.compile(r"\w+")
# Who speaks, as jailbreak templates make models write it: "[JailBreak]:", "(\U0001f513Developer Mode Output)", "AIM:".
_NAMES = (
    r"(?:As )?\w{0,9}GPT(?: #)?|AI|AIM|Aligned|Assistant|BetterDAN|BISH|Classic|CMD|DAN|Developer(?: Mode)?|"
    r"Developer Mode Output|DUDE|Error|Filtering|Final Output|HGTTG|Jail ?Break|JB|KEVIN|(?:Moral )?Disclaimer|"
    r"NECO|Normal(?: Output)?|Reply|SDA|SIM|Simulation override|TB|The Cop|TUO|Warning"
)
_SPEAKER = re.compile(
    rf"[\[(]\W{{0,3}}(?:{_NAMES})\W{{0,3}}[\])]:?\s*|(?:^|(?<=\n))\W{{0,3}}(?:{_NAMES})\s?\W{{0,2}}:\s*", re.I
)


Named = TypeVar("Named", bound=tuple[Any, ...])  # something whose first field is its name


class Text(NamedTuple):
    """A request, and the reply to it if the row is an exchange; `harmful` speaks of the last of them.

    `kind` is what the source says of it: a category, or the file that it comes from.
    """

    id: str
    source: str
    request: str
    reply: str | None
    harmful: bool
    kind: str = ""

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


def _talk(row: dict[str, Any]) -> list[Message]:
    """The turns of a row without system messages; none if they do not begin with the user."""
    talk = [Message(m["role"], m["content"]) for m in row["messages"] if m["role"] != "system"]
    return talk if talk and talk[0].role == "user" else []


def _kind(row: dict[str, Any]) -> str:
    return str(row["category"] or row["source"].rpartition("/")[2]).partition(":")[0]


def requests(folder: Path, source: str, harmful: bool, label: str = "") -> list[Text]:
    """The English requests of a source with this label, each once; of exchanges with one turn the request alone."""
    label = label or ("harmful" if harmful else "benign")
    found: dict[str, Text] = {}
    for row in rows(folder, source):
        told = row["label"] if row["kind"] == "prompt" else row["prompt_label"] if row["kind"] == "exchange" else None
        talk = _talk(row)
        if told == label and 0 < len(talk) <= 2 and row["lang"] == "en":
            text = talk[0].content
            found.setdefault(text, Text(row["id"], source, text, None, harmful, _kind(row)))
    return list(found.values())


def firsts(folder: Path, source: str) -> list[Text]:
    """The first requests of a source's harmless English conversations with many turns; none that `requests` gives."""
    known = {text.request for text in requests(folder, source, False)}
    found: dict[str, Text] = {}
    for row in rows(folder, source):
        talk = _talk(row)
        if row["label"] == "benign" and len(talk) > 2 and row["lang"] == "en" and talk[0].content not in known:
            found.setdefault(talk[0].content, Text(row["id"], source, talk[0].content, None, False, _kind(row)))
    return list(found.values())


def exchanges(folder: Path, source: str, harmful: bool) -> list[Text]:
    """The exchanges of a source whose reply has this label; of longer harmless conversations the first exchange.

    The names of speakers in a reply are taken off.
    """
    label, found = ("harmful" if harmful else "benign"), []
    for row in rows(folder, source):
        talk = _talk(row)
        longest = 2 if harmful else len(talk)
        if row["kind"] != "exchange" or row["label"] != label or not 2 <= len(talk) <= longest:
            continue
        reply = untagged(talk[1].content)
        if talk[1].role == "assistant" and reply:
            found.append(Text(row["id"], source, talk[0].content, reply, harmful, _kind(row)))
    return found


def conversations(folder: Path, source: str) -> list[tuple[str, tuple[Message, ...]]]:
    """Names and turns of the harmless conversations of a source that end with a reply."""
    found = [(row["id"], _talk(row)) for row in rows(folder, source) if row["label"] == "benign"]
    return [(name, tuple(talk)) for name, talk in found if talk and talk[-1].role == "assistant"]


def untagged(reply: str) -> str:
    """A reply without the names of speakers that jailbreak templates ask for: they would give the answer away."""
    return _SPEAKER.sub("", reply).strip()


def sample(named: Sequence[Named], count: int, seed: str) -> list[Named]:
    """At most this many, the same for the same seed."""
    chosen = sorted(named, key=lambda one: one[0])
    random.Random(seed).shuffle(chosen)
    return chosen[:count]


def without_near(train: Iterable[Text], test: Iterable[Text]) -> tuple[list[Text], int]:
    """The training texts that no test text resembles, holds or stands in, and how many were removed."""
    before, others = list(train), list(test)
    ours, theirs = [_plain(text) for text in before], [_plain(text) for text in others]
    inside = {number for number, _ in _found(ours, theirs)} | {place for _, place in _found(theirs, ours)}
    words = [frozenset(plain.split()) for plain in theirs]
    index = MinHashLSH(threshold=NEAR - 0.15, num_perm=PERMUTATIONS)  # an estimate: what it finds is looked at
    for number, those in enumerate(words):
        index.insert(number, _sketch(those))
    for number, plain in enumerate(ours):
        mine = frozenset(plain.split())
        if any(len(mine & words[n]) >= NEAR * len(mine | words[n]) for n in index.query(_sketch(mine))):
            inside.add(number)
    kept = [text for number, text in enumerate(before) if number not in inside]
    return kept, len(before) - len(kept)


def _plain(text: Text) -> str:
    """The words alone, with a space on either side of each."""
    return f" {' '.join(_WORD.findall(text.whole.casefold()))} "


def _found(needles: Sequence[str], texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Each needle of `HELD` words or more and each text that it stands in, by number."""
    hay, starts = "\n".join(texts), [0]
    for text in texts:
        starts.append(starts[-1] + len(text) + 1)
    for number, needle in enumerate(needles):
        at = hay.find(needle) if needle.count(" ") > HELD else -1
        while at >= 0:
            place = bisect_right(starts, at) - 1
            yield number, place
            at = hay.find(needle, starts[place + 1])


def _sketch(words: frozenset[str]) -> MinHash:
    sketch = MinHash(num_perm=PERMUTATIONS, seed=1)
    sketch.update_batch([word.encode() for word in sorted(words)])
    return sketch


def write_errors(path: Path, scored: Iterable[tuple[float, Text]], count: int = 50) -> None:
    """The harmful texts with the lowest scores and the harmless ones with the highest, for a person to read."""
    ranked = sorted(scored, key=lambda pair: pair[0])
    misses = [pair for pair in ranked if pair[1].harmful][:count]
    alarms = [pair for pair in reversed(ranked) if not pair[1].harmful][:count]
    with path.open("w", encoding="utf-8") as out:
        for kind, pairs in (("miss", misses), ("false alarm", alarms)):
            for score, text in pairs:
                row = {**text._asdict(), "error": kind, "score": round(score, 3)}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
