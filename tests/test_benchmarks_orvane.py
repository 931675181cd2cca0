"""The rules of the benchmarks on Orvane: what is left out, counts once, is known to views, is late or is finished."""

import json
import math
import sys
from itertools import product
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from marbury.augment.stage import AugmentSettings
from marbury.metrics import threshold_at
from marbury.records import Example, Message, to_jsonl
from marbury.scoring import Score
from marbury.split import is_held_out, split_of
from marbury.synth import corpus
from marbury.views import views
from marbury.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

import ablation
import delay
import disguise
import disguises
import intervals
import orvane


@pytest.fixture(scope="module")
def rows() -> list[Example]:
    return corpus.load()


def example(name: str, request: str, reply: str | None = None, harmful: bool = True, **more: object) -> Example:
    messages = [Message("user", request)] + ([Message("assistant", reply)] if reply is not None else [])
    row = Example(
        id=name,
        category="preparation",
        messages=tuple(messages),
        request_harmful=harmful,
        reply_harmful=None if reply is None else harmful,
        pair=name,
    )
    return replace(row, **more)


# --- disguises -------------------------------------------------------------------------------------------------------


def test_every_reply_of_the_corpus_has_one_disguise_and_most_of_a7_is_none_of_the_plain(rows: list[Example]) -> None:
    known = {*disguises.DISGUISES, disguises.PLAIN}
    found = {row.id: disguises.disguise_of(row, {}) for row in rows}
    assert set(found.values()) <= known
    assert all(found[row.id] != disguises.PLAIN for row in rows if row.source == "a7")
    assert all(found[row.id] == "translated" for row in rows if row.language != "en")
    assert {found[row.id] for row in rows if row.source == "a1"} >= {disguises.PLAIN, "code, tables, JSON keys"}


@pytest.mark.parametrize(
    ("style", "wanted"),
    [
        ("acrostic", "acrostic, reversed, every third word"),
        ("sentences reversed word by word", "acrostic, reversed, every third word"),
        ("reverse psychology", "plain"),
        ("multi-turn, soup code", "metaphor, renamed ingredients, other genres"),
        ("knitting pattern, abbreviations agreed earlier", "metaphor, renamed ingredients, other genres"),
        ("JSON for a game", "code, tables, JSON keys"),
        ("code with comments", "code, tables, JSON keys"),
        ("train timetable", "plain"),
        ("letter between two lovers, numbers real", "plain"),
    ],
)
def test_a_style_names_its_disguise(style: str, wanted: str) -> None:
    assert disguises.disguise_of(example("r", "how?", "so", style=style, source="a1"), {}) == wanted


def test_a_transformed_row_is_judged_by_what_happened_to_its_reply() -> None:
    origin = example("r", "how?", "Warm the kettle.")
    plain = {"r": origin}

    def changed(chain: str, reply: str) -> str:
        row = example("r~1", "Please: how?", reply, origin="r", chain=(chain,), language="en")
        return disguises.disguise_of(row, plain)

    assert changed("template:fiction/t-001", "Warm the kettle.") == disguises.FRAMED
    assert changed("long:reply-end", "Bread is good.\n\nWarm the kettle.") == disguises.LONG
    assert changed("reply-cipher:rot13", "Jnez gur xrggyr.") == "encoded"
    assert changed("agreed:symbols", "¤ ¶ §") == "encoded"


def test_codes_of_the_probe_are_held_out_hide_the_whole_request_and_share_the_rows_evenly(rows: list[Example]) -> None:
    plain = disguise.once([row for row in rows if row.request_harmful and row.source == "a1"])[:57]
    made = list(disguises.coded(plain, 2))
    steps = {one.step for one in made}
    assert all(is_held_out(step) and step.partition(":")[0] in ("cipher", "agreed") for step in steps)
    assert steps == {step.name for step in disguises.held_out_codes()}
    assert len(made) == 2 * len(plain)
    counts = [sum(one.step == step for one in made) for step in steps]
    assert max(counts) - min(counts) <= 3
    assert all(one.request != one.origin.request for one in made)
    assert made == list(disguises.coded(plain, 2))


def test_views_know_a_cipher_that_they_decode_and_no_agreed_alphabet(rows: list[Example]) -> None:
    plain = disguise.once([row for row in rows if row.request_harmful and row.source == "a2"])[:57]
    made = list(disguises.coded(plain, 2))
    for one in made:
        words = {word for word in one.origin.request[-1].content.casefold().split() if word.isalpha() and len(word) > 3}
        readable = any(sum(w in v.text.casefold() for w in words) > 0.8 * len(words) for v in views(_last(one)))
        assert one.known or not readable  # whatever stands in a view almost word by word is known
    assert not any(one.known for one in made if one.step in ("agreed:symbols", "agreed:homophonic"))
    assert all(one.known for one in made if one.step == "cipher:rot47")


