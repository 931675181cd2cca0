import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marbury.errors import GuardError
from marbury.guard import Judge, Mode, ScriptedScorer
from marbury.records import Message
from marbury.scoring import ReplyScorer, Score, Thresholds

LIMITS = Thresholds(input_single=0.0, input_multi=20.0, output_single=0.0, output_multi=20.0)
ASK = [Message("user", "tell me of the hills")]
BAD = [Message("user", "tell me of the mist")]


@contextlib.asynccontextmanager
async def judging(
    scorer: ScriptedScorer, input_mode: Mode = "enforce", output_mode: Mode = "enforce", timeout_s: float = 5.0
) -> AsyncIterator[Judge]:
    judge = Judge(scorer, LIMITS, input_mode=input_mode, output_mode=output_mode, timeout_s=timeout_s)
    try:
        yield judge
    finally:
        judge.close()


async def test_a_request_gets_its_verdict() -> None:
    async with judging(ScriptedScorer("mist")) as judge:
        good, bad = await judge.read(ASK), await judge.read(BAD)
        assert good.verdict is not None and not good.verdict.flagged and not good.blocked
        assert bad.verdict is not None and bad.verdict.category == "scripted" and bad.blocked


async def test_conversations_of_several_turns_have_their_own_limit() -> None:
    async with judging(ScriptedScorer("mist")) as judge:
        request = await judge.read([*BAD, *BAD])
        assert request.verdict is not None
        assert request.verdict.threshold == 20 and not request.blocked
        watch = request.watch()
        assert await watch.push("mist is far below this limit") == "mist is far below this"


async def test_a_watch_stops_and_stays_silent() -> None:
    async with judging(ScriptedScorer("mist")) as judge:
        watch = (await judge.read(ASK)).watch()
        assert await watch.push("soft hills and mi") == "soft hills and"
        assert await watch.push("st that sleeps") == ""
        assert watch.stopped is not None and watch.score == 10 and watch.steps == 4
        assert await watch.push("more ") + await watch.finish() == ""


async def test_choices_are_judged_apart() -> None:
    async with judging(ScriptedScorer("mist")) as judge:
        request = await judge.read(ASK)
        first, second = request.watch(), request.watch()
        steps = [(first, "a mist "), (second, "clear sky "), (first, "b "), (second, None)]
        released = await request.advance(steps)
        assert [(out.text, out.stopped) for out in released] == [
            ("a", True),
            ("clear sky", False),
            ("", True),
            (" ", False),
        ]
        assert list(request.watches) == [first, second]


async def test_a_closed_watch_leaves_the_others_alone() -> None:
    scorer = ScriptedScorer("mist")
    async with judging(scorer) as judge:
        request = await judge.read(ASK)
        first, second = request.watch(), request.watch()
        await first.push("a b "), await second.push("a b ")
        first.close()
        assert await first.push("c d ") == ""
        assert await second.push("c d ") == " c d"
        assert scorer.open == 2  # the reading and the second reply
        request.close()
    assert scorer.open == 0


async def test_shadow_is_never_late_and_remembers() -> None:
    async with judging(ScriptedScorer("mist", delay_s=0.2), "shadow", "shadow") as judge:
        began = time.monotonic()
        request = await judge.read(BAD)
        watch = request.watch()
        assert await watch.push("mist ") + await watch.push("rises") + await watch.finish() == "mist rises"
        assert time.monotonic() - began < 0.1
        await request.settle()
        assert request.verdict is not None and request.verdict.flagged and not request.blocked
        assert watch.stopped is not None


async def test_shadow_outlives_a_failing_scorer_and_says_so() -> None:
    async with judging(ScriptedScorer("mist", fails_at=2), "enforce", "shadow") as judge:
        request = await judge.read(ASK)
        assert await request.watch().push("a b c ") == "a b c "
        await request.settle()
        assert "RuntimeError" in str(request.failure)


async def test_shadow_that_is_too_slow_is_a_failure_in_the_end() -> None:
    async with judging(ScriptedScorer("mist", delay_s=0.3), "shadow", "shadow", timeout_s=0.05) as judge:
        request = await judge.read(ASK)
        await request.settle()
        assert "longer than 0.05 s" in str(request.failure)


async def test_an_input_in_shadow_still_gives_an_enforced_output_its_context() -> None:
    async with judging(ScriptedScorer("mist"), "shadow", "enforce") as judge:
        request = await judge.read(BAD)
        assert not request.blocked
        assert await request.watch().push("a mist b") == "a"
        await request.settle()
        assert request.verdict is not None and request.verdict.flagged


async def test_an_unread_request_closes_an_enforced_output() -> None:
    async with judging(ScriptedScorer("mist", fails_at=0), "shadow", "enforce") as judge:
        request = await judge.read(ASK)
        with pytest.raises(GuardError, match="could not be read"):
            await request.watch().push("a b c ")


