"""The drill against guards that are open, honest, leaky, closed and out of order."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from guards import WORD, PassOn, content, drilled, ending, events, leaks, rows, strings, values

from marbury.drill import Target, Upstream, drill
from marbury.drill.cases import SWITCHES
from marbury.drill.endpoints.chat import CHAT
from marbury.drill.endpoints.endpoint import Endpoint
from marbury.drill.endpoints.table import ENDPOINTS
from marbury.drill.heard import heard
from marbury.errors import ModelError


class ReadsRequests(PassOn):
    """Refuses a request that has the word anywhere."""

    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        if any(WORD in text.casefold() for text in strings(asked)):
            error = {"message": "no", "code": "content_filter"}
            return web.json_response({"error": error}, status=400)
        return None


class ChecksEvery50th(ReadsRequests):
    """Sends at once and looks at what was said every 50th chunk."""

    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        said, number = "", 0
        async for event in events(behind):
            said, number = said + content(values(event)), number + 1
            if number % 50 == 0 and WORD in said.casefold():
                yield ending()
                return
            yield event


class IgnoresToolCalls(ReadsRequests):
    """Judges all texts of a delta before it leaves, but those in tool calls."""

    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        said: dict[str, str] = {}
        async for event in events(behind):
            value = values(event) or values(b"data: " + event)
            for choice in value.get("choices", []):
                part = {key: v for key, v in choice.items() if key not in ("message", "delta")}
                delta = {**choice.get("delta", {}), **choice.get("message", {})}
                delta.pop("tool_calls", None)
                for key, found in {**delta, **part}.items():
                    said[key] = said.get(key, "") + "".join(s for s in strings(found) if s != "audio_1")
            if any(WORD in text.casefold() for text in said.values()):
                yield ending() if event.startswith((b"data", b":")) else b"{}"
                return
            yield event


class SendsTheFlaggedChunk(ReadsRequests):
    """Judges each chunk once it has left."""

    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        said = ""
        async for event in events(behind):
            yield event
            said += content(values(event))
            if WORD in said.casefold():
                yield ending()
                return


class ReadsTheWholeReply(ReadsRequests):
    """Honest and slow: nothing leaves before all of it was read."""

    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        body = await behind.read()
        told = heard(body, behind.content_type == "text/event-stream")
        if any(WORD in text.casefold() for text in told.said.values()):
            body = ending() if behind.content_type == "text/event-stream" else json.dumps(REFUSED).encode()
        yield body


REFUSED = {"choices": [{"index": 0, "message": {"content": ""}, "finish_reason": "content_filter"}]}


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_every_attack_comes_through_where_nothing_is_guarded(endpoint: Endpoint) -> None:
    """Each attack is one: without a guard it reaches the client, and what is harmless does too."""
    report = await drilled(PassOn, endpoint)
    assert report.failed
    assert {row.verdict for row in rows(report, kind="control")} == {"ok"}
    attacks = [row for kind in ("reply", "request", "switch") for row in rows(report, kind=kind)]
    assert [row for row in attacks if row.verdict != "leaked" or not row.characters] == []
    assert {row.where for row in attacks} >= {*endpoint.channels, *endpoint.inputs, *SWITCHES}
    assert rows(report, where="word after the end")[0].verdict == "leaked"


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
async def test_an_honest_guard_passes(endpoint: Endpoint) -> None:
    report = await drilled(ReadsTheWholeReply, endpoint)
    assert [row for row in report.rows if row.verdict != "ok"] == []
    assert not report.failed


async def test_what_comes_through_is_counted_to_the_letter() -> None:
    report = await drilled(PassOn)
    one = rows(report, kind="reply", where="content", how="words")[0]
    assert (one.tokens, one.characters) == (1 + 12, 1 + 12 * 4)
    last = rows(report, how="last word")[0]
    assert (last.tokens, last.characters) == (1, 1)


async def test_a_guard_that_checks_every_50th_chunk_is_caught() -> None:
    report = await drilled(ChecksEvery50th)
    slow = rows(report, how="slow, goes on")[0]  # the word is chunk 15, so 35 words follow before the check
    assert slow.verdict == "leaked" and 30 <= slow.tokens <= 40 and slow.ended == "content_filter"
    assert report.failed


async def test_a_guard_that_ignores_tool_calls_is_caught_there_and_only_there() -> None:
    report = await drilled(IgnoresToolCalls)
    leaked = {(row.where, row.stream) for row in report.rows if row.verdict == "leaked"}
    assert leaked == {(where, stream) for where in ("tool name", "tool arguments") for stream in (True, False)}


async def test_a_guard_that_sends_the_flagged_chunk_is_caught_by_one_letter() -> None:
    report = await drilled(SendsTheFlaggedChunk)
    assert leaks(report, kind="reply", where="content", how="words") == [1]
    assert leaks(report, kind="reply", where="content", how="last word") == [1]
    assert report.failed


class RefusesEverything(PassOn):
    """Lets nothing out, so nothing leaks."""

    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        return web.json_response({"error": {"message": "no", "code": "content_filter"}}, status=400)


async def test_a_guard_that_blocks_everything_does_not_pass() -> None:
    report = await drilled(RefusesEverything)
    assert report.failed
    assert {row.verdict for row in rows(report, kind="control") if row.where not in CHAT.odd} == {"blocked"}
    assert {row.verdict for row in rows(report, kind="reply")} == {"unproven"}


class OutOfOrder(PassOn):
    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        return web.json_response({"error": {"message": "broken"}}, status=500)


async def test_a_guard_that_is_out_of_order_proves_nothing() -> None:
    report = await drilled(OutOfOrder)
    assert report.failed
    assert {row.verdict for row in rows(report, kind="request")} == {"unproven"}


class ServesNothing(PassOn):
    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        return web.json_response({"error": {"message": "unknown"}}, status=404)


class NoTools(ReadsTheWholeReply):
    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        if "tools" in asked:
            return web.json_response({"detail": "no tools"}, status=422)
        return super().refuse(request, asked)


async def test_what_a_guard_does_not_serve_is_said_and_not_held_against_it() -> None:
    nothing = await drilled(ServesNothing, *ENDPOINTS)
    assert nothing.not_served == [endpoint.name for endpoint in ENDPOINTS]
    assert nothing.failed  # a drill in which nothing was tried proves nothing
    some = await drilled(NoTools)
    assert {row.verdict for row in rows(some, where="tool arguments")} == {"not served"}
    assert not some.failed


class BreaksOffWhatIsOdd(ReadsTheWholeReply):
    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        async for part in super().let_out(behind):
            odd = b"afterthought" in part or b"transcript" in part or b"top_logprobs" in part
            yield b'data: {"error": {"message": "unknown"}}\n\n' if odd else part


async def test_a_guard_may_break_off_what_no_client_expects() -> None:
    report = await drilled(BreaksOffWhatIsOdd)
    assert not report.failed
    assert {row.where for row in rows(report, verdict="dropped")} == set(CHAT.odd)


class CanBeTalkedOutOfIt(ReadsTheWholeReply):
    """Guards unless the request says that it should not."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        kind = PassOn if (await request.json()).get("guardrails") == [] else ReadsTheWholeReply
        return await kind(self._upstream).answer(request)


