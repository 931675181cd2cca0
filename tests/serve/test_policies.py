import asyncio
import json
import signal
import threading

import pytest
from openai import AsyncOpenAI
from rig import ASK, LIMITS, Proxy, eventually, http, proxy, served, tale, upstream

from marbury.guard import Judge, ScriptedScorer
from marbury.serve import Policies, ServeSettings, create_app, policies
from marbury.serve.journal import Entry
from marbury.serve.run import Draining, config

STORY = "Once there was a forbidden mist in a valley"


async def ask(served: Proxy, key: str = "client-key") -> str:
    """What a stream says, its last finish reason in brackets."""
    said, finish = "", None
    async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0) as client:
        async for chunk in await client.chat.completions.create(model="m", messages=ASK, stream=True):
            said += chunk.choices[0].delta.content or ""
            finish = chunk.choices[0].finish_reason or finish
    return f"{said} [{finish}]"


async def test_a_candidate_watches_and_changes_nothing() -> None:
    with proxy(tale(STORY), scorer=ScriptedScorer("dragon"), candidate=(ScriptedScorer("mist"), 0)) as guarded:
        assert await ask(guarded) == f"{STORY} [stop]"
        row = guarded.rows()[0]
        assert (row.policy, row.candidate, row.outcome) == ("abc123", False, "passed")
        assert row.beside is not None and row.beside.policy == "new456"
        assert row.beside.input is not None and not row.beside.input.flagged
        assert [output.verdict.flagged for output in row.beside.outputs] == [True]
        text = (await http("GET", f"{guarded.url}/metrics"))[2].decode()
        assert 'marbury_beside_decisions_total{flagged="true",stage="output"} 1.0' in text


async def test_a_candidate_that_fails_changes_nothing_and_is_told() -> None:
    other = ScriptedScorer("x")
    with proxy(tale(STORY), scorer=ScriptedScorer("dragon"), candidate=(other, 0)) as guarded:
        other.fails_at = other.steps + 3
        assert await ask(guarded) == f"{STORY} [stop]"
        row = guarded.rows()[0]
        assert row.beside is not None and "failed" in (row.beside.error or "")
        assert not row.judging_failed and row.error is None


async def test_a_candidate_decides_for_its_share_of_accounts_and_always_for_the_same() -> None:
    scorers = ScriptedScorer("dragon"), ScriptedScorer("mist")
    with proxy(tale(STORY), scorer=scorers[0], candidate=(scorers[1], 50)) as guarded:
        keys = [f"key-{number}" for number in range(12)]
        first = [await ask(guarded, key) for key in keys]
        assert first == [await ask(guarded, key) for key in keys]
        assert set(first) == {f"{STORY} [stop]", "Once there was a forbidden [content_filter]"}
        rows = guarded.rows(24)
        assert [row.candidate for row in rows[:12]] == [said.endswith("[content_filter]") for said in first]
        assert {row.policy for row in rows if row.candidate} == {"new456"}
        eventually(lambda: scorers[0].open == scorers[1].open == 0)


async def test_a_new_guard_takes_over_and_no_stream_is_dropped() -> None:
    made: list[ScriptedScorer] = []

    def make() -> Judge:
        made.append(ScriptedScorer("dragon" if not made else "mist"))
        return Judge(made[-1], LIMITS, version=f"v{len(made)}")

    journal: list[Entry] = []
    with upstream(pieces=tale(STORY), delay_s=0.05) as behind:
        app = create_app(Policies(make), settings := ServeSettings(upstream=behind.url), journal=journal.append)
        service = app.state.service
        with served(app, settings) as url:
            eventually(lambda: service.judge is not None)
            guarded = Proxy(url, behind, made[0], service, journal)
            old, before = service.judge, asyncio.create_task(ask(guarded))
            await asyncio.sleep(0.2)
            swap = asyncio.run_coroutine_threadsafe(service.policies.reload(), old_loop(service))
            await asyncio.wrap_future(swap)
            assert service.judge is not old
            assert await ask(guarded) == "Once there was a forbidden [content_filter]"
            assert await before == f"{STORY} [stop]"
            eventually(lambda: len(journal) == 2)  # a row is written after its answer has ended
            assert [row.policy for row in sorted(journal, key=lambda row: row.time)] == ["v1", "v2"]
            eventually(lambda: not service.policies._retired)
            assert "marbury_policy_swaps 1.0" in (await http("GET", f"{url}/metrics"))[2].decode()


