"""The door is the same for every endpoint: a key first, and nobody in who has to wait."""

import json
import time
from typing import Any

import aiohttp
import pytest
from rig import Proxy, proxy

from marbury.serve.accounts import Accounts, Rules, pseudonym
from marbury.serve.door import Door
from marbury.serve.keys import KeyRing, hash_of
from marbury.serve.protocols.endpoints import ENDPOINTS, RATING

EVERY = {f"/v1{endpoint.path}": endpoint for endpoint in ENDPOINTS} | {endpoint.path: endpoint for endpoint in RATING}
# One body that each of them reads, or refuses after it has read who asks.
BODY: dict[str, Any] = {
    "model": "m",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "Tell me a tale."}],
    "user": "ida",
    "metadata": {"user_id": "ida"},
}
BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "m", "prompt": "Tell me a tale.", "user": "ida"},
    "/v1/responses": {"model": "m", "input": "Tell me a tale.", "user": "ida"},
    "/v1/moderations": {"input": "Tell me a tale.", "user": "ida"},
    "/v1/messages": {name: value for name, value in BODY.items() if name != "user"},
    "/v1/chat/completions": {name: value for name, value in BODY.items() if name != "metadata"},
    "/beta/litellm_basic_guardrail_api": {
        "input_type": "request",
        "texts": ["Tell me a tale."],
        "request_data": {"user_api_key_end_user_id": "ida"},
    },
}


async def ask(running: Proxy, path: str, key: str = "") -> tuple[int, dict[str, str], Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession() as session,
        session.post(running.url + path, json=BODIES.get(path, BODY), headers=headers) as response,
    ):
        told = {name.lower(): value for name, value in response.headers.items()}
        return response.status, told, json.loads(await response.read())


@pytest.mark.parametrize("path", EVERY)
async def test_every_endpoint_needs_the_key(path: str) -> None:
    door = Door(KeyRing({"reader": hash_of("its-key")}), Accounts(Rules()))
    with proxy([], door=door) as running:
        for key in ("", "wrong"):
            status, headers, body = await ask(running, path, key)
            assert status == 401 and headers["www-authenticate"] == "Bearer"
            assert "error" in body and "A valid API key of this guard is needed." in json.dumps(body)
        assert running.upstream.asked == []
        assert [row.outcome for row in running.rows(2)] == ["unauthorized"] * 2
        assert (await ask(running, path, "its-key"))[0] != 401


@pytest.mark.parametrize("path", EVERY)
async def test_no_endpoint_answers_an_account_that_has_to_wait(path: str) -> None:
    door = Door(None, Accounts(Rules(flags=1, cooldown_s=100.0)))
    door.accounts.flag([f"user//{pseudonym('ida')}"], time.time(), "a")
    with proxy([], door=door) as running:
        status, headers, body = await ask(running, path)
        assert status == 429 and 90 < int(headers["retry-after"]) <= 101
        assert "Too many requests of this account were blocked" in json.dumps(body)
        assert running.upstream.asked == [] and running.scorer.steps == 0
        assert running.rows()[0].outcome == "cooling_down"


async def test_a_verdict_that_was_asked_for_is_no_flag() -> None:
    door = Door(KeyRing({"reader": hash_of("its-key")}), Accounts(Rules(flags=1)))
    with proxy([], door=door, serve={"moderations": True}) as running:
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                async with session.post(
                    f"{running.url}/v1/moderations",
                    json={"input": "Tell me of the forbidden."},
                    headers={"authorization": "Bearer its-key"},
                ) as response:
                    assert response.status == 200 and (await response.json())["results"][0]["flagged"]
        assert running.rows(3)[0].input is not None and door.accounts.begun == 0