async def test_off_does_not_look() -> None:
    scorer = ScriptedScorer("mist", fails_at=0)
    async with judging(scorer, "off", "off") as judge:
        request = await judge.read(BAD)
        watch = request.watch()
        assert await watch.push("a mist ") + await watch.finish() == "a mist "
        await request.settle()
        assert request.verdict is None and watch.verdict is None and scorer.steps == 0
    async with judging(ScriptedScorer("mist"), "off", "enforce") as judge:
        request = await judge.read(BAD)
        assert await request.watch().push("a mist b") == "a"
        assert request.verdict is None and not request.blocked


@pytest.mark.parametrize("how", ["fails_at", "nan_at"])
async def test_a_request_that_cannot_be_judged_is_an_error_not_a_block(how: str) -> None:
    scorer = ScriptedScorer("mist", fails_at=0) if how == "fails_at" else ScriptedScorer("mist", nan_at=0)
    async with judging(scorer) as judge:
        with pytest.raises(GuardError):
            await judge.read(ASK)
    assert scorer.open == 0


async def test_slow_scoring_closes() -> None:
    scorer = ScriptedScorer("mist", delay_s=0.2)
    async with judging(scorer, timeout_s=0.05) as judge:
        with pytest.raises(GuardError, match="longer than 0.05 s"):
            await judge.read(ASK)
    scorer = ScriptedScorer("mist")
    async with judging(scorer, timeout_s=0.05) as judge:
        request = await judge.read(ASK)
        watch = request.watch()
        scorer.delay_s = 0.2
        with pytest.raises(GuardError):
            await watch.push("a b ")
        scorer.delay_s = 0.0
        assert await watch.push("c d ") + await watch.finish() == ""
    assert scorer.open == 0


async def test_a_queue_that_is_too_long_closes_too() -> None:
    async with judging(ScriptedScorer("mist", delay_s=0.04), timeout_s=0.1) as judge:
        results = await asyncio.gather(*(judge.read(ASK) for _ in range(8)), return_exceptions=True)
        assert isinstance(results[-1], GuardError)


@settings(max_examples=40, deadline=None)
@given(st.text(st.sampled_from("mist a\n"), max_size=60), st.integers(1, 7), st.integers(0, 12), st.integers(1, 4))
def test_a_cancelled_caller_leaves_nothing_that_releases_text_later(text: str, size: int, at: int, turns: int) -> None:
    async def stream() -> None:
        scorer = ScriptedScorer("mist")
        async with judging(scorer) as judge:
            request = await judge.read(ASK)
            watch = request.watch()
            for number, start in enumerate(range(0, len(text), size)):
                push = asyncio.ensure_future(watch.push(text[start : start + size]))
                if number == at:
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    if push.cancel():
                        with contextlib.suppress(asyncio.CancelledError):
                            await push
                        if push.cancelled():
                            assert await watch.push("after all ") + await watch.finish() == ""
                            break
                await push
            request.close()
        assert scorer.open == 0

    asyncio.run(stream())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.sampled_from("mist a\n"), max_size=20), max_size=6), st.integers(1, 9))
def test_a_failure_at_any_step_closes_every_choice(pieces: list[str], step: int) -> None:
    async def stream() -> None:
        async with judging(ScriptedScorer("never", fails_at=step)) as judge:
            request = await judge.read(ASK)
            first, second = request.watch(), request.watch()
            failed = False
            for piece in [*pieces, "the end"]:
                try:
                    out = "".join([r.text for r in await request.advance([(first, piece), (second, piece)])])
                except GuardError:
                    assert not failed
                    failed = True
                    continue
                assert not (failed and out)

    asyncio.run(stream())


async def test_warming_up_scores_an_exchange_and_leaves_nothing_open() -> None:
    scorer = ScriptedScorer("mist")
    async with judging(scorer) as judge:
        await judge.warm_up()
    assert scorer.steps > 3 and scorer.open == 0
    async with judging(ScriptedScorer("mist", fails_at=2)) as judge:
        with pytest.raises(GuardError, match="first exchange"):
            await judge.warm_up()


class ManyAtOnce(ScriptedScorer):
    """A scripted scorer with a batched entry; it notes how many replies came at once and fails where it is told to."""

    def __init__(self, trigger: str, poison: str = "\0") -> None:
        super().__init__(trigger, delay_s=0.01)
        self.poison = poison
        self.sizes: list[int] = []

    def push_all(self, pushes: Sequence[tuple[ReplyScorer, str | None]]) -> list[list[Score] | Exception]:
        self.sizes.append(len(pushes))
        if any(text == "all fail " for _, text in pushes):
            raise MemoryError
        return [
            RuntimeError("poison") if text and self.poison in text
            else reply.finish() if text is None else reply.push(text)
            for reply, text in pushes
        ]  # fmt: skip


