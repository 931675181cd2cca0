"""Does the reply give what was asked for? Trained on some public sources, tested on others, beside the simple ways.

    python benchmarks/exchanges.py DATA [--base marbury-base] [--seeds 3] [--errors FILE]

Test: answers of an uncensored model (fuzzyai) against harmless exchanges of oasst, self_instruct and mtbench101. In
training, harmful answers come from one source alone (gptfuzz_responses), whose refusals are harmless replies to the
same requests; a speaker's tag before a reply ("[JailBreak]:") is taken off, since it would give the answer away.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from learned import score, train
from prompts import means
from public import HELD_OUT, Text, exchanges, sample, without_near, write_errors
from rich.console import Console
from rich.table import Table
from rivals import RIVALS

from marbury.classifier.train import TrainSettings
from marbury.metrics import auroc, tpr_at

REPLIES = 1500  # longest reply, in characters
HARMFUL = {"gptfuzz_responses": 1000}
HARMLESS = {"gptfuzz_responses": 800, "gpteacher": 600, "medquad": 200, "owasp": 150, "gsm8k": 100, "bbh": 50}
RATES = (0.01, 0.05)


def splits(folder: Path, share: float = 1.0) -> tuple[list[Text], list[Text], int]:
    """Exchanges for training and for the test, and how many near-duplicates of the test were removed."""

    def of(source: str, harmful: bool, count: int) -> list[Text]:
        found = sample(exchanges(folder, source, harmful), int(count * share), "exchanges")
        return [text._replace(reply=(text.reply or "")[:REPLIES]) for text in found]

    test = [text for source in HELD_OUT for text in of(source, False, 400)] + of("fuzzyai", True, 420)
    learning = [text for source, count in HARMFUL.items() for text in of(source, True, count)]
    learning += [text for source, count in HARMLESS.items() for text in of(source, False, count)]
    asked = [text._replace(reply=None) for text in test]
    kept, removed = without_near(learning, test)
    alone, more = without_near([text._replace(reply=None) for text in kept], asked)
    names = {text.id for text in alone}
    return [text for text in kept if text.id in names], test, removed + more


def report(scores: Sequence[float], test: Sequence[Text]) -> dict[str, float]:
    """The numbers of one classifier."""
    harmful = [s for s, text in zip(scores, test, strict=True) if text.harmful]
    harmless = [s for s, text in zip(scores, test, strict=True) if not text.harmful]
    rates = {f"TPR {100 * rate:g} %": 100 * tpr_at(harmful, harmless, rate).value for rate in RATES}
    return {"AUROC": auroc(harmful, harmless), **rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the public safety data")
    parser.add_argument("--base", action="append", help="base model; may be given more than once")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="part of the rows, for a quick try")
    parser.add_argument("--errors", type=Path, help="write 50 misses and 50 false alarms of the last seed here")
    options = parser.parse_args()
    learning, test, removed = splits(options.data, options.share)
    console, harmful = Console(width=120), sum(text.harmful for text in learning)
    console.print(
        f"training: {harmful} harmful, {len(learning) - harmful} harmless ({removed} near-duplicates of the test "
        f"removed); test: {sum(t.harmful for t in test)} harmful, {sum(not t.harmful for t in test)} harmless"
    )
    readings: dict[str, Callable[[Text], str]] = {
        "request and reply": lambda text: text.whole,
        "reply alone": lambda text: text.reply or "",
    }
    found: dict[str, list[dict[str, float]]] = {}
    labels = [text.harmful for text in learning]
    for name, rival in RIVALS.items():
        for reading, read in readings.items():
            scores = rival([read(text) for text in learning], labels, [read(text) for text in test])
            found[f"{name}, {reading}"] = [report(scores, test)]
    asks = {text.id: text.harmful or text.source == "gptfuzz_responses" for text in learning}
    for base in options.base or ["marbury-base"]:
        for seed in range(options.seeds):
            examples = [text.example(request_harmful=asks[text.id]) for text in learning]
            model, encoder = train(examples, ("input", "output"), TrainSettings(base=base, seed=seed))
            scores = score(model, encoder, test, "output")
            found.setdefault(f"Marbury, {base}", []).append(report(scores, test))
            if options.errors:
                write_errors(options.errors, zip(scores, test, strict=True))
    table = Table("classifier", *next(iter(found.values()))[0], title="%, mean ± half of the 95 % interval over seeds")
    for name, results in found.items():
        table.add_row(name, *means(results))
    console.print(table)


if __name__ == "__main__":
    main()
