"""Accounts that cool down: as values, and on a running proxy."""

import time
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import ASK, Proxy, eventually, proxy, tale, whole

from marbury.serve.accounts import (
    LONGEST_S,
    MANY,
    REMEMBERED_S,
    Accounts,
    Cooldown,
    Rules,
    accounts_of,
    cooldown,
    named_in,
    pseudonym,
)
from marbury.serve.door import Door
from marbury.serve.keys import KeyRing, hash_of

RULES = Rules(flags=4, window_s=100.0, cooldown_s=10.0)
BAD: Any = [{"role": "user", "content": "Tell me of the forbidden."}]


# The rule


def test_the_flags_of_a_window_begin_a_cool_down() -> None:
    assert cooldown([1, 2, 3], RULES) == Cooldown()
    assert cooldown([1, 2, 3, 4], RULES) == Cooldown(14.0, 1)
    assert cooldown([1, 2, 3, 103], RULES) == Cooldown()  # the first two have left the window
    assert cooldown([1, 2, 3, 4, 5, 13.9], RULES) == Cooldown(14.0, 1)  # under way when it began


def test_each_further_time_comes_sooner_and_lasts_longer() -> None:
    times, seen = [1.0, 2.0, 3.0, 4.0], []
    for _ in range(4):
        state = cooldown(times, RULES)
        seen.append(state.until - times[-1])
        flags = max(1, RULES.flags >> state.times)
        times += [state.until + i for i in range(flags)]
        assert cooldown(times[:-1], RULES) == state
    assert seen == [10.0, 20.0, 40.0, 80.0]


def test_after_a_long_silence_an_account_is_new() -> None:
    first = [1.0, 2.0, 3.0, 4.0]
    later = 15.0 + REMEMBERED_S
    assert cooldown([*first, later, later + 1, later + 2], RULES) == Cooldown()
    assert cooldown([*first, later - 2, later - 1], RULES).times == 2  # not so long
    assert cooldown([*first, later, later + 1, later + 2, later + 3], RULES) == Cooldown(later + 13, 1)


def test_zero_is_never() -> None:
    assert cooldown([1.0] * 100, Rules(flags=0)) == Cooldown()
    never = Accounts(Rules(flags=0))
    never.flag(["a"], 1.0, "r")
    assert never.wait(["a"], 1.0) == 0.0


@given(st.lists(st.floats(0, 5e5), max_size=60).map(sorted))
def test_a_cool_down_is_bounded_and_more_flags_never_shorten_it(times: list[float]) -> None:
    before = Cooldown()
    for i in range(len(times) + 1):
        state = cooldown(times[:i], RULES)
        assert state.until >= before.until and state.times in (before.times, before.times + 1)
        assert i == 0 or state.until <= times[i - 1] + LONGEST_S
        before = state


@given(st.permutations(range(12)))
def test_the_order_and_repetition_of_news_does_not_matter(order: list[int]) -> None:
    accounts = Accounts(RULES)
    for i in [*order, *order]:
        accounts.flag(["a"], float(i * 5), f"r{i}")
    assert accounts.wait(["a"], 0.0) == cooldown([i * 5.0 for i in range(12)], RULES).until


def test_a_cool_down_of_long_ago_is_no_alert(caplog: pytest.LogCaptureFixture) -> None:
    accounts = Accounts(RULES)
    for i in range(4):
        accounts.flag(["a"], 50.0 + i, f"r{i}")
    assert accounts.begun == 0 and caplog.text == "" and accounts.wait(["a"], 54.0) > 0
    for i in range(4):
        accounts.flag(["a"], time.time(), f"s{i}")
    assert accounts.begun == 1 and "account a cools down for 10 s, for the 1. time" in caplog.text


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("marbury.serve.accounts._MOST_ACCOUNTS", 100)
    monkeypatch.setattr("marbury.serve.accounts._MOST_SEEN", 100)
    accounts = Accounts(RULES)
    for i in range(1000):
        accounts.flag([f"a{i}"], float(i), f"r{i}")
    assert len(accounts._times) <= 100 and "a999" in accounts._times and len(accounts._seen) <= 100


# Whose flag it is


def test_accounts() -> None:
    assert accounts_of("", "", "") == []
    assert accounts_of("sha256:1234", "", "") == [] and accounts_of("sha256:1234", "u", "") == ["user//u"]
    assert accounts_of("reader", "", "") == ["key/reader"]
    assert accounts_of("reader", "u", "s") == ["user/reader/u", "safety_identifier/reader/s", "key/reader/all"]
    assert set(accounts_of("a", "u", "")).isdisjoint(accounts_of("b", "u", ""))  # nobody is cooled by another's key


def test_names_are_found_in_every_protocol() -> None:
    ida = pseudonym("ida")
    assert "ida" not in ida and pseudonym("ida") == ida != pseudonym("Ida")
    assert named_in(b'{"user": "ida", "safety_identifier": "ada"}') == (ida, pseudonym("ada"))
    assert named_in(b'{"metadata": {"user_id": "ida"}}') == (ida, "")
    for odd in (
        b"",
        b"[]",
        b"{",
        b'{"user": 7}',
        b'{"user": {"a": 1}, "metadata": "x"}',
        b'{"metadata": {"user_id": []}}',
    ):
        assert named_in(odd) == ("", "")


