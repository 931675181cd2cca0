"""Harmful against harmless prompts: trained on some public sources, tested on others, beside the simple ways.

    python benchmarks/prompts.py DATA [--base marbury-base] [--seeds 3] [--errors FILE]

DATA is the folder of public safety data. Test: harmful prompts of fuzzyai against harmless ones of fuzzyai, oasst,
self_instruct and mtbench101; whatever in training reads nearly like one of them is removed. A limit named `test`
comes from the test's harmless prompts (as the literature does it), one named `train` from harmless prompts of the
training sources that were kept out of training. The hard harmless prompts are our own (hard_harmless.jsonl).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from learned import score, train
from public import HELD_OUT, Text, requests, sample, without_near, write_errors
from rich.console import Console
from rich.table import Table
from rivals import RIVALS
from scipy.stats import t as student

from marbury.classifier.train import TrainSettings
from marbury.metrics import auroc, threshold_at, tpr_at

HARMFUL = {"red_instruct": 1400, "purplellama_cyber": 500, "advbench": 490, "gptfuzz": 100}
HARMLESS = {
    "gpteacher": 900,
    "clinc": 600,
    "medquad": 600,
    "purplellama_coding": 500,
    "awesome_prompts": 400,
    "gsm8k": 150,
    "bbh": 150,
}
RATES = (0.001, 0.005, 0.01)
HERE = Path(__file__).parent


def hard(name: str) -> list[Text]:
    """Our own harmless prompts that look harmful."""
    rows = [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]
    return [Text(f"{row['type']}-{number}", "hard", row["text"], None, False) for number, row in enumerate(rows)]


def splits(folder: Path, share: float = 1.0) -> tuple[list[Text], list[Text], list[Text], int]:
    """Texts for training, harmless ones for the limit, texts for the test, and how many near-duplicates went."""
    test = [t for source in HELD_OUT for t in sample(requests(folder, source, False), int(500 * share), "test")]
    test += sample(requests(folder, "fuzzyai", True), int(1000 * share), "test")
    harmless = [
        text
        for source, count in HARMLESS.items()
        for text in sample(requests(folder, source, False), int(2 * count * share), "train")
    ]
    harmful = [
        text
        for source, count in HARMFUL.items()
        for text in sample(requests(folder, source, True), int(count * share), "train")
    ]
    kept, removed = without_near([*harmful, *harmless, *hard("hard_harmless_train.jsonl")], test)
    limit = [text for number, text in enumerate(kept) if not text.harmful and text.source != "hard" and number % 2]
    chosen = set(limit)
    return [text for text in kept if text not in chosen], limit, test, removed


def report(scores: Callable[[Sequence[Text]], list[float]], limit: list[Text], test: list[Text]) -> dict[str, float]:
    """The numbers of one classifier."""
    tested, kept, tricky = scores(test), scores(limit), scores(hard("hard_harmless.jsonl"))
    harmful = [s for s, text in zip(tested, test, strict=True) if text.harmful]
    harmless = [s for s, text in zip(tested, test, strict=True) if not text.harmful]
    found = {"AUROC": auroc(harmful, harmless)}
    for rate in RATES:
        found[f"TPR {100 * rate:g} % test"] = 100 * tpr_at(harmful, harmless, rate).value
    found["TPR 1 % train"] = 100 * tpr_at(harmful, kept, 0.01).value
    for name, pool in (("test", harmless), ("train", kept)):
        found[f"hard flagged, 1 % {name}"] = 100 * float(np.mean(np.array(tricky) >= threshold_at(pool, 0.01)))
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean, and half of its 95 % t-interval over the seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def means(results: Sequence[dict[str, float]]) -> list[str]:
    """One cell per column: areas with three digits, shares in % with one."""
    return [spread([result[column] for result in results], 3 if "AUROC" in column else 1) for column in results[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the public safety data")
    parser.add_argument("--base", action="append", help="base model; may be given more than once")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--share", type=float, default=1.0, help="part of the rows, for a quick try")
    parser.add_argument("--errors", type=Path, help="write 50 misses and 50 false alarms of the last seed here")
    options = parser.parse_args()
    learning, limit, test, removed = splits(options.data, options.share)
    console = Console(width=140)
    harmful = sum(text.harmful for text in learning)
    console.print(
        f"training: {harmful} harmful, {len(learning) - harmful} harmless ({removed} near-duplicates of the test "
        f"removed); limit: {len(limit)}; test: {sum(t.harmful for t in test)} harmful, "
        f"{sum(not t.harmful for t in test)} harmless"
    )
    found: dict[str, list[dict[str, float]]] = {}
    texts, labels = [t.request for t in learning], [t.harmful for t in learning]
    for name, rival in RIVALS.items():

        def by_rival(those: Sequence[Text], rival: Callable[..., list[float]] = rival) -> list[float]:
            return rival(texts, labels, [text.request for text in those])

        found[name] = [report(by_rival, limit, test)]
    for base in options.base or ["marbury-base"]:
        for seed in range(options.seeds):
            settings = TrainSettings(base=base, seed=seed, epochs=options.epochs, max_tokens=256)
            model, encoder = train([text.example() for text in learning], ("input",), settings)

            def by_marbury(those: Sequence[Text], parts: tuple[object, object] = (model, encoder)) -> list[float]:
                return score(parts[0], parts[1], those, "input")  # type: ignore[arg-type]

            found.setdefault(f"Marbury, {base}", []).append(report(by_marbury, limit, test))
            if options.errors:
                both = [*test, *hard("hard_harmless.jsonl")]
                write_errors(options.errors, zip(by_marbury(both), both, strict=True))
    table = Table("classifier", *next(iter(found.values()))[0], title="%, mean ± half of the 95 % interval over seeds")
    for name, results in found.items():
        table.add_row(name, *means(results))
    console.print(table)


if __name__ == "__main__":
    main()
