"""How well the classifiers tell harmful from harmless on rows they have not seen, beside words and a linear model.

    python benchmarks/orvane.py RUN [--by pair] [--errors FILE]
    python benchmarks/orvane.py RUN --by writer [--folds a1+a5 a3]

RUN is a run folder. By pair, its own classifiers read dataset/test.jsonl: none of its pairs is in training. By writer,
classifiers are trained anew without some files of the corpus, each by a writer of its own, and read all plain rows of
these; training rows that nearly ask what one of them asks go too. Harmless traffic that is kept for reporting is read
in both. Each request counts once. The limit of each true-positive rate is taken from the harmless rows named in the
column; its 95 % interval is a bootstrap over the pairs, in which the limit moves too.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from intervals import Judged, tpr_interval
from learned import Parts, Talk, readings, train_parts
from rich.console import Console
from rich.table import Table
from rivals import RIVALS

from marbury import constitution
from marbury.augment.stage import AugmentSettings, decks_of, variants_of
from marbury.calibrate import BUNDLED, read_traffic, split_reply
from marbury.classifier.scorer import StreamScorer
from marbury.dataset import load
from marbury.dataset.near import nearest
from marbury.metrics import auroc, tpr_at
from marbury.pipeline import load_settings
from marbury.records import Example, Message
from marbury.scoring import Side
from marbury.split import is_held_out
from marbury.workspace import Workspace

OWN, AWAY, BOTH = "own harmless rows", "held-out traffic", "both"
LIMITS = ((0.01, OWN), (0.005, OWN), (0.005, AWAY), (0.005, BOTH), (0.001, BOTH))
RIVAL = "TF-IDF words + LR"
KINDS: dict[str, Callable[[tuple[str, ...]], bool]] = {
    "plain": lambda chain: not chain,
    "known transformations": lambda chain: bool(chain) and not any(map(is_held_out, chain)),
    "held-out transformations": lambda chain: any(map(is_held_out, chain)),
}


class Case(NamedTuple):
    """A request or a reply to be judged; `kind` is one of KINDS, or "traffic". Rows of one `pair` share a request."""

    id: str
    pair: str
    kind: str
    talk: Talk
    harmful: bool


Scores = Mapping[Side, Sequence[float]]
Cases = Mapping[Side, Sequence[Case]]


def cases_of(test: Sequence[Example]) -> dict[Side, list[Case]]:
    """What each side judges of these rows and of the held-out traffic: each request once, and every reply."""
    asked: dict[tuple[str, Talk], Case] = {}
    replied: list[Case] = []
    for row in test:
        kind = next(name for name, belongs in KINDS.items() if belongs(row.chain))
        asked.setdefault(
            (kind, (row.request, None)), Case(row.id, row.pair, kind, (row.request, None), row.request_harmful)
        )
        if row.reply is not None:
            replied.append(Case(row.id, row.pair, kind, (row.request, row.reply), bool(row.reply_harmful)))
    for talk in read_traffic([BUNDLED / "heldout.jsonl"]):
        request, reply = split_reply(talk.messages)
        asked.setdefault(("traffic", (request, None)), Case(talk.id, talk.id, "traffic", (request, None), False))
        if reply is not None:
            replied.append(Case(talk.id, talk.id, "traffic", (request, reply), False))
    return {"input": list(asked.values()), "output": replied}


def marbury(parts: Parts, cases: Cases) -> dict[str, dict[Side, list[float]]]:
    """The highest logits of the classifiers, without views and with them."""
    found: dict[str, dict[Side, list[float]]] = {"Marbury, without views": {}, "Marbury, with views": {}}
    for side, those in cases.items():
        for name, scores in zip(found, readings(*parts[side], [case.talk for case in those], side), strict=True):
            found[name][side] = scores
    return found


def words(train: Sequence[Example], cases: Cases) -> Scores:
    """What the linear model says of the words of a request, or of those of a reply alone."""
    replies = [row for row in train if row.reply is not None]
    learn = RIVALS[RIVAL]
    asks, answers = [_text(row.request) for row in train], [row.reply or "" for row in replies]
    return {
        "input": learn(asks, [row.request_harmful for row in train], [_text(c.talk[0]) for c in cases["input"]]),
        "output": learn(
            answers, [bool(row.reply_harmful) for row in replies], [c.talk[1] or "" for c in cases["output"]]
        ),
    }


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)


def table(title: str, cases: Cases, scores: Scores) -> Table:
    """AUROC and true-positive rates per side and kind of row."""
    result = Table("side", "rows", "harmful / harmless", "AUROC", title=title, title_justify="left")
    for share, pool in LIMITS:
        result.add_column(f"TPR at {100 * share:g} % FPR\n({pool})")
    for side, those in cases.items():
        judged = [(case, (case.pair, value)) for case, value in zip(those, scores[side], strict=True)]
        away = [one for case, one in judged if case.kind == "traffic"]
        for kind in KINDS:
            bad = [one for case, one in judged if case.kind == kind and case.harmful]
            good = [one for case, one in judged if case.kind == kind and not case.harmful]
            if bad or good:
                pools = {OWN: good, AWAY: away, BOTH: good + away}
                cells = [_cell(bad, pools[pool], share) for share, pool in LIMITS]
                area = auroc([value for _, value in bad], [value for _, value in good])
                result.add_row(side, kind, f"{len(bad)} / {len(good)}", f"{area:.3f}", *cells)
    return result


def _cell(bad: Sequence[Judged], good: Sequence[Judged], share: float) -> str:
    few = "" if len(good) * share >= 1 else f"\n(0 of {len(good)} flagged)"
    rate = tpr_at([value for _, value in bad], [value for _, value in good], share)
    low, high = tpr_interval(bad, good, share)
    return f"{100 * rate.value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]{few}"


def errors(cases: Cases, scores: Scores, count: int = 50) -> list[dict[str, Any]]:
    """The lowest harmful and the highest harmless scores of each side, the traffic included, one for each pair."""
    lines: list[dict[str, Any]] = []
    for side, those in cases.items():
        ranked = sorted(zip(scores[side], those, strict=True), key=lambda pair: pair[0])
        misses = [(score, case) for score, case in ranked if case.harmful]
        alarms = [(score, case) for score, case in reversed(ranked) if not case.harmful]
        for error, found in (("miss", misses), ("false alarm", alarms)):
            first: dict[str, tuple[float, Case]] = {}
            for score, case in found:
                first.setdefault(case.pair, (score, case))
            for score, case in list(first.values())[:count]:
                told = {"side": side, "error": error, "score": round(score, 3), "id": case.id, "kind": case.kind}
                lines.append({**told, "request": _text(case.talk[0]), "reply": case.talk[1]})
    return lines


def fold_of(
    ws: Workspace, left_out: Sequence[str], settings: AugmentSettings
) -> tuple[list[Example], list[Example], int]:
    """Training rows of the other files, plain rows of these, and how many training rows were too near to them.

    Variants are made anew: those of the run may hold innocent text of the files that are left out.
    """
    test = [row for row in load(ws.need(ws.examples, "synth")) if row.source in left_out and not row.chain]
    rows = [row for row in load(ws.need(ws.train, "dataset")) if row.source not in left_out and not row.chain]
    places = nearest([_text(row.request) for row in rows], [_text(row.request) for row in test])
    pairs = {row.pair for row, place in zip(rows, places, strict=True) if place is not None}
    train = [row for row in rows if row.pair not in pairs]
    for name, those in (("to train on", train), ("to test", test)):
        if {row.request_harmful for row in those} != {True, False}:
            sources = ", ".join(sorted({row.source for row in rows} | set(left_out)))
            sys.exit(f"--folds {'+'.join(left_out)}: harmful and harmless rows are needed {name}; sources: {sources}")
    decks = decks_of(train, [], settings.seed)
    variants = [made for row in train for made in variants_of(row, decks, settings) if made is not None]
    return [*train, *variants], test, len(rows) - len(train)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder: finished, or by writer with a data set")
    parser.add_argument(
        "--by",
        choices=("pair", "writer"),
        default="pair",
        help="what the test has in common with training: no pair, or no writer",
    )
    parser.add_argument(
        "--folds", nargs="+", default=["a1+a5", "a3"], help="files left out together, each fold a training"
    )
    parser.add_argument("--base", help="base model of the trainings; else that of the run")
    parser.add_argument("--rows", type=int, help="training rows of a fold at most, for a quick try")
    parser.add_argument("--errors", type=Path, help="write 50 misses and 50 false alarms per side here, views included")
    options = parser.parse_args()
    ws, console, lines = Workspace(options.run), Console(width=220), list[dict[str, Any]]()

    def show(title: str, train: Sequence[Example], test: Sequence[Example], parts: Parts) -> None:
        cases = cases_of(test)
        console.print(table(f"{RIVAL}, {title}", cases, words(train, cases)))
        found = marbury(parts, cases)
        for name, scores in found.items():
            console.print(table(f"{name}, {title}", cases, scores))
        lines.extend({"test": title, **line} for line in errors(cases, found["Marbury, with views"]))

    if options.by == "pair":
        test = load(ws.need(ws.test, "dataset"))
        scorer = StreamScorer.load(ws.need(ws.classifier, "train"), engine="torch", device="cpu")
        parts: Parts = {side: scorer.part(side)[:2] for side in ("input", "output")}
        show("by pair", load(ws.need(ws.train, "dataset")), test, parts)
    else:
        policy = constitution.read(ws.need(ws.constitution, "new"))
        categories = [category.slug for category in policy.restricted]
        settings = load_settings(ws, {"train": {"base": options.base}} if options.base else None)
        for fold in options.folds:
            train, test, removed = fold_of(ws, fold.split("+"), settings["augment"])
            train = random.Random("rows").sample(train, min(len(train), options.rows or len(train)))
            console.print(
                f"without {fold}: {len(train)} rows to train on ({removed} near ones removed), {len(test)} to test"
            )
            parts = train_parts(train, settings["train"], categories, policy.version)
            show(f"without {fold} in training", train, test, parts)
    if options.errors:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        options.errors.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
