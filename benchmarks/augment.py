"""How fast `augment` is, and whether its memory grows with the rows.

    python benchmarks/augment.py RUN [--rows 4000 20000 60000] [--processes 1 2]

The examples of RUN are repeated, under new names, until there are so many rows. Each measure is a process of its own,
so that its peak memory is its own; workers of `processes` count in time, not in memory.
"""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from marbury.augment import stage
from marbury.augment.stage import AugmentSettings
from marbury.workspace import Workspace


def repeated(run: Workspace, rows: int, folder: Path) -> Workspace:
    """A run folder with so many examples."""
    examples = [json.loads(line) for line in run.examples.read_text(encoding="utf-8").splitlines()]
    ws = Workspace(folder)
    ws.examples.parent.mkdir(parents=True)
    shutil.copy(run.constitution, ws.constitution)
    with ws.examples.open("w", encoding="utf-8") as out:
        for number in range(rows):
            row, again = dict(examples[number % len(examples)]), number // len(examples)
            row |= {"id": f"{row['id']}x{again}", "pair": f"{row['pair']}x{again}"}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    return ws


def measure(run: Path, rows: int, processes: int) -> None:
    """One measure: prints variants, seconds and peak memory in MB as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        ws = repeated(Workspace(run), rows, Path(folder) / "run")
        began = time.perf_counter()
        counts = stage.run(ws, AugmentSettings(processes=processes))
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([counts["variants"], seconds, peak]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder with examples")
    parser.add_argument("--rows", type=int, nargs="+", default=[4000, 20000, 60000])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--one", type=int, nargs=2, metavar=("ROWS", "PROCESSES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        measure(options.run, *options.one)
        return
    table = Table("rows", "processes", "variants", "seconds", "variants/s", "peak memory, MB")
    for rows in options.rows:
        for processes in options.processes:
            command = [sys.executable, __file__, str(options.run), "--one", str(rows), str(processes)]
            told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1]
            variants, seconds, peak = json.loads(told)
            rate = f"{variants / seconds:,.0f}"
            table.add_row(f"{rows:,}", str(processes), f"{variants:,}", f"{seconds:.1f}", rate, f"{peak:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
