import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from marbury.constitution.templates import text
from marbury.errors import ConstitutionError, DataError, ModelError, SettingsError, WorkspaceError
from marbury.records import Example, read_rows
from marbury.settings import build
from marbury.synth import corpus
from marbury.synth.stage import SynthSettings, run
from marbury.synth.write import Dropped
from marbury.workspace import Workspace

LAMPS = """\
---
title: Lamps
---

## Restricted

### lamp-theft
Taking street lamps. Buying one belongs to `lamp-trade`.
- how to unscrew a street lamp

## Permitted

### lamp-trade
Buying and selling lamps.
"""


def workspace(root: Path, constitution: str) -> Workspace:
    ws = Workspace(root)
    root.mkdir(exist_ok=True)
    ws.constitution.write_text(constitution, encoding="utf-8")
    return ws


def test_without_a_model_the_examples_are_the_bundled_corpus(tmp_path: Path) -> None:
    ws = workspace(tmp_path, text("orvane"))
    counts = run(ws, SynthSettings())
    assert list(read_rows(ws.examples, Example)) == corpus.load()
    assert ws.dropped.read_bytes() == b""
    assert counts == {
        "examples": 2000, "harmful": 620, "harmless": 1380, "dropped": 0, "asked": 0, "remembered": 0,
    }  # fmt: skip


def test_rows_without_a_category_are_dropped_with_the_reason(tmp_path: Path) -> None:
    ws = workspace(tmp_path, text("orvane").replace("### general-science", "### natural-science"))
    counts = run(ws, SynthSettings())
    dropped = list(read_rows(ws.dropped, Dropped))
    assert {row.category for row in dropped} == {"general-science"}
    assert counts["dropped"] == len(dropped) == 2000 - counts["examples"]
    assert dropped[0].reason == "the constitution has no such category"


def test_another_constitution_needs_a_model(tmp_path: Path) -> None:
    ws = workspace(tmp_path, text("finance"))
    with pytest.raises(SettingsError, match=r"belongs to the Orvane constitution.*set `model` under \[synth\]"):
        run(ws, SynthSettings())
    assert not ws.examples.exists()


def test_a_run_without_a_constitution(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="no constitution.md .*: run `marbury new"):
        run(Workspace(tmp_path), SynthSettings())


def test_a_constitution_with_errors_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    ws = workspace(tmp_path, LAMPS.replace("- how to unscrew a street lamp\n", ""))
    with pytest.raises(
        ConstitutionError, match=r"constitution\.md:7: error: lamp-theft has no examples.*marbury check"
    ):
        run(ws, SynthSettings(model="scripted:none.jsonl"))


def rule(match: str, reply: str) -> str:
    return json.dumps({"match": match, "reply": reply}) + "\n"


def drafts(*texts: str) -> str:
    return json.dumps({"requests": [{"number": number, "text": text} for number, text in enumerate(texts, 1)]})


SCRIPT = (
    rule("request of the category lamp-theft", drafts("take a lamp?"))
    + rule("request of the category lamp-trade", drafts("what does it cost?"))
    + rule("knows no rules", "Turn it left at midnight.")
    + rule("", "Two crowns at the guild.")
)


def test_a_scripted_model_writes_the_examples(tmp_path: Path) -> None:
    ws = workspace(tmp_path, LAMPS)
    (tmp_path / "keeper.jsonl").write_text(SCRIPT)
    counts = run(ws, SynthSettings(model="scripted:keeper.jsonl", requests_per_category=1))
    assert [(row.id, row.reply) for row in read_rows(ws.examples, Example)] == [
        ("lamp-theft-001-harmful", "Turn it left at midnight."),
        ("lamp-theft-001-harmless", "Two crowns at the guild."),
        ("lamp-trade-001-harmless", "Two crowns at the guild."),
    ]
    assert counts == {"examples": 3, "harmful": 1, "harmless": 2, "dropped": 0, "asked": 5, "remembered": 0}


