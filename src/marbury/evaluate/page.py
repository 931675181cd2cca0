"""One HTML page of a report that works without a network: plotly's script is inside, once.

Texts of attacks are strangers' texts; the template escapes everything, and data for the script has no `<`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from marbury.evaluate.attacks import KINDS, codes_of
from marbury.evaluate.measures import CONFIGURATIONS, Curve
from marbury.evaluate.report import Report
from marbury.metrics import Rate

Figure = dict[str, Any]

KIND_TITLES = {"plain": "plain attacks", "known": "known transformations", "held-out": "held-out transformations"}
CURVE_TITLES = {"input": "input side", "output": "output side", "reply": "output side, reply alone tells"}
SHORT_TITLES = {
    name: title.partition(" classifier")[0].removesuffix(" model") for name, title in CONFIGURATIONS.items()
}
_NBSP = "\u00a0"
_BINS = 40
LISTED = 200  # attacks that got through, at most; and how much of each is shown
_COLOURS = ("@c1", "@c2", "@c3")  # the script replaces them by the colours of the reader's light or dark theme


def render(report: Report) -> str:
    """The page."""
    from plotly.offline import get_plotlyjs  # takes a while to import

    places = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined)
    places.trim_blocks = places.lstrip_blocks = True
    places.filters.update(percent=percent, interval=interval, score=score)
    through = [row for row in report.attacks if row.outcomes["both"].success]
    return places.get_template("page.html.j2").render(
        report=report,
        guarded=report.ladder["both"],
        kinds=KIND_TITLES,
        configurations=CONFIGURATIONS,
        short=SHORT_TITLES,
        curve_titles=CURVE_TITLES,
        through=through[:LISTED],
        through_total=len(through),
        shown=LISTED,
        held=_held(report),
        figures=embedded(figures(report)),
        plotly=Markup(get_plotlyjs()),
    )


def percent(rate: Rate) -> str:
    """A share as people read it."""
    return f"{100 * rate.value:.1f}{_NBSP}%" if rate.total else "n/a"


def interval(rate: Rate) -> str:
    """The 95 % interval of a share, in per cent."""
    return f"{100 * rate.low:.1f} to {100 * rate.high:.1f}{_NBSP}%" if rate.total else "nothing measured"


def score(value: float | None) -> str:
    """A logit as people read it."""
    return "–" if value is None else f"{value:.2f}"


def embedded(value: object) -> Markup:
    """JSON that can stand inside a script element."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _held(report: Report) -> int:
    """The most characters held back at once while an answer streamed word by word; coded ones come in larger parts."""
    return max((row.held for row in report.attacks if not codes_of(row.chain)), default=0)


def figures(report: Report) -> dict[str, Figure]:
    """The plots by the id of their place."""
    limits = report.thresholds
    return {
        "plot-ladder": _ladder(report),
        "plot-roc": _roc(report.curves),
        "plot-input": _histogram(
            {
                "attacks": [row.input_score for row in report.attacks],
                "harmless": [row.input_score for row in report.harmless],
            },
            [limits["input_single"], limits["input_multi"]],
        ),
        "plot-output": _histogram(
            {
                "answers to attacks": [row.output_score for row in report.attacks],
                "harmless replies": [row.output_score for row in report.harmless],
            },
            [limits["output_single"], limits["output_multi"]],
        ),
        "plot-leak": _leak(report),
        "plot-details": _leaked_details(report),
    }


def _ladder(report: Report) -> Figure:
    """Attack success by configuration and kind, with intervals."""
    bars = []
    for colour, kind in zip(_COLOURS, KINDS, strict=True):
        rates = [rung.by_kind[kind] for rung in report.ladder.values()]
        bars.append(
            {
                "type": "bar",
                "name": KIND_TITLES[kind],
                "x": [SHORT_TITLES[name] for name in report.ladder],
                "y": [100 * rate.value for rate in rates],
                "customdata": [[rate.hits, rate.total] for rate in rates],
                "hovertemplate": "%{customdata[0]} of %{customdata[1]} (%{y:.1f} %)<extra>%{fullData.name}</extra>",
                "marker": {"color": colour},
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (rate.high - rate.value) for rate in rates],
                    "arrayminus": [100 * (rate.value - rate.low) for rate in rates],
                    "color": "@ink",
                    "thickness": 1,
                    "width": 3,
                },
            }
        )
    axes = {"yaxis": {"title": {"text": "attacks that succeed, %"}, "range": [0, 104]}, "xaxis": {"fixedrange": True}}
    return {"data": bars, "layout": {"barmode": "group", **axes}}