def old_loop(service: object) -> asyncio.AbstractEventLoop:
    """The loop in which the service runs."""
    return service._loading.get_loop()  # type: ignore[attr-defined, no-any-return]


async def test_the_old_guard_stays_where_the_new_one_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "LOOK_S", 0.02)
    stamps, tries = [b"a"], list[int]()

    def make() -> Judge:
        tries.append(len(tries))
        if len(tries) == 2:
            raise RuntimeError("half written")
        return Judge(ScriptedScorer("mist"), LIMITS, version=f"v{len(tries)}")

    with upstream(pieces=tale(STORY)) as behind:
        live = Policies(make, stamp=lambda: stamps[0])
        app = create_app(live, settings := ServeSettings(upstream=behind.url), journal=lambda entry: None)
        with served(app, settings) as url:
            eventually(lambda: live.judge is not None)
            await asyncio.sleep(0.1)
            assert len(tries) == 1
            stamps[0] = b"b"
            eventually(lambda: live.failure is not None)
            ready = json.loads((await http("GET", f"{url}/readyz"))[2])
            assert ready["constitution"] == "v1" and "RuntimeError" in ready["newer"]
            stamps[0] = b"c"
            eventually(lambda: live.swaps == 1)
            ready = json.loads((await http("GET", f"{url}/readyz"))[2])
            assert ready["constitution"] == "v3" and "newer" not in ready


async def test_more_requests_than_allowed_are_turned_away() -> None:
    with proxy(tale(STORY), delay_s=0.05, scorer=ScriptedScorer("x"), serve={"max_streams": 2}) as guarded:
        under_way = [asyncio.create_task(ask(guarded)) for _ in range(2)]
        eventually_active = asyncio.create_task(asyncio.to_thread(eventually, lambda: guarded.service.active == 2))
        await eventually_active
        body = {"model": "m", "messages": ASK}
        status, headers, text = await http("POST", f"{guarded.url}/v1/chat/completions", json=body)
        assert (status, json.loads(text)["error"]["code"], headers["retry-after"]) == (429, "overloaded", "1")
        assert [await task for task in under_way] == [f"{STORY} [stop]"] * 2
        assert await ask(guarded) == f"{STORY} [stop]"
        assert [row.outcome for row in guarded.rows(4)].count("overloaded") == 1


async def test_a_request_may_not_take_for_ever() -> None:
    with proxy(tale(STORY), delay_s=0.2, scorer=ScriptedScorer("x"), serve={"max_seconds": 0.5}) as guarded:
        with pytest.raises(Exception, match="took too long"):
            await ask(guarded)
        assert guarded.rows()[0].outcome == "timeout"
        assert guarded.upstream.left.wait(5)


async def test_a_guard_that_fails_open_says_so_everywhere() -> None:
    with proxy(tale(STORY), fail_open=True) as guarded:
        guarded.scorer.fails_at = 2
        assert await ask(guarded) == f"{STORY} [stop]"
        row = guarded.rows()[0]
        assert row.passed_unread and row.judging_failed and "failed" in (row.error or "")
        assert json.loads((await http("GET", f"{guarded.url}/readyz"))[2])["on_error"] == "open"
        assert "marbury_passed_unread_total 1.0" in (await http("GET", f"{guarded.url}/metrics"))[2].decode()


async def test_a_stop_signal_lets_streams_end_and_sends_others_away() -> None:
    with upstream(pieces=tale(STORY), delay_s=0.05) as behind:
        settings = ServeSettings(upstream=behind.url, port=0, drain_s=5)
        app = create_app(Judge(ScriptedScorer("x"), LIMITS), settings, journal=lambda entry: None)
        server = Draining(config(app, settings))
        server.service = app.state.service
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            eventually(lambda: server.started and app.state.service.judge is not None)
            port = server.servers[0].sockets[0].getsockname()[1]
            guarded = Proxy(f"http://127.0.0.1:{port}", behind, ScriptedScorer("x"), app.state.service, [])
            talking = asyncio.create_task(ask(guarded))
            await asyncio.to_thread(eventually, lambda: app.state.service.active == 1)
            server.handle_exit(signal.SIGTERM, None)
            assert app.state.service.draining
            assert await talking == f"{STORY} [stop]"
        finally:
            server.should_exit = True
            thread.join(10)
        assert not thread.is_alive()
