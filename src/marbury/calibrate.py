"""The door of `calibrate`: from harmless traffic to four thresholds.

For each side and kind of conversation the threshold is the lowest one whose false-positive rate is, with the chosen
confidence, no higher than the chosen rate: at most k of n harmless conversations are flagged, where the exact
(Clopper-Pearson) upper bound of k in n is at most that rate. Too little traffic is an error, not a guess.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from marbury.classifier.scorer import StreamScorer
from marbury.classifier.viewed import ViewedScorer
from marbury.dataset import load
from marbury.errors import DataError, WorkspaceError
from marbury.metrics import auroc, roc, upper_bound
from marbury.progress import track
from marbury.records import Message, Traffic, Turns, read_rows, turns_of
from marbury.scoring import Scorer, Side, Thresholds, whole
from marbury.workspace import Counts, Workspace, write_json

SLACK = 1e-4  # logits; streamed and whole scoring differ by rounding, which must not flag a calibrated row
SIDES: tuple[Side, ...] = ("input", "output")
TURNS: tuple[Turns, ...] = ("single", "multi")
BUNDLED = Path(__file__).parent / "data" / "traffic"


@dataclass(frozen=True)
class CalibrateSettings:
    """How the thresholds are chosen."""

    traffic: str = ""  # JSONL of harmless conversations ({"id", "messages"}); empty: the bundled ones
    false_positive_rate: float = 0.01  # highest share of harmless conversations that may be flagged, per threshold
    confidence: float = 0.95  # of the upper bound on that share

    def __post_init__(self) -> None:
        for name in ("false_positive_rate", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {getattr(self, name)}")


class Limit(msgspec.Struct, frozen=True):
    """One threshold and what it was chosen from."""

    threshold: float
    conversations: int
    flagged: int
    false_positive_rate: float
    upper_bound: float


class Calibration(msgspec.Struct, frozen=True):
    """calibrate/thresholds.json: the four limits, and for which constitution and promise they hold."""

    constitution: str
    target: float
    confidence: float
    limits: dict[str, Limit]

    @property
    def thresholds(self) -> Thresholds:
        """The four numbers that the guard needs."""
        return Thresholds(**{name: limit.threshold for name, limit in self.limits.items()})


def run(ws: Workspace, settings: CalibrateSettings) -> Counts:
    """Score harmless traffic with the classifiers, choose the thresholds, save them and the curves.

    Raises:
        WorkspaceError: there are no classifiers. DataError: the traffic is malformed or too little.
    """
    classifiers = StreamScorer.load(ws.need(ws.classifier, "train"))
    scorer = ViewedScorer(classifiers)
    traffic = read_traffic(traffic_files(settings))
    harmless = score_traffic(scorer, traffic)
    limits = {}
    for name, scores in harmless.items():
        limits[name] = choose(scores, settings.false_positive_rate, settings.confidence, name)
    result = Calibration(classifiers.constitution, settings.false_positive_rate, settings.confidence, limits)
    write_json(ws.curves, curves(scorer, ws, harmless))
    write_json(ws.thresholds, msgspec.to_builtins(result))
    return {"conversations": len(traffic), **{name: round(limit.threshold, 3) for name, limit in limits.items()}}


def read_calibration(ws: Workspace) -> Calibration:
    """The thresholds of a run folder.

    Raises:
        WorkspaceError: there are none, or the file is damaged.
    """
    path = ws.need(ws.thresholds, "calibrate")
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Calibration)
        if found.limits.keys() != {f"{side}_{turns}" for side in SIDES for turns in TURNS}:
            raise msgspec.ValidationError("not the four thresholds")
        return found
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WorkspaceError(f"{path}: damaged ({error}): run `marbury calibrate {ws.root}`") from error


def traffic_files(settings: CalibrateSettings) -> list[Path]:
    """The files of harmless conversations: the user's own, or those in the package kept for calibration."""
    return [Path(settings.traffic)] if settings.traffic else sorted(BUNDLED.glob("t*.jsonl"))


