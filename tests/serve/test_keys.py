"""Keys of the guard's own, as plain values and at the door of a running proxy."""

import hmac
import os
import socket
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import ASK, LIMITS, proxy, tale, whole

from marbury.errors import SettingsError
from marbury.guard import Judge, Mode, ScriptedScorer
from marbury.serve import ServeSettings, create_app
from marbury.serve.accounts import Accounts, Rules
from marbury.serve.door import Door
from marbury.serve.keys import KeyRing, file_ring, hash_of, lines, new_key, parse, read_file

KEY = new_key()
RING = {"writer": hash_of("other"), "reader": hash_of(KEY)}


def door(ring: KeyRing | None = None) -> Door:
    return Door(ring or KeyRing(RING), Accounts(Rules()))


# The ring


def test_keys_are_long_and_never_twice_the_same() -> None:
    keys = {new_key() for _ in range(100)}
    assert len(keys) == 100 and all(len(key) > 48 for key in keys)


@given(
    st.dictionaries(
        st.text("abcXYZ019_.@-", min_size=1, max_size=64), st.binary().map(lambda b: hash_of(b.hex())), max_size=5
    )
)
def test_a_file_gives_back_what_was_written(keys: dict[str, str]) -> None:
    assert parse("# a comment\n\n" + lines(keys), "keys") == keys


@pytest.mark.parametrize(
    "line", ["reader", f"reader:{KEY}", "reader:", f":{hash_of(KEY)}", f"two words:{hash_of(KEY)}"]
)
def test_a_wrong_line_is_named_by_its_number_and_not_shown(line: str) -> None:
    with pytest.raises(SettingsError, match="keys, line 2: not NAME:SHA256") as raised:
        parse(f"# ours\n{line}\n", "keys")
    assert KEY not in str(raised.value) and hash_of(KEY) not in str(raised.value)


def test_a_second_key_of_one_name_is_refused() -> None:
    with pytest.raises(SettingsError, match="line 2: a second key of the name reader"):
        parse(lines({"reader": hash_of("a")}) * 2, "keys")


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[Any, Any]] = []

    def compare(a: Any, b: Any) -> bool:
        compared.append((a, b))
        return real(a, b)

    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert KeyRing(RING).owner("other") == "writer"
    assert compared == [(hash_of("other"), digest) for digest in RING.values()]  # also after the one that fits


@given(st.text(st.characters(exclude_categories=())))
def test_only_the_key_itself_opens(text: str) -> None:
    assert KeyRing(RING).owner(text) is None
    assert KeyRing(RING).owner(KEY) == "reader"
    assert KeyRing({}).owner(text) is None and KeyRing(None).owner(KEY) is None


def test_a_change_of_the_file_counts_at_once_and_a_damaged_one_lets_nobody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(lines({"reader": hash_of("a")}))
    ring = file_ring(path)
    assert ring.owner("a") == "reader"
    path.write_text(lines({"writer": hash_of("b"), "third": hash_of("c")}))
    assert (ring.owner("a"), ring.owner("b")) == (None, "writer")
    path.write_text("not a key\n")
    assert ring.owner("b") is None and ring.keys is None
    path.write_text(lines({"reader": hash_of("a")}))
    assert ring.owner("a") == "reader"
    path.unlink()
    assert ring.owner("a") is None and ring.keys is None
    assert read_file(path) == {}


def test_a_file_that_is_not_there_is_no_open_door(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        file_ring(tmp_path / "keys")


# The door of a running proxy


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], KEY + "x", hash_of(KEY)])
async def test_without_a_valid_key_nothing_is_asked(key: str) -> None:
    with proxy(tale("green hills"), door=door()) as running:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0)
        async with client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.chat.completions.create(model="m", messages=ASK)
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        assert refused.value.response.headers["www-authenticate"] == "Bearer"
        assert refused.value.status_code == 401 and refused.value.code == "invalid_api_key"
        assert running.upstream.asked == [] and running.scorer.steps == 0
        row = running.rows()[0]
        assert (row.outcome, row.status, row.key) == ("unauthorized", 401, "")


async def test_a_valid_key_opens_and_its_name_is_in_the_row() -> None:
    with proxy([whole({"content": "green hills"})], kind="application/json", door=door()) as running:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0)
        async with client:
            reply = await client.chat.completions.create(model="m", messages=ASK, user="ida")
        assert reply.choices[0].message.content == "green hills"
        row = running.rows()[0]
        assert (row.outcome, row.key) == ("passed", "reader") and row.user and "ida" not in row.user