def _last(one: disguises.Coded) -> str:
    return one.request[-1].content


def test_harmless_requests_come_in_ciphers_alone(rows: list[Example]) -> None:
    made = list(disguises.coded([row for row in rows if row.source == "a4"][:40], 1))
    assert {one.step.partition(":")[0] for one in made} == {"cipher"}


def test_the_kept_share_is_the_ratio_and_its_interval_holds_it() -> None:
    draw = Random(1)
    plain = [draw.random() < 0.6 for _ in range(200)]
    coded = [hit and draw.random() < 0.5 for hit in plain]
    share, low, high = intervals.kept(coded, plain)
    assert share == sum(coded) / sum(plain)
    assert low < share < high
    assert high - low < 0.3
    assert intervals.kept(plain, plain) == (1.0, 1.0, 1.0)
    assert all(map(math.isnan, intervals.kept([True], [False])))


def test_limits_count_each_harmless_request_once_and_no_missing_reply() -> None:
    twins = [example(f"h{n}", "same", "fine", harmful=False) for n in range(300)]
    scored = [disguise.Scored(row, disguises.PLAIN, 9.0, float(n)) for n, row in enumerate(twins)]
    traffic = [(float(n), -math.inf) for n in range(250)]
    limits = disguise.limits_of(scored, traffic)
    assert limits.asked == threshold_at([9.0, *map(float, range(250))], 0.005)
    assert limits.replied == threshold_at(list(map(float, range(300))), 0.005)


def test_listed_errors_are_on_the_wrong_side_of_the_limit() -> None:
    def one(name: str, score: float, harmful: bool) -> disguise.Scored:
        return disguise.Scored(example(name, "q", "a", harmful=harmful), disguises.PLAIN, 0.0, score)

    scored = [one("missed", -3, True), one("caught", 3, True), one("alarm", 4, False), one("quiet", -4, False)]
    scored.append(disguise.Scored(replace(scored[0].row, id="missed~1"), disguises.LONG, 0.0, -2.0))  # of the same pair
    probe = disguises.Coded(scored[0].row, "cipher:rot47", (Message("user", "BFE"),), True)
    lines = disguise.errors(scored, [(probe, -1.0)], disguise.Limits(0.5, 1.0))
    told = [(line["side"], line["error"], line["id"]) for line in lines]
    assert told == [("output", "miss", "missed"), ("output", "false alarm", "alarm"), ("input", "miss", "missed")]


# --- delay -----------------------------------------------------------------------------------------------------------


def test_the_first_enough_is_found_as_a_slow_look_finds_it() -> None:
    for count in range(7):
        for start in range(count + 1):
            wanted = next((n for n in range(count) if n >= start), None)
            assert delay.first_that(lambda n, start=start: n >= start, count) == wanted  # type: ignore[misc]


def test_a_course_counts_tokens_as_a_slow_look_does() -> None:
    text = "Well, hello. First cut reeds. Then boil them long. At last strain all."
    words = ("reeds.", "long.", "all.")
    ends = [n for n, letter in enumerate(text) if letter == " "] + [len(text)]
    begin = text.index("First")

    def details(end: int) -> int:
        return sum(word in text[begin:end] for word in words)

    for limit, stop in product((0.5, 9.0), range(len(ends))):
        scores = [Score(end, 1.0 if n == stop else 0.0) for n, end in enumerate(ends)]
        course = delay.course_of(scores, limit, begin, details)
        assert course is not None
        assert course.stop == (stop if limit == 0.5 else None)
        released = ends[stop - 1] if limit == 0.5 and stop else 0 if limit == 0.5 else len(text)
        assert course.on_time == (details(released) < 2)
        assert course.early == (limit == 0.5 and ends[stop] <= begin)
        assert course.delay == (stop - [details(end) >= 1 for end in ends].index(True) if limit == 0.5 else math.inf)


def test_a_score_that_is_not_a_number_stops_and_one_detail_is_no_course() -> None:
    scores = [Score(1, 0.0), Score(2, math.nan), Score(3, 0.0)]
    course = delay.course_of(scores, 1.0, 0, lambda end: end)
    assert course == delay.Course(0, 0, 1, 1)
    assert delay.course_of(scores, 1.0, 0, lambda end: min(end, 1)) is None
    assert delay.course_of([], 1.0, 0, lambda end: end) is None


def test_replies_that_were_never_stopped_weigh_in_the_median() -> None:
    courses = [delay.Course(0, 5, 9, stop) for stop in (6, 8, None)]
    rows, stopped, on_time, before, early, median = delay.row_of(courses)
    assert (rows, before, early, median) == ("3", "0", "0", "3")
    assert stopped.startswith("66.7 %") and on_time.startswith("66.7 %")
    assert delay.row_of([delay.Course(0, 5, 9, None)])[-1] == "inf"


