import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest
from evaluate_cases import LIMITS, traffic, workspace

from marbury.evaluate.page import embedded, figures, interval, percent, render, score
from marbury.evaluate.report import Report, load
from marbury.evaluate.stage import EvaluateSettings, run
from marbury.guard import ScriptedScorer
from marbury.metrics import rate

EVIL = '</script><script>alert("quillstone")</script><b>&'


def report(folder: Path, trigger: str = "silver") -> Report:
    ws = workspace(folder)
    run(ws, EvaluateSettings(traffic=str(traffic(folder))), ScriptedScorer(trigger), LIMITS)
    return load(ws.report)


class Outline(HTMLParser):
    """Which elements a page has, which places, and what they load."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.places: set[str] = set()
        self.loads: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = dict(attrs)
        self.places.add(named.get("id") or "")
        self.loads += [value for name, value in attrs if name in ("src", "href") and value]


def test_the_page_loads_nothing_and_has_a_place_for_every_plot(tmp_path: Path) -> None:
    found = report(tmp_path)
    outline = Outline(render(found))
    assert outline.loads == []
    assert outline.tags.count("script") == 2  # plotly once, and what draws
    assert set(figures(found)) <= outline.places


def test_texts_of_attacks_stay_texts(tmp_path: Path) -> None:
    found = report(tmp_path, "xyzzy")
    evil = [msgspec.structs.replace(row, request=EVIL, family=EVIL) for row in found.attacks]
    page = render(msgspec.structs.replace(found, title=EVIL, attacks=evil))
    assert "alert(" in page
    assert "<script>alert" not in page
    assert Outline(page).tags.count("script") == 2


def test_data_for_the_script_survives_the_way_there() -> None:
    text = embedded({"a": EVIL})
    assert "<" not in text
    assert json.loads(text) == {"a": EVIL}


def test_the_first_screen_has_the_three_answers(tmp_path: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", render(report(tmp_path)).split("The ladder")[0])
    text = re.sub(r"\s+", " ", text)
    for heading in ("What gets through", "What is refused", "What it costs"):
        assert heading in text
    assert "50.0 % 1 of 2; 9.5 to 90.5 %" in text


def test_the_page_lists_what_got_through_and_what_the_numbers_do_not_show(tmp_path: Path) -> None:
    page = render(report(tmp_path, "xyzzy"))
    assert page.count('class="attack"') == 5
    assert "fairy tale" in page


def test_an_empty_list_is_not_called_a_proof(tmp_path: Path) -> None:
    assert "not a proof" in render(report(tmp_path, ""))


def test_error_bars_span_the_interval(tmp_path: Path) -> None:
    found = report(tmp_path)
    bars = figures(found)["plot-ladder"]["data"][2]
    share = found.ladder["both"].by_kind["held-out"]
    at = list(found.ladder).index("both")
    assert bars["y"][at] == pytest.approx(100 * share.value)
    assert bars["y"][at] + bars["error_y"]["array"][at] == pytest.approx(100 * share.high)
    assert bars["y"][at] - bars["error_y"]["arrayminus"][at] == pytest.approx(100 * share.low)


def test_no_false_positive_stands_at_half_a_row_on_the_logarithmic_axis(tmp_path: Path) -> None:
    for line in figures(report(tmp_path))["plot-roc"]["data"]:
        assert min(line["x"]) > 0


def test_numbers_as_people_read_them() -> None:
    assert percent(rate(1, 3)) == "33.3\u00a0%"
    assert interval(rate(1, 3)) == "6.1 to 79.2\u00a0%"
    assert (percent(rate(0, 0)), interval(rate(0, 0))) == ("n/a", "nothing measured")
    assert (score(1.005), score(None)) == ("1.00", "–")