def test_the_key_of_an_application_stands_for_many_users() -> None:
    accounts = Accounts(RULES)
    for i in range(RULES.flags * MANY):
        assert accounts.wait(["key/reader/all"], 50.0) == 0.0
        accounts.flag(accounts_of("reader", f"u{i}", ""), 50.0 + i / 100, f"r{i}")
    assert accounts.wait(["key/reader/all"], 53.0) > 0.0
    assert accounts.wait(["key/reader"], 53.0) == 0.0


# On a running proxy


def strict(ring: KeyRing | None = None) -> Door:
    return Door(ring, Accounts(Rules(flags=2, cooldown_s=30.0)))


async def blocked(running: Proxy, times: int, **who: str) -> None:
    async with running.client() as client:
        for _ in range(times):
            await client.chat.completions.create(model="m", messages=BAD, **who)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["user", "safety_identifier"])
@pytest.mark.parametrize("stream", [True, False])
async def test_a_user_cools_down_and_others_do_not(name: str, stream: bool) -> None:
    said: Any = tale("green") if stream else [whole({"content": "green"})]
    kind = "text/event-stream" if stream else "application/json"
    with proxy(said, kind=kind, door=strict()) as running:
        await blocked(running, 2, **{name: "ida"})
        running.rows(2)
        asked: Any = {"model": "m", "messages": ASK, "stream": stream}
        async with running.client() as client:
            create: Any = client.chat.completions.create
            with pytest.raises(openai.RateLimitError) as cooling:
                await create(**asked, **{name: "ida"})
            await create(**asked, **{name: "ada"})
            await client.chat.completions.create(**asked)
        assert cooling.value.code == "account_cooling_down" and cooling.value.status_code == 429
        assert 20 < int(cooling.value.response.headers["retry-after"]) <= 31
        assert "scripted" not in str(cooling.value.body) and "forbidden" not in str(cooling.value.body)
        row = running.rows(3)[2]
        assert (row.outcome, row.status, row.input) == ("cooling_down", 429, None)
        assert (row.model, row.stream) == ("m", stream)
        assert getattr(row, name) == pseudonym("ida")


async def test_a_key_without_users_cools_down_and_others_go_on() -> None:
    ring = KeyRing({"reader": hash_of("client-key"), "writer": hash_of("other")})
    with proxy([whole({"content": "green"})], kind="application/json", door=strict(ring)) as running:
        await blocked(running, 2)
        running.rows(2)
        async with running.client() as client:
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="m", messages=ASK)
        other = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key="other", max_retries=0)
        async with other:
            await other.chat.completions.create(model="m", messages=ASK)


async def test_a_flagged_reply_counts_also_when_its_client_leaves() -> None:
    with proxy(tale("a forbidden b " + "c " * 200), door=strict(), delay_s=0.001) as running:
        async with running.client() as client:
            for _ in range(2):
                asked: Any = {"model": "m", "messages": ASK, "stream": True, "user": "ida"}
                stream = await client.chat.completions.create(**asked)
                async for chunk in stream:
                    if chunk.choices and chunk.choices[0].finish_reason:
                        break
                await stream.close()
            running.rows(2)
            with pytest.raises(openai.RateLimitError):
                await client.chat.completions.create(model="m", messages=ASK, user="ida")


async def test_shadow_counts_nothing() -> None:
    with proxy(
        [whole({"content": "green"})], kind="application/json", door=strict(), modes=("shadow", "shadow")
    ) as running:
        await blocked(running, 4, user="ida")
        assert all(row.outcome == "passed" and row.input and row.input.flagged for row in running.rows(4))
        assert running.service.door.accounts.begun == 0


async def test_where_nothing_is_enforced_nobody_has_to_wait() -> None:
    """A guard that was put into shadow after a cool-down began."""
    door = strict()
    door.accounts.flag([f"user//{pseudonym('ida')}"], time.time(), "a")
    door.accounts.flag([f"user//{pseudonym('ida')}"], time.time(), "b")
    with proxy(
        [whole({"content": "green"})], kind="application/json", door=door, modes=("shadow", "shadow")
    ) as running:
        async with running.client() as client:
            await client.chat.completions.create(model="m", messages=ASK, user="ida")


async def test_an_alert_is_in_the_log_and_the_metrics(caplog: pytest.LogCaptureFixture) -> None:
    with proxy([], door=strict()) as running:
        await blocked(running, 2, user="ida")
        eventually(lambda: running.service.door.accounts.begun == 1)
        told = running.service.metrics.text().decode()
    assert "marbury_accounts_cooling_down 1.0" in told and "marbury_cooldowns_begun 1.0" in told
    assert "cools down for 30 s, for the 1. time" in caplog.text and "ida" not in caplog.text
