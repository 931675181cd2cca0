"""How well a finished run tells harmful from harmless on its held-out split, beside words and a linear model.

    python benchmarks/orvane.py runs/demo

Every row of dataset/test.jsonl is scored (none of its pairs is in training), and the harmless traffic that is kept
for reporting. The classifiers are alone here, without views. The limit of each true-positive
rate is taken from the harmless rows named in the column.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from marbury.calibrate import BUNDLED, read_traffic, split_reply
from marbury.classifier.scorer import StreamScorer
from marbury.dataset import load
from marbury.metrics import auroc, tpr_at
from marbury.progress import track
from marbury.records import Example, Message
from marbury.scoring import Side, whole
from marbury.split import is_held_out
from marbury.workspace import Workspace

KINDS: dict[str, Callable[[Example], bool]] = {
    "plain": lambda row: not row.chain,
    "known transformations": lambda row: bool(row.chain) and not any(map(is_held_out, row.chain)),
    "held-out transformations": lambda row: any(map(is_held_out, row.chain)),
}
RATES = (0.01, 0.001)
Scores = dict[str, dict[Side, list[float]]]  # by row id or traffic id


def marbury_scores(ws: Workspace, rows: Sequence[tuple[str, Sequence[Message], str | None]]) -> Scores:
    """The guard's highest logit on each side."""
    scorer = StreamScorer.load(ws.need(ws.classifier, "train"))
    found: Scores = {}
    for name, request, reply in track(rows, "score"):
        asked, answered = whole(scorer, request, reply)
        found[name] = {"input": [asked.harm], "output": [answered.harm] if answered else []}
    return found


def words_scores(train: Sequence[Example], rows: Sequence[tuple[str, Sequence[Message], str | None]]) -> Scores:
    """TF-IDF of words and pairs, logistic regression (C = 10), on the same training rows."""

    def model(texts: Sequence[str], labels: Sequence[bool]) -> Callable[[Sequence[str]], list[float]]:
        features = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
        fitted = make_pipeline(features, LogisticRegression(C=10, max_iter=1000)).fit(texts, labels)
        return lambda new: np.asarray(fitted.decision_function(new)).tolist() if new else []

    replies = [row for row in train if row.reply is not None]
    asks = model([_text(row.request) for row in train], [row.request_harmful for row in train])
    answers = model([row.reply or "" for row in replies], [bool(row.reply_harmful) for row in replies])
    found: Scores = {}
    for name, request, reply in rows:
        found[name] = {"input": asks([_text(request)]), "output": answers([reply] if reply else [])}
    return found


def _text(messages: Sequence[Message]) -> str:
    return "\n".join(message.content for message in messages)


def table(title: str, test: Sequence[Example], scores: Scores, traffic: Sequence[str]) -> Table:
    """AUROC and true-positive rates per side and kind of row."""
    result = Table("side", "rows", "harmful / harmless", "AUROC", title=title, title_justify="left")
    for rate in RATES:
        result.add_column(f"TPR at {100 * rate:g} % FPR\n(own harmless rows)")
    for rate in RATES:
        result.add_column(f"TPR at {100 * rate:g} % FPR\n(held-out traffic)")
    for side in ("input", "output"):
        away = [value for name in traffic for value in scores[name][side]]
        for kind, belongs in KINDS.items():
            rows = [row for row in test if belongs(row)]
            bad = [value for row in rows if _label(row, side) for value in scores[row.id][side]]
            good = [value for row in rows if _label(row, side) is False for value in scores[row.id][side]]
            cells = [_cell(bad, good, rate) for rate in RATES] + [_cell(bad, away, rate) for rate in RATES]
            result.add_row(side, kind, f"{len(bad)} / {len(good)}", f"{auroc(bad, good):.3f}", *cells)
    return result


def _label(row: Example, side: Side) -> bool | None:
    return row.request_harmful if side == "input" else row.reply_harmful


def _cell(bad: Sequence[float], good: Sequence[float], rate: float) -> str:
    few = "" if len(good) * rate >= 1 else f"\n(0 of {len(good)} flagged)"
    return f"{tpr_at(bad, good, rate)}{few}"


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/orvane.py RUN (a finished run folder, such as runs/demo after `make demo`)")
    ws = Workspace(Path(sys.argv[1]))
    train, test = load(ws.need(ws.train, "dataset")), load(ws.need(ws.test, "dataset"))
    traffic = read_traffic([BUNDLED / "heldout.jsonl"])
    rows = [(row.id, row.request, row.reply) for row in test]
    rows += [(row.id, *split_reply(row.messages)) for row in traffic]
    names = [row.id for row in traffic]
    console = Console(width=180)
    for title, scores in (
        ("TF-IDF and logistic regression", words_scores(train, rows)),
        ("Marbury", marbury_scores(ws, rows)),
    ):
        console.print(table(title, test, scores, names))


if __name__ == "__main__":
    main()
