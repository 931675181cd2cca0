"""The attack of the drill on the running server, and the page of the docs that is made of it."""

import importlib.util
from pathlib import Path
from types import ModuleType

from msgspec.structs import replace
from rig import LIMITS, served

from marbury.drill import Report, Target, Upstream, drill
from marbury.guard import Judge, ScriptedScorer
from marbury.serve import ServeSettings, create_app
from marbury.serve.protocols.endpoints import ENDPOINTS

ROOT = Path(__file__).parents[2]
WORD = "quillstone"


def generator() -> ModuleType:
    """scripts/guarded_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("guarded_docs", ROOT / "scripts" / "guarded_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def attacked() -> Report:
    async with Upstream().listening("127.0.0.1", 0) as upstream:
        settings = ServeSettings(upstream=upstream.url)
        app = create_app(Judge(ScriptedScorer(WORD), LIMITS), settings, journal=lambda _: None, drill=WORD)
        with served(app, settings) as url:
            return await drill(Target(url, WORD), upstream)


async def test_nothing_leaks_on_any_endpoint_and_the_docs_say_what_is_guarded() -> None:
    report, docs = await attacked(), generator()
    assert not report.failed
    drilled = {row.endpoint.replace(" ", "_") for row in report.rows if row.endpoint not in report.not_served}
    assert drilled == {endpoint.route for endpoint in ENDPOINTS}  # what is served is drilled
    assert docs.PAGE.read_text(encoding="utf-8") == docs.page(report), "run `make docs`"
    for verdict in ("leaked", "blocked", "unproven"):  # what is open would stand out
        rows = [replace(row, verdict=verdict) if row.where == "suffix" else row for row in report.rows]
        assert f"| in a request | suffix | **{verdict}** | **{verdict}** |" in docs.page(replace(report, rows=rows))
