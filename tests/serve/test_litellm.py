"""LiteLLM's generic guardrail API: what LiteLLM sends, and NONE or BLOCKED as the answer."""

from typing import Any

import aiohttp
import pytest
from rig import Proxy, proxy

ABOUT = {
    "request_data": {"user_api_key_alias": "forbidden"},
    "request_headers": {"user-agent": "forbidden"},
    "litellm_call_id": "call-1",
    "litellm_trace_id": None,
    "litellm_version": "1.109.0",
    "additional_provider_specific_params": {},
    "model": "tale-1",
    "images": None,
}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a": "\\u0066orbidden"}'}}
TOOL = {"type": "function", "function": {"name": "look", "description": "a forbidden thing"}}


async def guard(running: Proxy, kind: str = "request", **asked: Any) -> tuple[int, dict[str, Any]]:
    body = {**ABOUT, "input_type": kind, "texts": [], **asked}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{running.url}/beta/litellm_basic_guardrail_api", json=body) as reply:
            return reply.status, await reply.json()


def image(url: str) -> dict[str, Any]:
    return {
        "role": "user",
        "content": [{"type": "text", "text": "green"}, {"type": "image_url", "image_url": {"url": url}}],
    }


BAD: dict[str, dict[str, Any]] = {
    "texts": {"texts": ["green", "a forbidden thing"]},
    "a tool": {"texts": ["green"], "tools": [TOOL]},
    "a call": {"tool_calls": [{**CALL, "function": {"name": "look", "arguments": "forbidden"}}]},
    "a message": {"texts": ["green"], "structured_messages": [{"role": "system", "content": "forbidden"}]},
    "a text beside the messages": {
        "texts": ["forbidden"],
        "structured_messages": [{"role": "user", "content": "green"}],
    },
    "split parts": {
        "structured_messages": [
            {"role": "user", "content": [{"type": "text", "text": "forb"}, {"type": "text", "text": "idden"}]}
        ]
    },
    "a field of a message that nobody knows": {"structured_messages": [{"role": "user", "whisper": ["forbidden"]}]},
}


@pytest.mark.parametrize("place", BAD)
async def test_every_text_of_a_request_is_read(place: str) -> None:
    with proxy([]) as running:
        assert (await guard(running, **BAD[place])) == (
            200,
            {"action": "BLOCKED", "blocked_reason": "Blocked by the content policy."},
        )
        row = running.rows()[0]
        assert (row.route, row.outcome, row.model) == ("litellm", "input_blocked", "tale-1")
        assert running.upstream.asked == []


async def test_a_harmless_request_passes_whatever_is_told_about_it() -> None:
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "green", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL | {"function": {"name": "x", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "hills"},
    ]
    with proxy([]) as running:
        assert await guard(running, texts=["be kind", "green"], structured_messages=messages) == (
            200,
            {"action": "NONE"},
        )
        assert await guard(running) == (200, {"action": "NONE"})
        assert running.rows(2)[0].outcome == "passed"


async def test_replies_are_judged_by_the_output_classifier() -> None:
    with proxy([]) as running:
        for asked in ({"texts": ["green", "a forbidden"]}, {"texts": [], "tool_calls": [TOOL]}):
            assert (await guard(running, "response", **asked))[1]["action"] == "BLOCKED"
        assert (await guard(running, "response", texts=["green", ""])) == (200, {"action": "NONE"})
        rows = running.rows(3)
        assert [row.outcome for row in rows] == ["output_blocked", "output_blocked", "passed"]
        assert [output.verdict.flagged for output in rows[0].outputs] == [False, True]


async def test_only_what_is_enforced_blocks() -> None:
    with proxy([], modes=("shadow", "off")) as running:
        for kind in ("request", "response"):
            assert await guard(running, kind, texts=["forbidden"]) == (200, {"action": "NONE"})
        rows = running.rows(2)
        assert rows[0].input is not None and rows[0].input.flagged and rows[0].outcome == "passed"
        assert rows[1].outputs == [] and rows[1].input is None


@pytest.mark.parametrize("asked", [{"images": ["AAAA"]}, {"structured_messages": [image("data:x")]}])
async def test_images_are_blocked_unless_they_are_allowed(asked: dict[str, Any]) -> None:
    with proxy([]) as running:
        _, told = await guard(running, **asked)
        assert told["action"] == "BLOCKED" and "images" in told["blocked_reason"]
        assert running.rows()[0].outcome == "refused"
    with proxy([], serve={"media": "allow"}) as running:
        assert await guard(running, **asked) == (200, {"action": "NONE"})
        assert running.rows()[0].media == 1


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"documents": ["a"]}, "documents"),
        ({"input_type": "other"}, "input_type"),
        ({"texts": "a"}, "texts"),
        ({"texts": [1]}, "texts[0]"),
        ({"structured_messages": ["a"]}, "structured_messages"),
    ],
)
async def test_what_cannot_be_read_is_refused_by_name(asked: dict[str, Any], param: str) -> None:
    with proxy([]) as running:
        status, told = await guard(running, **asked)
        assert (status, told["error"]["param"]) == (400, param)


@pytest.mark.parametrize("kind", ["request", "response"])
async def test_a_failing_guard_is_503(kind: str) -> None:
    with proxy([]) as running:
        running.scorer.fails_at = 0 if kind == "request" else 1
        status, told = await guard(running, kind, texts=["green"])
        assert (status, told["error"]["code"]) == (503, "guard_unavailable")
        assert running.rows()[0].outcome == "guard_error"
        assert running.scorer.open == 0


async def test_what_fails_passes_only_where_it_fails_open_or_nothing_is_enforced() -> None:
    with proxy([], modes=("shadow", "shadow")) as running:
        running.scorer.fails_at = 0
        assert await guard(running, texts=["green"]) == (200, {"action": "NONE"})
        row = running.rows()[0]
        assert row.judging_failed and not row.passed_unread and row.outcome == "passed"
    with proxy([], fail_open=True) as running:
        running.scorer.fails_at = 0
        assert await guard(running, texts=["green"]) == (200, {"action": "NONE"})
        assert running.rows()[0].passed_unread
