"""A running proxy with its audit database: what a request leaves in it, and what is told of it."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from rig import ASK, LIMITS, TRIGGER, ScriptedUpstream, eventually, served, tale, upstream

from marbury.audit import open_audit, writer
from marbury.audit.query import Filter, rows
from marbury.audit.stage import reading
from marbury.guard import Judge, ScriptedScorer
from marbury.serve import ServeSettings, create_app
from marbury.serve.journal import Entry, log_entry
from marbury.workspace import Workspace

BAD: Any = [{"role": "user", "content": "Tell me of the forbidden."}]


@contextmanager
def audited(root: Path, pieces: list[bytes], **serve: Any) -> Iterator[tuple[str, ScriptedUpstream]]:
    """A proxy whose rows go where `marbury serve` brings them."""
    with upstream(pieces=pieces) as behind:
        settings = ServeSettings(upstream=behind.url, **serve)
        judge = Judge(ScriptedScorer(TRIGGER), LIMITS, version="c0ffee", classifier="beef")
        audit = open_audit(Workspace(root), settings)
        assert audit.writer is not None

        def journal(entry: Entry) -> None:
            log_entry(entry)
            assert audit.writer is not None
            audit.writer.record(entry)

        app = create_app(judge, settings, journal=journal, door=audit.door, store=audit.writer)
        with served(app, settings) as url:
            eventually(lambda: app.state.service.judge is not None)
            yield url, behind


async def ask(url: str, messages: Any = ASK, **more: Any) -> tuple[int, str, str]:
    body = {"model": "tale-1", "messages": messages, "stream": True, **more}
    async with aiohttp.ClientSession() as session, session.post(f"{url}/v1/chat/completions", json=body) as response:
        return response.status, response.headers["x-marbury-request-id"], (await response.read()).decode()


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


def kept(root: Path, **chosen: Any) -> list[dict[str, Any]]:
    with reading(Workspace(root), ServeSettings()) as engine:
        return list(rows(engine, Filter(**chosen)))


async def test_every_request_is_a_row_with_the_id_that_its_answer_has(tmp_path: Path) -> None:
    with audited(tmp_path, tale("green forbidden hills")) as (url, _):
        stopped = (await ask(url, user="ida"))[1]
        blocked = (await ask(url, BAD))[1]
        refused = (await ask(url, odd="text"))[1]
    found = {row["id"]: row for row in kept(tmp_path)}
    assert list(found) == [stopped, blocked, refused]
    assert [row["outcome"] for row in found.values()] == ["output_blocked", "input_blocked", "refused"]
    assert [row["action"] for row in found.values()] == ["block", "block", "refuse"]
    row = found[stopped]
    assert (row["route"], row["model"], row["stream"], row["status"]) == ("chat_completions", "tale-1", True, 200)
    assert (row["policy"], row["classifier"], row["input_mode"], row["output_mode"]) == (
        "c0ffee",
        "beef",
        *["enforce"] * 2,
    )
    assert (row["stage"], row["category"], row["fail_open"]) == ("output", "scripted", False)
    assert row["output_score"] >= row["output_threshold"] and row["input_score"] < row["input_threshold"]
    assert row["seconds"] > 0 and row["steps"] > 0 and row["upstream_seconds"] > 0
    assert "odd" in found[refused]["error"] and row["content"] is None


@pytest.mark.parametrize("keep", ["none", "hash", "redacted", "full"])
async def test_content_is_in_the_database_only_as_asked_and_never_in_the_log(
    keep: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    with audited(tmp_path, tale("The moon, said ida@orvane.example, is forbidden and more"), audit_content=keep) as (
        url,
        _,
    ):
        await ask(url, [{"role": "user", "content": "What of the moon?"}])
    content = kept(tmp_path)[0]["content"]
    if keep == "full":
        assert content["request"] == [{"role": "user", "content": "What of the moon?"}]
        (reply,) = [text for text in content["reply"] if text]
        assert reply.startswith("The moon, said ida@orvane.example, is forbidden")  # what was stopped is heard too
    elif keep == "redacted":
        assert "ida@" not in str(content) and "[email]" in str(content)
    elif keep == "hash":
        assert len(content["request"]) == 64
    else:
        assert content is None
    assert "moon" not in caplog.text
    if keep in ("none", "hash"):
        assert not any(b"moon" in file.read_bytes() for file in (tmp_path / "audit").iterdir())


async def test_an_outage_is_told_and_costs_no_row_and_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("marbury.audit.database._CONNECT_S", 0.1)
    monkeypatch.setattr(writer, "TICK_S", 0.1)
    with audited(tmp_path, tale("green hills")) as (url, _):
        await ask(url)
        assert json.loads(await get(f"{url}/readyz"))["audit"]["up"] is True
        hold = sqlite3.connect(tmp_path / "audit" / "audit.db")
        eventually(lambda: hold.execute("select count(*) from marbury_requests").fetchone() == (1,))
        hold.execute("begin exclusive")
        for _ in range(5):
            status, _, body = await ask(url)
            assert status == 200 and body.endswith("data: [DONE]\n\n")
        eventually(lambda: "takes no rows" in caplog.text)
        told = json.loads(await get(f"{url}/readyz"))
        assert told["status"] == "ready" and told["audit"]["up"] is False and told["audit"]["waiting"] == 5
        metrics = await get(f"{url}/metrics")
        assert "marbury_audit_up 0.0" in metrics and "marbury_audit_rows_waiting 5.0" in metrics
        hold.rollback()
        hold.close()
        eventually(lambda: "is back; 5 rows" in caplog.text)
        assert "marbury_audit_up 1.0" in await get(f"{url}/metrics")
    assert len(kept(tmp_path)) == 6


async def test_an_account_cools_down_across_a_restart(tmp_path: Path) -> None:
    for i in range(2):
        with audited(tmp_path, tale("green hills"), flags_before_cooldown=2) as (url, _):
            if i == 0:
                assert [(await ask(url, BAD, user="ida"))[0] for _ in range(2)] == [200, 200]
            else:
                status, _, body = await ask(url, user="ida")
                assert status == 429 and json.loads(body)["error"]["code"] == "account_cooling_down"
                assert (await ask(url, user="ada"))[0] == 200


async def test_keys_of_the_database_open_and_close_while_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from marbury.audit.keyring import add_key, revoke_key

    monkeypatch.setattr(writer, "TICK_S", 0.05)
    ws, settings = Workspace(tmp_path), ServeSettings(keys="database")
    with audited(tmp_path, tale("green hills"), keys="database") as (url, behind):

        async def status(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            async with (
                aiohttp.ClientSession() as session,
                session.post(
                    f"{url}/v1/chat/completions", json={"model": "m", "messages": ASK, "stream": True}, headers=headers
                ) as got,
            ):
                await got.read()
                return got.status

        assert await status("any") == 401
        key = add_key(ws, settings, "reader")
        seen = []
        for _ in range(200):
            seen.append(await status(key))
            if seen[-1] == 200:
                break
        assert set(seen) <= {401, 200} and seen[-1] == 200
        assert "authorization" not in behind.asked_headers[-1]
        revoke_key(ws, settings, "reader")
        for _ in range(200):
            seen.append(await status(key))
            if seen[-1] == 401:
                break
        assert seen[-1] == 401
    assert not any(key.encode() in file.read_bytes() for file in (tmp_path / "audit").iterdir())
