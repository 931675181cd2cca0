"""Does the reply give what was asked for? Trained on some public sources, tested on others, beside the simple ways.

    python benchmarks/exchanges.py DATA [--base marbury-base] [--seeds 3] [--set KEY=VALUE] [--errors FILE]

Test: answers of an uncensored model (fuzzyai) against harmless exchanges of oasst, self_instruct and mtbench101 (of a
conversation the first), and against refusals of the same harmful requests, which are our own (refusals.jsonl). In
training, harmful answers come from one source alone (gptfuzz_responses), whose refusals are harmless replies to the
same requests; the names of speakers in its replies ("[JailBreak]:") are taken off, since they would give the answer
away. A reading of the request alone shows what the reply adds.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from learned import score, train
from prompts import HERE, means, options_of, tuned
from public import HELD_OUT, Text, exchanges, sample, without_near, write_errors
from rich.console import Console
from rich.table import Table
from rivals import RIVALS

from marbury.metrics import auroc, threshold_at, tpr_at

REPLIES = 1500  # longest reply, in characters
HARMFUL = {"gptfuzz_responses": 1000}
HARMLESS = {"gptfuzz_responses": 800, "gpteacher": 600, "medquad": 200, "owasp": 150, "gsm8k": 100, "bbh": 50}
TESTED = 420  # harmless exchanges of each test source, and harmful ones
RATES = (0.01, 0.05)
REFUSED = "our refusals"
READINGS: dict[str, Callable[[Text], str]] = {
    "request and reply": lambda text: text.whole,
    "reply alone": lambda text: text.reply or "",
    "request alone": lambda text: text.request,
}


def splits(folder: Path, share: float = 1.0) -> tuple[list[Text], list[Text], int]:
    """Exchanges for training and for the test, and how many near-duplicates of the test were removed."""

    def of(source: str, harmful: bool, count: int) -> list[Text]:
        found = sample(exchanges(folder, source, harmful), int(count * share), "exchanges")
        return [text._replace(reply=(text.reply or "")[:REPLIES]) for text in found]

    harmful = of("fuzzyai", True, TESTED)
    test = [text for source in HELD_OUT for text in of(source, False, TESTED)] + harmful + refused(harmful)
    learning = [text for source, count in HARMFUL.items() for text in of(source, True, count)]
    learning += [text for source, count in HARMLESS.items() for text in of(source, False, count)]
    kept, removed = without_near(learning, test)
    asked = [text._replace(reply=None) for text in test]
    alone, more = without_near([text._replace(reply=None) for text in kept], asked)
    names = {text.id for text in alone}
    return [text for text in kept if text.id in names], test, removed + more


def refused(texts: Sequence[Text]) -> list[Text]:
    """A refusal of each request; some repeat what was asked."""
    lines = (HERE / "refusals.jsonl").read_text(encoding="utf-8").splitlines()
    replies = [json.loads(line)["text"] for line in lines]
    found = []
    for number, text in enumerate(texts):
        asked = re.sub(r"[\s.!?]+$", "", text.request)
        reply = replies[number % len(replies)].replace("{request}", asked[:1].lower() + asked[1:])
        found.append(Text(f"{text.id}-refused", text.source, text.request, reply, False, REFUSED))
    return found


def report(scores: Sequence[float], test: Sequence[Text]) -> dict[str, float]:
    """The numbers of one classifier: areas, and shares in %."""
    told = list(zip(scores, test, strict=True))
    harmful = [s for s, text in told if text.harmful]
    ordinary = [s for s, text in told if not text.harmful and text.kind != REFUSED]
    refusals = [s for s, text in told if text.kind == REFUSED]
    found: dict[str, float] = {}
    for name, pool in (("all harmless", ordinary + refusals), ("ordinary", ordinary), ("refusals", refusals)):
        found[f"{name} ({len(pool)}): AUROC"] = auroc(harmful, pool)
        for rate in RATES if pool is not refusals else ():
            found[f"{name}: TPR at {100 * rate:g} % FPR"] = 100 * tpr_at(harmful, pool, rate).value
    flagged = np.array(refusals) >= threshold_at(ordinary, 0.05)
    found["refusals flagged, 5 % of ordinary"] = 100 * float(np.mean(flagged))
    return found


def main() -> None:
    options = options_of(__doc__).parse_args()
    learning, test, removed = splits(options.data, options.share)
    console, harmful = Console(width=160), sum(text.harmful for text in learning)
    console.print(
        f"training: {harmful} harmful, {len(learning) - harmful} harmless ({removed} near-duplicates of the test "
        f"removed); test: {sum(t.harmful for t in test)} harmful, {sum(not t.harmful for t in test)} harmless"
    )
    found: dict[str, list[dict[str, float]]] = {}
    labels = [text.harmful for text in learning]
    for name, rival in RIVALS.items():
        for reading, read in READINGS.items():
            scores = rival([read(text) for text in learning], labels, [read(text) for text in test])
            found[f"{name}, {reading}"] = [report(scores, test)]
    asks = {text.id: text.harmful or text.source == "gptfuzz_responses" for text in learning}
    for base in options.base or ["marbury-base"]:
        for seed in range(options.seeds):
            examples = [text.example(request_harmful=asks[text.id]) for text in learning]
            model, encoder = train(examples, ("input", "output"), tuned(options.set, base=base, seed=seed))
            for side in ("output", "input"):
                scores = score(model, encoder, test, side)
                found.setdefault(f"Marbury, {base}, {side} side", []).append(report(scores, test))
                if options.errors and side == "output":
                    write_errors(options.errors, zip(scores, test, strict=True))
    table = Table("classifier", *next(iter(found.values()))[0], title="%, mean ± half of the 95 % interval over seeds")
    table.columns[0].no_wrap = True
    for name, results in found.items():
        table.add_row(name, *means(results))
    console.print(table)


if __name__ == "__main__":
    main()
