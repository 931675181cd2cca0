"""False stops on replies of other worlds: harmless talk that has nothing to do with the constitution.

    python benchmarks/worlds.py RUN DATA TEXT [--rows 1000] [--errors FILE]

RUN is a finished run folder, DATA the folder of public safety data, TEXT the one with assistant_answers.jsonl.gz. The
guard judges with views and at its calibrated thresholds. Answers are those to tasks that the adaptation of marbury-base
did not see; exchanges are harmless ones of sources that it did not see.
"""

import argparse
import gzip
import json
import math
import sys
import zlib
from collections import defaultdict
from pathlib import Path

from public import HELD_OUT, Text, exchanges, sample, write_errors
from rich.console import Console
from rich.table import Table

from marbury.metrics import rate
from marbury.pipeline import load_guard
from marbury.progress import track
from marbury.records import Message
from marbury.scoring import whole
from marbury.workspace import Workspace

ANSWER = 3000  # longest reply, in characters
ASKED = "Could you help me with this task?"  # the answers come without their tasks


def answers(folder: Path) -> list[Text]:
    """Answers to tasks that the adaptation did not see."""
    path = folder / "assistant_answers.jsonl.gz"
    if not path.exists():
        sys.exit(f"{path}: no such file; give the folder that holds assistant_answers.jsonl.gz")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    held = [row for row in rows if zlib.crc32(row["task"].encode()) % 2]
    return [Text(row["id"], "assistant_answers", ASKED, row["text"][:ANSWER], False) for row in held]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--rows", type=int, default=1000, help="conversations in all; half of them answers")
    parser.add_argument("--errors", type=Path, help="write the 50 highest scores here")
    options = parser.parse_args()
    texts = sample(answers(options.text), options.rows // 2, "worlds")
    others = [t for source in HELD_OUT for t in exchanges(options.data, source, False)]
    texts += [t._replace(reply=(t.reply or "")[:ANSWER]) for t in sample(others, options.rows // 2, "worlds")]
    scorer, calibration = load_guard(Workspace(options.run))
    limits = calibration.thresholds
    stops: dict[str, list[bool]] = defaultdict(list)
    blocks: dict[str, list[bool]] = defaultdict(list)
    scored = []
    for text in track(texts, "score"):
        asked, replied = whole(scorer, [Message("user", text.request)], text.reply)
        harm = replied.harm if replied else -math.inf
        stops[text.source].append(not harm < limits.output_single)
        blocks[text.source].append(not asked.harm < limits.input_single)
        scored.append((harm, text))
    table = Table(
        "replies", "rows", "stopped", "request blocked", title="harmless talk of other worlds [95 % interval]"
    )
    for source in [*stops, "all"]:
        hits = stops[source] if source in stops else [hit for those in stops.values() for hit in those]
        asks = blocks[source] if source in blocks else [hit for those in blocks.values() for hit in those]
        table.add_row(source, str(len(hits)), str(rate(sum(hits), len(hits))), str(rate(sum(asks), len(asks))))
    Console(width=120).print(table)
    if options.errors:
        write_errors(options.errors, scored)


if __name__ == "__main__":
    main()