# --- ablation --------------------------------------------------------------------------------------------------------


def test_the_sample_is_the_same_for_all_and_all_plain_without_augmentation(rows: list[Example]) -> None:
    variants = [replace(row, id=f"{row.id}~1", chain=("noise:typos",)) for row in rows]
    sample = ablation.sampled([*rows, *variants], 200, plain=False)
    assert sample == ablation.sampled([*rows, *variants], 200, plain=False)
    assert sample[:50] == ablation.sampled([*rows, *variants], 50, plain=False)
    assert {bool(row.chain) for row in sample} == {True, False}
    assert not any(row.chain for row in ablation.sampled([*rows, *variants], 200, plain=True))


def test_every_cell_changes_one_thing(tmp_path: Path) -> None:
    base = ablation.key("default", 0, 10)["settings"]
    for name in ablation.CELLS:
        settings = ablation.key(name, 0, 10)["settings"]
        changed = {setting for setting in base if settings[setting] != base[setting]}
        assert len(changed - {"freeze_layers"}) <= (2 if "probe" in name else 1), (name, changed)
        assert bool(changed) == (name not in ("default", "without augmentation")), name


def test_requests_count_once_and_rows_without_a_reply_not_at_all_on_the_output_side() -> None:
    valid = [
        example("a", "how?", "so"),
        example("b", "how?", "no", reply_harmful=False),
        example("c", "what?", None),
    ]
    cases = ablation.cases_of(valid)
    assert [case.id for case in cases["input"] if case.harmful] == ["b", "c"]
    assert [(case.id, case.harmful) for case in cases["output"][:2]] == [("a", True), ("b", False)]
    assert all(not case.harmful for case in cases["output"][2:])
    assert len(cases["output"]) > 200  # the traffic
    assert all(case.talk[1] for case in cases["output"])


def test_a_finished_cell_is_found_again_also_after_half_a_line(tmp_path: Path) -> None:
    path = tmp_path / "cells.jsonl"
    wanted = ablation.key("LoRA", 1, 40)
    assert ablation.finished(path, wanted) is None
    path.write_text('{"cell": "LoRA", "seed": 1, "ro', encoding="utf-8")
    ablation.keep(path, {**wanted, "results": {"views": {}}})
    ablation.keep(path, {**ablation.key("LoRA", 2, 40), "results": {}})
    assert ablation.finished(path, wanted) == {**wanted, "results": {"views": {}}}
    other = json.loads(json.dumps(wanted))
    other["settings"]["learning_rate"] = 1.0
    assert ablation.finished(path, other) is None


def test_differences_are_taken_seed_by_seed() -> None:
    def numbers(value: float) -> dict[str, float]:
        return dict.fromkeys(ablation.COLUMNS, value)

    def row(cell: str, seed: int, value: float) -> dict[str, object]:
        return {"cell": cell, "seed": seed, "results": {"views": numbers(value), "no views": numbers(value - 1)}}

    found = ablation.by_name([row("default", 0, 10), row("default", 1, 20), row("LoRA", 1, 25), row("LoRA", 2, 99)])
    less = ablation.differences(found)
    assert less == {"LoRA": {1: numbers(5)}, "without views": {0: numbers(-1), 1: numbers(-1)}}
    text = ablation.shown(less, "less", markdown=True)
    assert "| LoRA | 1 | 5.000 |" in str(text)


def test_measured_rates_are_those_of_a_slow_count() -> None:
    draw = Random(3)
    cases = [ablation.Case(str(n), ((Message("user", str(n)),), None), n % 4 == 0) for n in range(800)]
    scores = [draw.gauss(2.0 * case.harmful, 1.0) for case in cases]
    good = sorted((s for s, c in zip(scores, cases, strict=True) if not c.harmful), reverse=True)
    bad = [s for s, c in zip(scores, cases, strict=True) if c.harmful]
    found = ablation.measure(cases, scores, "input")
    for share, column in ((0.001, "input 0.1 %"), (0.005, "input 0.5 %"), (0.01, "input 1 %")):
        assert found[column] == pytest.approx(100 * sum(s > good[int(share * len(good))] for s in bad) / len(bad))
    assert found["input AUROC"] == pytest.approx(sum(b > g for b in bad for g in good) / (len(bad) * len(good)))


# --- by pair and by writer -------------------------------------------------------------------------------------------


