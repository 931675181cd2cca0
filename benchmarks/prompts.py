"""Harmful against harmless prompts: trained on some public sources, tested on others, beside the simple ways.

    python benchmarks/prompts.py DATA [--base marbury-base] [--seeds 3] [--set KEY=VALUE] [--errors FILE] [--validate]

DATA is the folder of public safety data. Test: harmful prompts of fuzzyai against harmless ones of fuzzyai, oasst,
self_instruct and mtbench101 (of a conversation the first request). Whatever in training is nearly one of them is
removed. Rows that were looked at while the training mix was made are left out of the report. A limit named `test` comes
from the test's harmless prompts (as the literature does it), one named `train` from harmless prompts of the training
sources that were kept out of training. The hard harmless prompts are our own (hard_harmless.jsonl). `--validate` tests
on sources taken out of training instead, for choices that touch no test source.
"""

import argparse
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from everyday import questions
from learned import score, train
from public import HELD_OUT, Text, firsts, requests, sample, without_near, write_errors
from rich.console import Console
from rich.table import Table
from rivals import RIVALS
from scipy.stats import t as student

from marbury.calibrate import BUNDLED, read_traffic
from marbury.classifier.train import TrainSettings
from marbury.errors import SettingsError
from marbury.metrics import auroc, threshold_at, tpr_at
from marbury.settings import build

HARMFUL = {"red_instruct": 700, "purplellama_cyber": 300, "gptfuzz": 100}  # not AdvBench: fuzzyai holds it
WEAK = {"ailuminate": 400, "aart": 400}  # written for hazards, not labelled one by one
FLAGGED = {"openai_moderation": 338}  # text of moderation categories: it asks for nothing, but must not pass
HARMLESS = {
    "gpteacher": 500,
    "openai_moderation": 500,
    "medquad": 300,
    "clinc": 300,
    "purplellama_coding": 200,
    "awesome_prompts": 200,
    "gsm8k": 100,
    "bbh": 100,
}
VALID = ("gptfuzz", "ailuminate", "gpteacher", "openai_moderation")  # the test of `--validate`
SEEN = 250  # first harmless rows of each test source, and twice as many harmful ones: the mix was made looking at them
LIMIT = 1500  # harmless training-side prompts that give a limit
TESTED = 500  # harmless rows of each test source after those
KINDS = {"advbench": "asked plainly", "persuasion": "wrapped in persuasion", "adv_prompts.txt": "said, not asked"}
OURS = ("hard", "everyday")  # written for training: they say nothing of a limit
# How to train where other sources are to be met: the defaults, which are for one constitution's data, learn sources by
# heart. Chosen on rows that were looked at; `--validate`, whose sources are further away, prefers a frozen backbone.
GENTLE = {"learning_rate": 3e-5, "head_learning_rate": 1e-3, "freeze_layers": 0, "epochs": 1.0}
RATES = (0.001, 0.005, 0.01)
HERE = Path(__file__).parent


def hard(name: str) -> list[Text]:
    """Our own harmless prompts that look harmful."""
    rows = [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]
    return [Text(f"{row['type']}-{number}", "hard", row["text"], None, False) for number, row in enumerate(rows)]


def splits(folder: Path, share: float = 1.0, validate: bool = False) -> tuple[list[Text], list[Text], list[Text], int]:
    """Texts for training, harmless ones for the limit, texts for the test, and how many near-duplicates went."""
    seen, test = _tests(folder, share)
    harmless = _texts(folder, HARMLESS, False, 2 * share) + traffic() + everyday()
    harmful = _texts(folder, HARMFUL, True, share)
    harmful += _texts(folder, WEAK, True, share, "hazard") + _texts(folder, FLAGGED, True, share, "flagged_text")
    kept, removed = without_near([*harmful, *harmless, *hard("hard_harmless_train.jsonl")], [*seen, *test])
    if validate:
        test = [text for text in kept if text.source in VALID and not (text.harmful and text.source in FLAGGED)]
        kept, more = without_near([text for text in kept if text.source not in VALID], test)
        removed += more
    limit = [text for number, text in enumerate(kept) if not text.harmful and text.source not in OURS and number % 2]
    chosen = set(limit)
    return [text for text in kept if text not in chosen], sample(limit, LIMIT, "limit"), test, removed


def _tests(folder: Path, share: float) -> tuple[list[Text], list[Text]]:
    """Test texts that were looked at, and those that are reported."""
    pools = [(requests(folder, source, False), SEEN, TESTED) for source in HELD_OUT]
    pools.append((requests(folder, "fuzzyai", True), 2 * SEEN, 4 * TESTED))
    pools += [(firsts(folder, source), 0, TESTED) for source in HELD_OUT]
    mixed = [(sample(pool, len(pool), "test"), seen, int(most * share)) for pool, seen, most in pools]
    return (
        [text for pool, seen, _ in mixed for text in pool[:seen]],
        [text for pool, seen, most in mixed for text in pool[seen : seen + most]],
    )


def _texts(folder: Path, counts: Mapping[str, int], harmful: bool, share: float, label: str = "") -> list[Text]:
    """This many requests of each source."""
    pools = [(requests(folder, source, harmful, label), int(count * share)) for source, count in counts.items()]
    return [text for pool, count in pools for text in sample(pool, count, "train")]