async def test_a_huge_body_without_a_key_is_not_read() -> None:
    with proxy([], door=door()) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n")
            assert raw.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize(
    ("headers", "passed"),
    [
        ({"authorization": f"Bearer {KEY}"}, None),
        ({"x-api-key": KEY}, None),
        ({"api-key": KEY}, None),
        ({"x-api-key": "wrong", "authorization": f"Bearer {KEY}"}, None),
        ({"x-marbury-key": KEY, "authorization": "Bearer of-the-endpoint"}, "Bearer of-the-endpoint"),
        ({"x-marbury-key": KEY, "authorization": f"Bearer {KEY}"}, None),
    ],
)
async def test_the_endpoint_never_learns_a_key_of_the_guard(headers: dict[str, str], passed: str | None) -> None:
    with proxy([whole({"content": "green"})], kind="application/json", door=door()) as running:
        async with aiohttp.ClientSession() as session:
            for method, path in (("POST", "/v1/chat/completions"), ("GET", "/v1/models")):
                body = {"model": "m", "messages": ASK} if method == "POST" else None
                async with session.request(method, running.url + path, json=body, headers=headers) as response:
                    await response.read()
                    assert response.status != 401
        assert len(running.upstream.asked_headers) == 2
        for seen in running.upstream.asked_headers:
            assert seen.get("authorization") == passed and KEY not in str(seen)


async def test_while_keys_cannot_be_read_the_guard_is_closed() -> None:
    with proxy(tale("green"), door=door(KeyRing(None))) as running:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0)
        async with client:
            with pytest.raises(openai.InternalServerError) as refused:
                await client.chat.completions.create(model="m", messages=ASK)
        assert refused.value.status_code == 503 and refused.value.response.headers["retry-after"] == "1"
        assert running.upstream.asked == []


async def test_health_needs_no_key() -> None:
    with proxy([], door=door()) as running:
        async with aiohttp.ClientSession() as session:
            for path in ("/healthz", "/readyz", "/metrics"):
                async with session.get(running.url + path) as response:
                    assert response.status == 200 and "writer" not in await response.text()


# Secrets


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("how", ["passes", "blocked", "refused", "dies", "error", "busy", "nobody"])
async def test_no_key_is_in_an_answer_a_row_or_the_log(
    how: str, mode: Mode, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the endpoint's key, nor the guard's, nor one that a stranger tried."""
    monkeypatch.setitem(os.environ, "THE_KEY", "upstream-secret")
    caplog.set_level(0)
    script: dict[str, Any] = {"serve": {"key_env": "THE_KEY"}, "door": door(), "modes": (mode, mode)}
    pieces = tale("green hills")
    if how == "dies":
        script |= {"dies": True}
        pieces = pieces[:-2]
    if how in ("error", "busy"):
        pieces = [b'{"error": {"message": "no quota for Bearer upstream-', b'secret"}}']
        script |= {"status": 401 if how == "error" else 429, "kind": "application/json"}
    with proxy(pieces, **script) as running:
        text = "Tell me of the forbidden." if how == "blocked" else "Tell me a tale."
        body: Any = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": True}
        body |= {"odd": "text"} if how == "refused" else {}
        given = "stranger-secret" if how == "nobody" else KEY
        async with aiohttp.ClientSession() as session:
            headers = {"authorization": f"Bearer {given}"}
            async with session.post(f"{running.url}/v1/chat/completions", json=body, headers=headers) as response:
                answer = str(response.headers) + (await response.read()).decode()
        rows = str(running.rows())
        if how not in ("refused", "nobody") and (how, mode) != ("blocked", "enforce"):
            assert running.upstream.asked_headers[0]["authorization"] == "Bearer upstream-secret"
        for secret in ("upstream-secret", KEY, "stranger-secret", hash_of(KEY)):
            where = [
                name for name, told in (("answer", answer), ("rows", rows), ("log", caplog.text)) if secret in told
            ]
            assert where == [], f"{secret} is in {where}"


def test_a_judge_may_have_a_door_of_its_own() -> None:
    judge = Judge(ScriptedScorer("x"), LIMITS)
    ours = door()
    assert create_app(judge, ServeSettings(), door=ours).state.service.door is ours
    judge.close()