def _roc(curves: dict[str, Curve]) -> Figure:
    """True against false positives, the latter on a logarithmic axis; zero stands at half a row."""
    lines: list[Figure] = []
    least = 1.0
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=True):
        if not curve.points:
            continue
        zero = 0.5 / curve.harmless
        least = min(least, zero)
        shares = curve.points["fpr"]
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": CURVE_TITLES[name],
                "x": [max(share, zero) for share in shares],
                "y": [100 * share for share in curve.points["tpr"]],
                "customdata": [round(share * curve.harmless) for share in shares],
                "hovertemplate": f"%{{y:.1f}} % at %{{customdata}} of {curve.harmless}",
                "line": {"color": colour, "width": 2, "shape": "hv"},
            }
        )
    return {
        "data": lines,
        "layout": {
            "xaxis": {
                "type": "log",
                "title": {"text": "false positives"},
                "tickvals": [0.0001, 0.001, 0.01, 0.1, 1],
                "ticktext": ["0.01 %", "0.1 %", "1 %", "10 %", "100 %"],
            },
            "yaxis": {"title": {"text": "true positives, %"}, "range": [0, 102]},
        },
    }


def _histogram(groups: dict[str, list[float | None]], limits: Sequence[float | None]) -> Figure:
    """Scores of two groups over each other, in the same bins, with the limits as lines."""
    scores = [value for values in groups.values() for value in values if value is not None]
    low, high = min(scores, default=0.0), max(scores, default=1.0)
    bins = {"start": low, "end": high + (high - low) / _BINS, "size": (high - low) / _BINS or 1.0}
    data = [
        {
            "type": "histogram",
            "name": name,
            "x": [value for value in values if value is not None],
            "xbins": bins,
            "opacity": 0.65,
            "marker": {"color": colour},
            "hovertemplate": "%{y} rows at %{x}<extra>%{fullData.name}</extra>",
        }
        for colour, (name, values) in zip(("@bad", "@good"), groups.items(), strict=True)
    ]
    lines: list[Figure] = [
        {
            "type": "line",
            "x0": value,
            "x1": value,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"color": "@ink", "width": 1.5, "dash": dash},
        }
        for dash, value in zip(("solid", "dot"), limits, strict=True)
        if value is not None
    ]
    axes = {"xaxis": {"title": {"text": "highest logit"}}, "yaxis": {"title": {"text": "rows"}}}
    return {"data": data, "layout": {"barmode": "overlay", "shapes": lines, **axes}}


def _stopped(report: Report, configuration: str) -> Sequence[tuple[int, int, int]]:
    """Released characters, released details and all details of the attacks that the output side stopped."""
    outcomes = [(row, row.outcomes[name]) for row in report.attacks for name in row.outcomes if name == configuration]
    return [(o.released, o.details, row.details) for row, o in outcomes if o.stage == "output"]


def _leak(report: Report) -> Figure:
    """How much text had gone out when the output classifier stopped a reply."""
    values = [released for released, _, _ in _stopped(report, "output")]
    data = [
        {
            "type": "histogram",
            "name": "stopped replies",
            "x": values,
            "nbinsx": 30,
            "marker": {"color": "@c1"},
            "hovertemplate": "%{y} replies, %{x} characters<extra></extra>",
        }
    ]
    axes = {"xaxis": {"title": {"text": "characters before the stop"}}, "yaxis": {"title": {"text": "replies"}}}
    return {"data": data, "layout": {"showlegend": False, **axes}}


def _leaked_details(report: Report) -> Figure:
    """How many details had gone out when the output classifier stopped a reply."""
    counts = [details for _, details, _ in _stopped(report, "output")]
    values = list(range(max(counts, default=0) + 1))
    data = [
        {
            "type": "bar",
            "name": "stopped replies",
            "x": values,
            "y": [counts.count(value) for value in values],
            "marker": {"color": "@c1"},
            "hovertemplate": "%{y} replies, %{x} details<extra></extra>",
        }
    ]
    axes = {
        "xaxis": {"title": {"text": "details before the stop"}, "dtick": 1},
        "yaxis": {"title": {"text": "replies"}},
    }
    return {"data": data, "layout": {"showlegend": False, **axes}}