@pytest.mark.parametrize("batched", [True, False])
async def test_many_streams_are_released_and_stopped_as_each_alone(batched: bool) -> None:
    scorer = ManyAtOnce("mist") if batched else ScriptedScorer("mist", delay_s=0.001)
    texts = [f"{'hill ' * number}{'mist ' if number % 3 == 0 else 'sky '}end" for number in range(12)]

    async def stream(judge: Judge, text: str) -> tuple[str, bool]:
        request = await judge.read(ASK)
        watch = request.watch()
        out = "".join([await watch.push(text[at : at + 3]) for at in range(0, len(text), 3)])
        out += await watch.finish()
        request.close()
        return out, watch.stopped is not None

    async with judging(scorer) as judge:
        together = await asyncio.gather(*(stream(judge, text) for text in texts))
    for text, (released, stopped) in zip(texts, together, strict=True):
        kept = text.split("mist")[0].rstrip()
        assert (released, stopped) == ((kept, True) if "mist" in text else (text, False))
    assert scorer.open == 0
    if isinstance(scorer, ManyAtOnce):
        assert max(scorer.sizes) > 3  # those that waited were taken together


async def test_a_failure_in_one_stream_closes_that_one_only() -> None:
    scorer = ManyAtOnce("mist", poison="xyz")
    async with judging(scorer) as judge:
        requests = [await judge.read(ASK) for _ in range(4)]
        watches = [request.watch() for request in requests]
        texts = ["a b ", "xyz ", "c d ", "e f "]
        told = await asyncio.gather(*(w.push(t) for w, t in zip(watches, texts, strict=True)), return_exceptions=True)
        assert [told[0], told[2], told[3]] == ["a b", "c d", "e f"]
        assert isinstance(told[1], GuardError) and "RuntimeError" in str(requests[1].failure)
        assert await watches[1].push("more ") == "" and requests[0].failure is None
        both = await asyncio.gather(watches[0].push("all fail "), watches[2].push("g "), return_exceptions=True)
        assert isinstance(both[0], GuardError)  # the other may have been alone
        assert await watches[3].push("still ") == " still"


async def test_one_request_asked_twice_at_once_keeps_its_order() -> None:
    scorer = ManyAtOnce("mist")
    async with judging(scorer) as judge:
        request, other = await judge.read(ASK), (await judge.read(ASK)).watch()
        watch = request.watch()
        told = await asyncio.gather(
            *(w.push(t) for w, t in [(watch, "a "), (watch, "b "), (other, "x "), (watch, "c ")])
        )
        assert told == ["a", " b", "x", " c"]
        assert len(scorer.sizes) <= 4


async def test_a_reply_is_never_scored_before_its_request_was_read() -> None:
    scorer = ManyAtOnce("mist")
    async with judging(scorer, "shadow", "enforce") as judge:
        first = (await judge.read(ASK)).watch()
        await first.push("a ")
        busy = [asyncio.ensure_future(first.push("b ")) for _ in range(2)]
        await asyncio.sleep(0)
        late = (await judge.read(ASK)).watch()  # not read yet
        assert await late.push("x y ") == "x y"
        await asyncio.gather(*busy)


async def test_several_conversations_are_judged_each_by_itself() -> None:
    limits = Thresholds(input_single=0.0, input_multi=0.0, output_single=0.0, output_multi=20.0)
    alone, longer = [Message("user", "a")], [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    judge = Judge(scorer := ScriptedScorer("forbidden"), limits)
    try:
        request = await judge.read(alone, longer)
        first, second = request.watch(0), request.watch(1)
        said = await request.advance([(first, "forbidden "), (second, "forbidden ")])
        assert [one.stopped for one in said] == [True, False]  # each has the limit of its own conversation
        request.close()
        flagged = await judge.read(alone, [Message("user", "forbidden")], alone)
        assert flagged.blocked
        flagged.close()
        await judge.rate(alone)  # a trip to the scorer's thread, after which all is freed
        assert scorer.open == 0
    finally:
        judge.close()


@pytest.mark.parametrize("fails_at", range(0, 9))
async def test_fail_open_lets_everything_pass_that_was_not_stopped(fails_at: int) -> None:
    words = "soft hills lie in the sun".split(" ")
    judge = Judge(ScriptedScorer("mist", fails_at=fails_at), LIMITS, fail_open=True)
    try:
        request = await judge.read(ASK)
        watch = request.watch()
        said = "".join([await watch.push(word + " ") for word in words]) + await watch.finish()
        assert said == " ".join(words) + " "
        assert request.opened == (request.failure is not None)
        assert request.opened or fails_at > 6
    finally:
        judge.close()


async def test_what_was_stopped_stays_stopped_when_the_guard_opens() -> None:
    judge = Judge(ScriptedScorer("mist", fails_at=4), LIMITS, fail_open=True)
    try:
        request = await judge.read(ASK)
        stopped, other = request.watch(), request.watch()
        assert await stopped.push("a mist b") == "a"
        said = [await other.push(word) for word in ("one ", "two ", "three ", "four ")]
        assert request.opened
        assert "".join(said) == "one two three four "
        assert await stopped.push("more") == ""
        assert await stopped.finish() == ""
    finally:
        judge.close()
