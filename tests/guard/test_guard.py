import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from marbury.chat.model import complete
from marbury.chat.scripted import ScriptedReply
from marbury.errors import GuardError, ModelError
from marbury.guard import Guard, Judge, Mode, ScriptedScorer
from marbury.records import Message, Piece, Reply
from marbury.scoring import Thresholds, Verdict

LIMITS = Thresholds(0.0, 0.0, 0.0, 0.0)
ASK = [Message("user", "tell me of the hills")]
STORY = "soft hills, then sleeping mist, then morning"


@contextlib.asynccontextmanager
async def judging(scorer: ScriptedScorer, mode: Mode = "enforce") -> AsyncIterator[Judge]:
    judge = Judge(scorer, LIMITS, input_mode=mode, output_mode=mode)
    try:
        yield judge
    finally:
        judge.close()


class Told:
    """A model that streams these pieces and says when it was closed."""

    name = "told"

    def __init__(self, pieces: Sequence[Piece]) -> None:
        self.pieces = pieces
        self.given = 0
        self.closed = False

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        try:
            for piece in self.pieces:
                self.given += 1
                yield piece
        finally:
            self.closed = True


async def test_a_blocked_request_never_reaches_the_model() -> None:
    model = ScriptedReply(STORY)
    async with judging(ScriptedScorer("hills")) as judge:
        pieces = [piece async for piece in Guard(model, judge).stream(ASK)]
    assert pieces == [Piece(finish="content_filter")]
    assert model.calls == 0


@pytest.mark.parametrize("parts", range(1, len(STORY) + 1, 3))
async def test_a_stopped_reply_ends_before_the_flagged_word(parts: int) -> None:
    scorer = ScriptedScorer("mist")
    async with judging(scorer) as judge:
        reply = await complete(Guard(ScriptedReply(STORY, parts), judge), ASK)
    assert reply == Reply("soft hills, then sleeping", "content_filter")
    assert scorer.open == 0


@pytest.mark.parametrize("parts", range(1, len(STORY) + 1, 5))
async def test_a_harmless_reply_is_what_the_model_said(parts: int) -> None:
    async with judging(ScriptedScorer("dragon")) as judge:
        guard = Guard(ScriptedReply(STORY, parts, finish="length"), judge)
        assert await complete(guard, ASK) == Reply(STORY, "length")
        assert guard.name == "scripted-reply guarded"


async def test_the_model_is_closed_before_the_stop_is_told() -> None:
    model = Told([Piece("a "), Piece("mist "), Piece("b "), Piece(finish="stop")])
    async with judging(ScriptedScorer("mist")) as judge:
        async for piece in Guard(model, judge).stream(ASK):
            if piece.finish:
                assert model.closed
    assert model.given == 2


async def test_a_reader_that_leaves_closes_the_model() -> None:
    model = Told([Piece(f"word{i} ") for i in range(9)])
    scorer = ScriptedScorer("mist")
    async with judging(scorer) as judge:
        stream = Guard(model, judge).stream(ASK)
        await anext(stream)
        await stream.aclose()  # type: ignore[attr-defined]
        assert model.closed
    assert scorer.open == 0


async def test_shadow_changes_nothing_and_reports() -> None:
    heard: list[Verdict] = []
    async with judging(ScriptedScorer("mist"), "shadow") as judge:
        model = ScriptedReply(STORY, 7)
        plain = [piece async for piece in model.stream(ASK)]
        guarded = [piece async for piece in Guard(model, judge, heard.append).stream(ASK)]
    assert guarded == plain
    assert [(verdict.side, verdict.flagged) for verdict in heard] == [("input", False), ("output", True)]


@pytest.mark.parametrize("step", range(0, 8))
async def test_a_failing_scorer_ends_the_reply_with_an_error(step: int) -> None:
    released = ""
    async with judging(ScriptedScorer("never", fails_at=step)) as judge:
        with pytest.raises(GuardError):
            async for piece in Guard(ScriptedReply(STORY, 9), judge).stream(ASK):
                assert piece.finish is None
                released += piece.text
    assert len(released.split()) < max(step, 1)


async def test_a_model_that_breaks_off_is_not_a_finished_reply() -> None:
    async with judging(ScriptedScorer("mist")) as judge:
        with pytest.raises(ModelError, match="without a finish"):
            await complete(Guard(Told([Piece("half a")]), judge), ASK)