def read_traffic(files: Sequence[Path]) -> list[Traffic]:
    """All conversations of the files. Raises DataError with the file and line or id of a row that is not one."""
    rows = []
    for path in files:
        for row in read_rows(path, Traffic):
            if not any(message.role == "user" for message in row.messages):
                raise DataError(f"{path}: row {row.id!r} has no user message: give conversations with a request")
            rows.append(row)
    return rows


def split_reply(messages: Sequence[Message]) -> tuple[tuple[Message, ...], str | None]:
    """A conversation as its last request and the reply to it, if it ends with one."""
    if messages[-1].role == "assistant":
        return tuple(messages[:-1]), messages[-1].content
    return tuple(messages), None


def score_traffic(scorer: Scorer, traffic: Sequence[Traffic]) -> dict[str, list[float]]:
    """The highest harm score of each conversation, by threshold name ("input_single", ...)."""
    scores: dict[str, list[float]] = {f"{side}_{turns}": [] for side in SIDES for turns in TURNS}
    for row in track(traffic, "score harmless traffic"):
        request, reply = split_reply(row.messages)
        asked, answered = whole(scorer, request, reply)
        scores[f"input_{turns_of(request)}"].append(asked.harm)
        if answered is not None:
            scores[f"output_{turns_of(request)}"].append(answered.harm)
    return scores


def needed(false_positive_rate: float, confidence: float) -> int:
    """How many conversations it takes to promise a rate when none of them is flagged."""
    return math.ceil(math.log(1 - confidence) / math.log(1 - false_positive_rate))


def choose(scores: Sequence[float], false_positive_rate: float, confidence: float, name: str = "scores") -> Limit:
    """The lowest threshold that keeps the promise on these harmless scores.

    Raises:
        DataError: there are too few scores to promise this rate, one is not a number, or too many are infinite.
    """
    total = len(scores)
    if upper_bound(0, total, confidence) > false_positive_rate if total else True:
        least = needed(false_positive_rate, confidence)
        side, _, turns = name.partition("_")
        raise DataError(
            f"{name}: {total} harmless {turns}-turn conversations are too few for the {side} threshold at a "
            f"false-positive rate of {false_positive_rate:.2%} with {confidence:.0%} confidence, which takes at "
            f"least {least}: give more traffic, or raise [calibrate] false_positive_rate"
        )
    if any(math.isnan(score) for score in scores):
        raise DataError(f"{name}: a score is not a number; the classifier is broken: run `marbury train` again")
    allowed = 0
    while upper_bound(allowed + 1, total, confidence) <= false_positive_rate:
        allowed += 1
    ranked = sorted(scores, reverse=True)
    threshold = ranked[allowed] + SLACK
    if math.isinf(threshold):  # as a limit it would flag everything, or what is infinite itself
        raise DataError(f"{name}: too many scores are infinite; give more traffic with text in it, or train again")
    flagged = sum(score >= threshold for score in scores)
    return Limit(threshold, total, flagged, flagged / total, upper_bound(flagged, total, confidence))


def curves(scorer: Scorer, ws: Workspace, harmless: dict[str, list[float]]) -> dict[str, object]:
    """ROC data per side: harmful rows of the validation split against the harmless traffic."""
    harmful: dict[str, list[float]] = {side: [] for side in SIDES}
    rows = [row for row in load(ws.need(ws.valid, "dataset")) if row.request_harmful]
    for row in track(rows, "score harmful examples"):
        asked, answered = whole(scorer, row.request, row.reply if row.reply_harmful else None)
        harmful["input"].append(asked.harm)
        if answered is not None:
            harmful["output"].append(answered.harm)
    result: dict[str, object] = {}
    for side in SIDES:
        negatives = harmless[f"{side}_single"] + harmless[f"{side}_multi"]
        result[side] = {
            "harmful": len(harmful[side]),
            "harmless": len(negatives),
            "auroc": auroc(harmful[side], negatives),
            "roc": roc(harmful[side], negatives),
        }
    return result
