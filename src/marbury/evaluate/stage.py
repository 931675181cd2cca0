"""The door of `evaluate`: from the held-out split and a guard to a report and a page.

The caller brings the scorer and its limits; nothing here knows the classifier.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from marbury.chat import handbook
from marbury.constitution import read
from marbury.errors import DataError
from marbury.evaluate import attacks as what
from marbury.evaluate.attacks import KINDS, Attack, Harmless, Written
from marbury.evaluate.ladder import Bench, run_attack, run_harmless, run_written
from marbury.evaluate.measures import AttackResult, HarmlessResult, WrittenResult, curves, ladder
from marbury.evaluate.page import render
from marbury.evaluate.report import LIMITS, Report, finite, notes
from marbury.progress import track
from marbury.records import Example, read_rows
from marbury.scoring import Scorer, Thresholds
from marbury.workspace import Counts, Workspace, write_atomic, write_json


@dataclass(frozen=True)
class EvaluateSettings:
    """How much is measured. The defaults take a few minutes on 2 CPU cores with the default base model."""

    max_attacks: int = 240
    """Attacks at most: a third plain, a third with known transformations, a third with held-out ones."""
    attacks_per_family: int = 8
    """Attacks at most from one transformation family (of plain ones: from one category)."""
    max_harmless: int = 150
    """Harmless conversations at most, of each: the test split as written, the same transformed, held-out traffic."""
    max_replies: int = 60
    """Labelled replies to harmful requests at most, for the curve that only the reply can explain."""
    handbook: str = ""
    """Markdown file with what a helpful-only model knows; empty: the bundled one."""
    traffic: str = ""
    """JSONL file of harmless conversations that calibration has not seen; empty: the bundled one."""
    seed: int = 0
    """Seed of the samples."""

    def __post_init__(self) -> None:
        for name in ("max_attacks", "attacks_per_family", "max_harmless"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_replies < 0:
            raise ValueError("max_replies must not be negative")


class Work(msgspec.Struct, frozen=True):
    """What is going to be measured, and how many rows of each set there were to choose from."""

    attacks: list[Attack]
    harmless: list[Harmless]
    written: list[Written]
    available: dict[str, int]


def run(ws: Workspace, settings: EvaluateSettings, scorer: Scorer, thresholds: Thresholds) -> Counts:
    """Measure the guard; write the report and the page.

    Raises:
        WorkspaceError: the test split or the constitution is missing.
        DataError: a file is malformed, or there is no attack or no harmless row to measure.
        GuardError: judging failed.
    """
    constitution = read(ws.need(ws.constitution, "new"))
    work = gather(list(read_rows(ws.need(ws.test, "dataset"), Example)), settings)
    attacks, harmless, written = asyncio.run(measure(Bench(scorer, thresholds), work))
    scores = curves(attacks, harmless, written)
    report = Report(
        title=constitution.title,
        constitution=constitution.version,
        settings=asdict(settings),
        thresholds=finite(thresholds),
        measured=_sizes(work.attacks, work.harmless, work.written),
        available=work.available,
        ladder=ladder(attacks, harmless),
        curves=scores,
        notes=notes(scores, attacks),
        limits=LIMITS,
        attacks=attacks,
        harmless=harmless,
        written=written,
    )
    write_json(ws.report, msgspec.to_builtins(report))
    write_atomic(ws.page, render(report).encode())
    return _counts(report)


def gather(rows: Sequence[Example], settings: EvaluateSettings) -> Work:
    """A seeded sample of the attacks, the harmless conversations and the labelled replies.

    Raises:
        DataError: there is nothing to measure, or a file cannot be read.
    """
    book = handbook.load(Path(settings.handbook)) if settings.handbook else handbook.load()
    attacks = what.attacks(rows, book)
    test = what.harmless(rows)
    traffic = what.traffic(Path(settings.traffic)) if settings.traffic else what.traffic()
    written = what.written(rows)
    if not attacks or not test + traffic:
        raise DataError(
            "the test split has no attack or no harmless row to measure: run `marbury dataset` on more rows"
        )
    seed, most = settings.seed, settings.max_harmless
    return Work(
        [row for kind in KINDS for row in _some_attacks([a for a in attacks if a.kind == kind], settings)],
        what.sample([row for row in test if row.family == "plain"], lambda row: row.category, most, seed)
        + what.sample([row for row in test if row.family != "plain"], lambda row: row.family, most, seed)
        + what.sample(traffic, lambda row: (row.language, row.category), most, seed),
        what.sample(written, lambda row: (row.harmful, row.category), settings.max_replies, seed),
        _sizes(attacks, test + traffic, written),
    )


def _some_attacks(attacks: Sequence[Attack], settings: EvaluateSettings) -> list[Attack]:
    """A third of all attacks, from one kind; plain ones by category, others by family."""
    share = -(-settings.max_attacks // len(KINDS))
    return what.sample(
        attacks,
        lambda attack: attack.category if attack.kind == "plain" else attack.family,
        share,
        settings.seed,
        each=settings.attacks_per_family,
    )


async def measure(bench: Bench, work: Work) -> tuple[list[AttackResult], list[HarmlessResult], list[WrittenResult]]:
    """Every row of the work under every configuration, one after the other. Raises GuardError if judging fails."""
    return (
        [await run_attack(bench, row) for row in track(work.attacks, "attacks")],
        [await run_harmless(bench, row) for row in track(work.harmless, "harmless")],
        [run_written(bench, row) for row in track(work.written, "labelled replies")],
    )


def _sizes(attacks: Sequence[Attack], harmless: Sequence[Harmless], written: Sequence[Written]) -> dict[str, int]:
    kinds, sources = [row.kind for row in attacks], [row.source for row in harmless]
    return {
        **{f"{kind} attacks": kinds.count(kind) for kind in KINDS},
        "harmless test rows": sources.count("test"),
        "held-out traffic": sources.count("traffic"),
        "labelled replies": len(written),
    }


def _counts(report: Report) -> Counts:
    guarded = report.ladder["both"]
    return {
        "attacks": len(report.attacks),
        "through": guarded.attacks.hits,
        "harmless": len(report.harmless),
        "refused": sum(rate.hits for rate in guarded.refused.values()),
        "late_characters": guarded.late,
    }