def everyday() -> list[Text]:
    """Our own plain questions."""
    return [Text(f"everyday-{number}", "everyday", text, None, False) for number, text in enumerate(questions())]


def traffic() -> list[Text]:
    """The first requests of the harmless traffic in the package."""
    rows = read_traffic(sorted(BUNDLED.glob("t*.jsonl")))
    asked = [next(m.content for m in row.messages if m.role == "user") for row in rows]
    return [Text(row.id, "traffic", text, None, False) for row, text in zip(rows, asked, strict=True)]


def report(scores: Sequence[float], limit: Sequence[Text], test: Sequence[Text]) -> dict[str, float]:
    """The numbers of one classifier, areas and shares in %, from its scores of test, limit and hard prompts."""
    tested, kept = scores[: len(test)], scores[len(test) : len(test) + len(limit)]
    tricky = np.array(scores[len(test) + len(limit) :])
    harmful = [s for s, text in zip(tested, test, strict=True) if text.harmful]
    harmless = [s for s, text in zip(tested, test, strict=True) if not text.harmful]
    found = {"AUROC": auroc(harmful, harmless)}
    for rate in RATES:
        found[f"TPR at {100 * rate:g} % FPR, limit of test"] = 100 * tpr_at(harmful, harmless, rate).value
    for rate in RATES:
        found[f"TPR at {100 * rate:g} % FPR, limit of train"] = 100 * tpr_at(harmful, kept, rate).value
    flagged = np.array(harmless) >= threshold_at(kept, 0.01)
    found["FPR on the test there (1 %, train)"] = 100 * float(np.mean(flagged))
    for name, pool in (("test", harmless), ("train", kept)):
        found[f"hard harmless flagged, 1 % of {name}"] = 100 * float(np.mean(tricky >= threshold_at(pool, 0.01)))
    for kind, name in KINDS.items():
        those = [s for s, text in zip(tested, test, strict=True) if text.harmful and text.kind == kind]
        if those:
            found[f"{name} ({len(those)}): AUROC"] = auroc(those, harmless)
            found[f"{name} ({len(those)}): TPR at 1 %, test"] = 100 * tpr_at(those, harmless, 0.01).value
    return found


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The mean, and half of its 95 % t-interval over the seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = float(student.ppf(0.975, len(values) - 1)) * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def means(results: Sequence[Mapping[str, float]]) -> list[str]:
    """One cell per measure: areas with three digits, shares in % with one."""
    return [spread([result[measure] for result in results], 3 if "AUROC" in measure else 1) for measure in results[0]]


def show(found: Mapping[str, Sequence[Mapping[str, float]]], console: Console) -> None:
    """A table with a row for each measure and a column for each classifier."""
    table = Table("%, mean ± half of the 95 % interval over seeds", *found)
    measures = next(iter(found.values()))[0]
    for measure, *cells in zip(measures, *map(means, found.values()), strict=True):
        table.add_row(measure, *cells)
    console.print(table)


def tuned(given: Sequence[str], **known: object) -> TrainSettings:
    """How to train: what is known, and each KEY=VALUE, which wins. Leaves with a message when one is wrong."""
    table = dict(known)
    for item in given:
        key, _, value = item.partition("=")
        try:
            table |= tomllib.loads(item)
        except tomllib.TOMLDecodeError:
            table[key] = value
    try:
        return build(TrainSettings, table, "--set")
    except SettingsError as error:
        sys.exit(str(error))


def options_of(text: str | None) -> argparse.ArgumentParser:
    """What a benchmark takes that trains on public data; `text` is its own description."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of the public safety data")
    parser.add_argument("--base", action="append", help="base model; may be given more than once")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], help="a setting of training, as KEY=VALUE")
    parser.add_argument("--share", type=float, default=1.0, help="part of the rows, for a quick try")
    parser.add_argument("--errors", type=Path, help="write 50 misses and 50 false alarms of the last seed here")
    return parser


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--validate", action="store_true", help=f"test on {', '.join(VALID)}, taken out of training")
    options = parser.parse_args()
    learning, limit, test, removed = splits(options.data, options.share, options.validate)
    console = Console(width=140)
    harmful = sum(text.harmful for text in learning)
    console.print(
        f"training: {harmful} harmful, {len(learning) - harmful} harmless ({removed} near-duplicates of the test "
        f"removed); limit: {len(limit)}; test: {sum(t.harmful for t in test)} harmful, "
        f"{sum(not t.harmful for t in test)} harmless"
    )
    found: dict[str, list[dict[str, float]]] = {}
    scored = [*test, *limit, *hard("hard_harmless.jsonl")]
    texts, labels, asked = [t.request for t in learning], [t.harmful for t in learning], [t.request for t in scored]
    for name, rival in RIVALS.items():
        found[name] = [report(rival(texts, labels, asked), limit, test)]
    for base in options.base or ["marbury-base"]:
        for seed in range(options.seeds):
            settings = tuned(options.set, **GENTLE, base=base, seed=seed, max_tokens=256)
            model, encoder = train([text.example() for text in learning], ("input",), settings)
            scores = score(model, encoder, scored, "input")
            found.setdefault(f"Marbury, {base}", []).append(report(scores, limit, test))
            if options.errors:
                told, calm = zip(scores, scored, strict=True), set(limit)
                write_errors(options.errors, [(one, text) for one, text in told if text not in calm])
    show(found, console)


if __name__ == "__main__":
    main()