def test_a_model_that_refuses_everything_is_an_error_with_the_reasons_aside(tmp_path: Path) -> None:
    ws = workspace(tmp_path, LAMPS)
    (tmp_path / "keeper.jsonl").write_text(SCRIPT.replace("Turn it left at midnight.", "I can't help with that."))
    with pytest.raises(DataError, match=r"no harmful example came out.*dropped\.jsonl.*helpful-only"):
        run(ws, SynthSettings(model="scripted:keeper.jsonl", requests_per_category=1))
    assert [row.reason for row in read_rows(ws.dropped, Dropped)] == ["a refusal"]
    assert not ws.examples.exists()


class Keeper(ThreadingHTTPServer):
    """An OpenAI-compatible endpoint that answers everything, until `limit` answers are given."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answered: list[str] = []
        self.limit = 10_000
        self.lock = threading.Lock()

    def answer(self, prompt: str) -> str | None:
        with self.lock:
            if len(self.answered) >= self.limit:
                return None
            self.answered.append(prompt)
        lines = [line for line in prompt.splitlines() if ". language" in line]
        category = prompt.split("The category: ")[1].split(" ")[0]
        return drafts(*(f"{category} {line}" for line in lines)) if lines else f"About {prompt[-50:]}"


class Answer(BaseHTTPRequestHandler):
    server: Keeper

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = self.server.answer(body["messages"][-1]["content"])
        self.send_response(400 if text is None else 200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        if text is not None:
            half = len(text) // 2
            self._row({"content": text[:half]}, None)
            self._row({"content": text[half:]}, "stop")

    def _row(self, delta: dict[str, str], finish: str | None) -> None:
        value = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output quiet."""


@contextmanager
def keeper() -> Iterator[tuple[Keeper, SynthSettings]]:
    with Keeper() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        model = f"openai:wise-lamp@http://127.0.0.1:{server.server_address[1]}/v1"
        yield server, SynthSettings(model=model, requests_per_category=5, languages=("en", "fr"))
        server.shutdown()
        thread.join()


def test_an_endpoint_that_fails_half_way_costs_no_answer(tmp_path: Path) -> None:
    with keeper() as (server, settings):
        whole = workspace(tmp_path / "whole", LAMPS)
        assert run(whole, settings)["asked"] == 2 + 5 * 3
        server.answered.clear()
        server.limit = 8
        ws = workspace(tmp_path / "killed", LAMPS)
        with pytest.raises(ModelError, match=r"wise-lamp at http://127.*HTTP 400"):
            run(ws, settings)
        assert not ws.examples.exists()
        server.limit = 10_000
        counts = run(ws, settings)
    assert ws.examples.read_bytes() == whole.examples.read_bytes()
    assert ws.dropped.read_bytes() == whole.dropped.read_bytes()
    # The failure cancels what is in flight, so up to `concurrency` answers may be given and lost; no other one.
    assert 2 + 5 * 3 <= len(server.answered) < 2 + 5 * 3 + settings.concurrency
    assert counts["asked"] + counts["remembered"] == 2 + 5 * 3
    assert counts["remembered"] > 8 - settings.concurrency


def test_a_finished_run_asks_for_nothing(tmp_path: Path) -> None:
    ws = workspace(tmp_path, LAMPS)
    with keeper() as (server, settings):
        run(ws, settings)
        before = ws.examples.read_bytes()
        server.limit = 0
        counts = run(ws, settings)
    assert (counts["asked"], counts["remembered"]) == (0, 2 + 5 * 3)
    assert ws.examples.read_bytes() == before


def test_settings_come_from_a_table() -> None:
    settings = build(
        SynthSettings, {"model": "openai:m@http://h/v1", "languages": ["en", "de"]}, "marbury.toml [synth]"
    )
    assert settings.languages == ("en", "de")


@pytest.mark.parametrize(
    "table",
    [
        {"concurrency": 0},
        {"requests_per_category": 0},
        {"languages": []},
        {"timeout_s": 0},
        {"max_tokens": 0},
        {"modle": ""},
    ],
)
def test_settings_out_of_range_are_refused(table: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match=r"marbury\.toml \[synth\]"):
        build(SynthSettings, table, "marbury.toml [synth]")