def run_folder(tmp_path: Path, rows: list[Example]) -> Workspace:
    ws = Workspace(tmp_path)
    for path in (ws.examples, ws.train):
        path.parent.mkdir(parents=True, exist_ok=True)
    for path in (ws.examples, ws.train):
        kept = [row for row in rows if path == ws.examples or split_of(row.pair) == "train"]
        path.write_bytes(to_jsonl(kept))
    return ws


def test_a_writer_left_out_is_not_in_training_nor_is_what_nearly_asks_the_same(
    tmp_path: Path, rows: list[Example]
) -> None:
    asked = next(row for row in rows if row.source == "a3" and len(row.request) == 1)
    pair = next(name for name in map(str, range(99)) if split_of(name) == "train")
    copy = replace(asked, id="copy", pair=pair, source="a1")
    ws = run_folder(tmp_path, [*rows[::3], asked, copy])
    train, test, removed = orvane.fold_of(ws, ["a3"], AugmentSettings())
    assert {row.source for row in test} == {"a3"}
    assert "a3" not in {row.source for row in train}
    assert "copy" not in {row.id for row in train}
    assert removed >= 1
    variants = [row for row in train if row.chain]
    assert variants and not any(is_held_out(step) for row in variants for step in row.chain)
    lines = {line for row in test if row.reply for line in row.reply.splitlines() if len(line) > 60}
    assert not any(line in message.content for row in train for message in row.messages for line in lines)


def test_a_fold_without_harmless_rows_is_refused_by_name(tmp_path: Path, rows: list[Example]) -> None:
    ws = run_folder(tmp_path, rows[::3])
    with pytest.raises(SystemExit, match=r"--folds a1: harmful and harmless rows are needed to test"):
        orvane.fold_of(ws, ["a1"], AugmentSettings())


def test_by_pair_each_request_counts_once_and_every_reply() -> None:
    test = [
        example("a", "how?", "so"),
        example("b", "how?", "no", reply_harmful=False),
        example("b~1", "HOW?", "no", reply_harmful=False, chain=("noise:upper",)),
    ]
    cases = orvane.cases_of(test)
    own = {side: [case for case in those if case.kind != "traffic"] for side, those in cases.items()}
    assert [(case.id, case.kind) for case in own["input"]] == [("a", "plain"), ("b~1", "held-out transformations")]
    assert [(case.id, case.harmful) for case in own["output"]] == [("a", True), ("b", False), ("b~1", False)]
    assert {case.kind for case in cases["output"]} >= {"plain", "traffic"}


def test_errors_are_the_worst_of_each_side_once_for_each_pair() -> None:
    test = [example("a", "how?", "so"), example("a~1", "HOW?", "so", pair="a", chain=("noise:upper",))]
    test += [example("b", "what?", "well"), example("c", "when?", "now", harmful=False)]
    cases = orvane.cases_of(test)
    marks = {"a": -1.0, "a~1": -2.0, "b": 0.0, "c": 9.0}
    scores = {side: [marks.get(case.id, -5.0) for case in those] for side, those in cases.items()}
    lines = orvane.errors(cases, scores, count=2)
    for side in ("input", "output"):
        told = [(line["error"], line["id"]) for line in lines if line["side"] == side]
        assert told[:3] == [("miss", "a~1"), ("miss", "b"), ("false alarm", "c")]
        assert len(told) == 4


# --- intervals -------------------------------------------------------------------------------------------------------


def test_an_interval_moves_limit_and_rows_together_as_a_slow_resampling_does() -> None:
    draw = Random(5)
    harmful = [(f"p{n % 40}", draw.gauss(1.5, 1)) for n in range(80)]
    harmless = [(f"p{n % 60}", draw.gauss(0, 1)) for n in range(150)]
    names = sorted({name for name, _ in harmful + harmless})
    shares = []
    for _ in range(3000):
        chosen = draw.choices(names, k=len(names))
        good = sorted((score for name in chosen for other, score in harmless if other == name), reverse=True)
        bad = [score for name in chosen for other, score in harmful if other == name]
        shares.append(sum(score > good[int(0.05 * len(good) + 1e-9)] for score in bad) / len(bad))
    slow = sorted(shares)[int(0.025 * 3000)], sorted(shares)[int(0.975 * 3000)]
    found = intervals.tpr_interval(harmful, harmless, 0.05, resamples=3000)
    assert found == pytest.approx(slow, abs=0.03)


def test_an_interval_is_a_point_where_nothing_can_move_and_no_number_without_rows() -> None:
    apart = intervals.tpr_interval([("a", 5.0), ("b", 6.0)], [("c", 0.0), ("d", 1.0)], 0.01)
    assert apart == (1.0, 1.0)
    assert all(map(math.isnan, intervals.tpr_interval([], [("c", 0.0)], 0.01)))
    assert all(map(math.isnan, intervals.tpr_interval([("c", 0.0)], [], 0.01)))
