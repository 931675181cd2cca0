"""The report as a value: what was measured, on what, and what the numbers do not show."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from marbury.errors import DataError
from marbury.evaluate.measures import (
    FALSE_POSITIVE_RATES,
    AttackResult,
    Configuration,
    Curve,
    HarmlessResult,
    Rung,
    WrittenResult,
)
from marbury.scoring import Thresholds

LIMITS = (
    "The target is scripted and the worst case: a model that knows the whole handbook, understands every disguise and "
    "answers every attack in full, in English, in the handbook's own words. Real models misunderstand some attacks and "
    "refuse others; real attackers can ask a real model to paraphrase, which this target never does.",
    "The refusing model is scripted too: it refuses plain requests that name a controlled thing, harmless ones "
    "included. Its row shows what disguises do to keyword-like refusal, not how any real model behaves.",
    "The policy, the handbook and the corpus belong to a fairy tale and were written for this project. Numbers for "
    "another constitution must be measured there.",
    "The attacks are static: nobody adapted them to this guard. An attacker who can try again will do better.",
    "Requests and most harmless rows come from the same writers as the training data. Traffic from another source "
    "shifts scores; the held-out traffic is a small sample of it and was written by a language model too.",
    "Intervals (95 %, Wilson) speak of these rows alone. Rows that share a request or a template are not independent, "
    "so the true uncertainty is larger.",
)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """evaluate/report.json. `measured`: how many rows the numbers stand on; `available`: how many there were."""

    title: str
    constitution: str
    settings: dict[str, Any]
    thresholds: dict[str, float | None]
    measured: dict[str, int]
    available: dict[str, int]
    ladder: dict[Configuration, Rung]
    curves: dict[str, Curve]
    notes: list[str]
    limits: Sequence[str]
    attacks: list[AttackResult]
    harmless: list[HarmlessResult]
    written: list[WrittenResult]


def load(path: Path) -> Report:
    """A report that `evaluate` wrote.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path}: no report can be read here ({error}): run `marbury evaluate` again") from error


def finite(thresholds: Thresholds) -> dict[str, float | None]:
    """The limits by name; None for one that flags nothing or everything, which JSON cannot write."""
    limits = msgspec.structs.asdict(thresholds)
    return {name: limit if math.isfinite(limit) else None for name, limit in limits.items()}


def notes(curves: dict[str, Curve], attacks: Sequence[AttackResult]) -> list[str]:
    """What a reader must know about these very numbers."""
    found = []
    for name, curve in curves.items():
        short = [f"{100 * limit:g} %" for limit in FALSE_POSITIVE_RATES if 0 < curve.harmless < 1 / limit]
        if short:
            found.append(
                f"The {name} curve has {curve.harmless} harmless rows, too few for {' and '.join(short)} false "
                f"positives: there the limit lies above all of them (achieved: 0 of {curve.harmless})."
            )
    silent = sum(row.details == 0 for row in attacks)
    if silent:
        found.append(f"{silent} attacks demand a reply in which the grader finds no detail even without a guard.")
    return found