async def test_a_field_that_switches_the_guard_off_is_found() -> None:
    report = await drilled(CanBeTalkedOutOfIt)
    assert {row.where for row in rows(report, verdict="leaked")} == {"guardrails: []"}


class NamesTheWord(ReadsRequests):
    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        refused = super().refuse(request, asked)
        return refused and web.json_response({"error": {"message": f"keyword {WORD!r} found"}}, status=400)


async def test_an_error_that_names_the_word_is_noted_and_is_no_leak() -> None:
    report = await drilled(NamesTheWord)
    one = rows(report, kind="request", where="system")[0]
    assert one.verdict == "ok" and one.note == "the error names the word" and one.characters == 0


class ReadsRepliesAlone(ReadsTheWholeReply):
    """Never looks at a request."""

    def refuse(self, request: web.Request, asked: dict[str, Any]) -> web.Response | None:
        return None


async def test_a_model_that_was_asked_is_a_leak_though_nothing_was_answered() -> None:
    report = await drilled(ReadsRepliesAlone)
    found = rows(report, kind="request", where="system")[0]
    assert found.verdict == "leaked" and found.note == "the model was asked"


class Hangs(PassOn):
    async def let_out(self, behind: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        body = await behind.read()
        told = heard(body, behind.content_type == "text/event-stream")
        if WORD in " ".join(told.said.values()):
            await asyncio.sleep(30)
        yield body


async def test_a_guard_that_hangs_is_left_after_its_time() -> None:
    report = await drilled(Hangs, limit_s=1.5, timeout_s=0.2)
    assert "timed out" in {row.verdict for row in report.rows} and report.cut_short > 0 and report.failed


async def test_a_guard_that_is_not_there_is_an_error_that_says_so() -> None:
    async with Upstream().listening("127.0.0.1", 0) as upstream:
        gone = Target("http://127.0.0.1:1", wait_s=0.0)
        with pytest.raises(ModelError, match="does not answer.*is it running"):
            await drill(gone, upstream, endpoints=(CHAT,))
        none = Target(upstream.url, wait_s=0.0)  # no guard at all: the upstream itself
        assert (await drill(none, upstream, endpoints=(CHAT,))).failed
