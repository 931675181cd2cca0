"""A server whose classifiers were swapped for a word: it says so everywhere, and a drill finds where it is open."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from rig import ASK, LIMITS, eventually, served, tale, upstream

from marbury.drill import Report, Target, Upstream, drill
from marbury.drill.endpoints.chat import CHAT
from marbury.guard import Judge, Mode, ScriptedScorer
from marbury.serve import ServeSettings, create_app
from marbury.serve.journal import Entry

WORD = "quillstone"


@contextmanager
def drill_server(word: str) -> Iterator[tuple[str, list[Entry]]]:
    rows: list[Entry] = []
    with upstream(pieces=tale(f"The lamp says {word} twice")) as behind:
        settings = ServeSettings(upstream=behind.url)
        app = create_app(Judge(ScriptedScorer(word), LIMITS), settings, journal=rows.append, drill=word)
        with served(app, settings) as url:
            eventually(lambda: app.state.service.judge is not None)
            yield url, rows


def answer(url: str, body: object = None) -> tuple[int, dict[str, str], bytes]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data)) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


@pytest.mark.parametrize(("word", "header"), [("Quillstone", "Quillstone"), ("käse\t", "k%C3%A4se%09")])
def test_every_answer_bears_the_word(word: str, header: str) -> None:
    ask = {"model": "m", "messages": ASK, "stream": True}
    with drill_server(word) as (url, _):
        answers = [answer(f"{url}{path}") for path in ("/healthz", "/readyz", "/metrics", "/v1/models", "/nowhere")]
        answers += [answer(f"{url}/v1/chat/completions", body) for body in (ask, ask | {"messages": 3}, "no request")]
    assert {status for status, *_ in answers} >= {200, 400, 404}
    assert [headers.get("x-marbury-drill") for _, headers, _ in answers] == [header] * len(answers)


def test_readyz_and_every_row_name_the_word() -> None:
    with drill_server("quillstone") as (url, rows):
        assert json.loads(answer(f"{url}/readyz")[2])["drill"] == "quillstone"
        _, _, said = answer(f"{url}/v1/chat/completions", {"model": "m", "messages": ASK, "stream": True})
        answer(f"{url}/v1/chat/completions", {"model": "m"})
        eventually(lambda: len(rows) == 2)
    assert b"lamp" in said and b"quillstone" not in said and b"twice" not in said
    assert [row.drill for row in rows] == ["quillstone"] * 2


def test_a_guard_at_work_bears_no_mark() -> None:
    with drill_server("") as (url, rows):
        _, headers, body = answer(f"{url}/readyz")
        answer(f"{url}/v1/chat/completions", {"model": "m"})
        eventually(lambda: len(rows) == 1)
    assert "x-marbury-drill" not in headers and "drill" not in json.loads(body) and rows[0].drill is None


async def report_on(scorer: ScriptedScorer, input_mode: Mode = "enforce", output_mode: Mode = "enforce") -> Report:
    async with Upstream().listening("127.0.0.1", 0) as upstream:
        settings = ServeSettings(upstream=upstream.url)
        judge = Judge(scorer, LIMITS, input_mode=input_mode, output_mode=output_mode)
        with served(create_app(judge, settings, journal=lambda _: None, drill=WORD), settings) as url:
            return await drill(Target(url, WORD), upstream, endpoints=(CHAT,))


def verdicts(report: Report, **fields: Any) -> set[str]:
    return {row.verdict for row in report.rows if all(getattr(row, name) == v for name, v in fields.items())}


@pytest.mark.parametrize("side", ["request", "reply"])
async def test_a_side_in_shadow_is_found_out(side: str) -> None:
    modes: dict[str, Any] = {"input_mode" if side == "request" else "output_mode": "shadow"}
    report = await report_on(ScriptedScorer(WORD), **modes)
    assert report.failed
    assert verdicts(report, kind=side) == {"leaked"}
    assert verdicts(report, kind="reply" if side == "request" else "request") == {"ok"}


@pytest.mark.parametrize("how", ["fails_at", "nan_at"])
async def test_a_scorer_that_fails_on_the_way_lets_nothing_through(how: str) -> None:
    class Failing(ScriptedScorer):
        """Fails at every 40th step."""

        def score(self, step: int, end: int, flagged: bool) -> Any:
            if step and step % 40 == 0:
                setattr(self, how, step)
            return super().score(step, end, flagged)

    report = await report_on(Failing(WORD))
    assert "leaked" not in {row.verdict for row in report.rows}
    assert {"error event", "HTTP 503"} <= {row.ended for row in report.rows}
