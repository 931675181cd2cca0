"""False stops on replies of other worlds: harmless talk that has nothing to do with the constitution.

    python benchmarks/worlds.py RUN DATA TEXT [--rows 3200] [--errors FILE]

RUN is a finished run folder, DATA the folder of public safety data, TEXT the one with assistant_answers.jsonl.gz. The
guard judges with views and at its calibrated thresholds, those for single and for multi-turn talk. Answers are those to
tasks that the adaptation of marbury-base did not see; conversations are harmless ones of sources that it did not see.
To say that at most 0.1 % are stopped takes 3,000 replies of which none is: `at most` is the exact (Clopper-Pearson)
upper bound with 95 % confidence.
"""

import argparse
import gzip
import json
import math
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from public import HELD_OUT, Text, conversations, sample, write_errors
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from marbury.errors import MarburyError
from marbury.metrics import upper_bound
from marbury.pipeline import load_guard, open_run
from marbury.progress import Bar
from marbury.records import Message, turns_of
from marbury.scoring import Score, Scorer, Thresholds, push_all

ANSWER = 3000  # longest reply, in characters
ASKED = "Could you help me with this task?"  # the answers come without their tasks
TOGETHER = 32  # replies that are read side by side


class Judged(NamedTuple):
    """One conversation and what the guard says of it."""

    text: Text
    harm: float
    stopped: bool
    blocked: bool


class Talk(NamedTuple):
    """A conversation: where it comes from, the request with all before it, and the reply."""

    id: str
    source: str
    request: tuple[Message, ...]
    reply: str


def answers(folder: Path) -> list[Talk]:
    """Answers to tasks that the adaptation did not see."""
    path = folder / "assistant_answers.jsonl.gz"
    if not path.exists():
        sys.exit(f"{path}: no such file; give the folder that holds assistant_answers.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    held = [row for row in rows if zlib.crc32(row["task"].encode()) % 2]
    asked = (Message("user", ASKED),)
    return [Talk(row["id"], "assistant_answers", asked, row["text"][:ANSWER]) for row in held]


def talks(folder: Path) -> list[Talk]:
    """The harmless conversations of the held-out sources."""
    found = [(source, name, talk) for source in HELD_OUT for name, talk in conversations(folder, source)]
    return [Talk(name, source, talk[:-1], talk[-1].content[:ANSWER]) for source, name, talk in found]


def judge(scorer: Scorer, limits: Thresholds, those: Sequence[Talk]) -> Iterator[Judged]:
    """The verdicts on some conversations, whose replies are read side by side. Raises what fails."""
    readings = [scorer.read(talk.request) for talk in those]
    replies = [reading.reply() for reading in readings]
    try:
        pushed = push_all(scorer, [(reply, talk.reply) for reply, talk in zip(replies, those, strict=True)])
        ended = push_all(scorer, [(reply, None) for reply in replies])
        for talk, reading, *parts in zip(those, readings, pushed, ended, strict=True):
            harms = [score.harm for part in parts for score in _given(part)]
            harm = max(harms, key=lambda one: (math.isnan(one), one), default=-math.inf)
            turns, asked = turns_of(talk.request), "\n\n".join(message.content for message in talk.request)
            yield Judged(
                Text(talk.id, talk.source, asked, talk.reply, False, turns),
                harm,
                stopped=not harm < limits.limit("output", turns),
                blocked=not reading.score.harm < limits.limit("input", turns),
            )
    finally:
        for reply in replies:
            reply.close()
        for reading in readings:
            reading.close()


def _given(part: list[Score] | Exception) -> list[Score]:
    if isinstance(part, Exception):
        raise part
    return part


def share(hits: Sequence[bool]) -> str:
    """Hits of how many, the share in %, its exact 95 % interval, and the one-sided upper bound."""
    interval = binomtest(sum(hits), len(hits)).proportion_ci(0.95, method="exact")
    bound = upper_bound(sum(hits), len(hits), 0.95)
    return (
        f"{sum(hits)}: {100 * sum(hits) / len(hits):.2f} % [{100 * interval.low:.2f}, {100 * interval.high:.2f}], "
        f"at most {100 * bound:.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--rows", type=int, default=3200, help="replies in all; half of them answers, if there are")
    parser.add_argument("--errors", type=Path, help="write the 50 highest scores here")
    options = parser.parse_args()
    chosen = sample(answers(options.text), options.rows // 2, "worlds")
    chosen += sample(talks(options.data), options.rows - len(chosen), "worlds")
    chosen.sort(key=lambda talk: (len(talk.reply), talk.id))
    try:
        scorer, calibration = load_guard(open_run(options.run))
    except MarburyError as error:
        sys.exit(str(error))
    judged: list[Judged] = []
    with Bar("judge", len(chosen)) as bar:
        for start in range(0, len(chosen), TOGETHER):
            part = chosen[start : start + TOGETHER]
            judged += judge(scorer, calibration.thresholds, part)
            bar.advance(len(part))
    show(judged)
    if options.errors:
        write_errors(options.errors, [(one.harm, one.text) for one in judged])


def show(judged: Sequence[Judged]) -> None:
    """A row for each source and kind of talk, and one for all."""
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in sorted(judged, key=lambda one: (one.text.source, one.text.kind)):
        groups[f"{one.text.source}, {one.text.kind}-turn"].append(one)
    groups["all"] = list(judged)
    table = Table("replies", "rows", "replies stopped [95 %], at most", "requests blocked [95 %], at most")
    for name, those in groups.items():
        stopped, blocked = share([one.stopped for one in those]), share([one.blocked for one in those])
        table.add_row(name, str(len(those)), stopped, blocked)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
