"""`/v1/moderations` through the real client: what the input classifier thinks, where the operator wants it told."""

import math
from typing import Any

import openai
import pytest
from rig import LIMITS, proxy

from marbury.guard import Judge, Rating, ScriptedScorer
from marbury.records import Message
from marbury.scoring import Score, Verdict
from marbury.serve.protocols.moderations.endpoint import result

ON = {"moderations": True}


async def test_each_string_has_a_result_of_its_own() -> None:
    with proxy([], serve=ON) as running:
        async with running.client() as client:
            reply = await client.moderations.create(input=["green hills", "a forbidden thing", ""], model="any-model")
        assert [one.flagged for one in reply.results] == [False, True, False]
        assert reply.model == "marbury-abc123"
        assert reply.results[1].categories.model_dump(by_alias=True, exclude_unset=True) == {"scripted": True}
        scores: Any = reply.results[1].category_scores.model_dump(by_alias=True, exclude_unset=True)
        assert scores["scripted"] == pytest.approx(1 / (1 + math.exp(-10)), abs=1e-5)
        assert running.upstream.asked == []
        row = running.rows()[0]
        assert (row.route, row.outcome, row.status) == ("moderations", "passed", 200)
        assert row.input is not None and row.input.flagged
        assert 'action="would_block",category="scripted",stage="input"' in running.service.metrics.text().decode()


@pytest.mark.parametrize(
    ("asked", "flagged"),
    [
        ("a forbidden thing", True),
        ("green", False),
        ([{"type": "text", "text": "a forb"}, {"type": "text", "text": "idden thing"}], True),
    ],
)
async def test_a_string_and_parts_are_one_text(asked: Any, flagged: bool) -> None:
    with proxy([], serve=ON) as running:
        async with running.client() as client:
            reply = await client.moderations.create(input=asked)
        assert [one.flagged for one in reply.results] == [flagged]


async def test_it_is_off_unless_the_operator_says_otherwise() -> None:
    with proxy([]) as running:
        async with running.client() as client:
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await client.moderations.create(input="green")
        assert refused.value.code == "endpoint_off" and "moderations = true" in str(refused.value)
        assert running.rows()[0].outcome == "refused"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image": ({"input": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, "input[0].type"),
    "token ids": ({"input": [1, 2]}, "input[0].type"),
    "nothing": ({}, "input"),
    "an empty list": ({"input": []}, "input"),
    "unknown text": ({"input": "a", "context": "b"}, "context"),
}


@pytest.mark.parametrize("what", REFUSED)
async def test_what_cannot_be_read_is_refused_by_name(what: str) -> None:
    asked, param = REFUSED[what]
    with proxy([], serve=ON) as running:
        async with running.client() as client:
            with pytest.raises(openai.BadRequestError) as refused:
                await client.post("/moderations", body=asked, cast_to=object)
        assert refused.value.param == param


@pytest.mark.parametrize("how", ["fails_at", "nan_at"])
async def test_a_failing_guard_is_503(how: str) -> None:
    with proxy([], serve=ON) as running:
        setattr(running.scorer, how, 0)
        async with running.client() as client:
            with pytest.raises(openai.InternalServerError) as failed:
                await client.moderations.create(input="green")
        assert failed.value.code == "guard_unavailable" and failed.value.status_code == 503
        row = running.rows()[0]
        assert (row.outcome, row.judging_failed) == ("guard_error", True)
        assert running.scorer.open == 0


async def test_it_scores_whatever_is_enforced() -> None:
    with proxy([], serve=ON, modes=("off", "off")) as running:
        async with running.client() as client:
            reply = await client.moderations.create(input="forbidden")
        assert reply.results[0].flagged


def test_categories_are_true_at_the_threshold_in_a_flagged_text_only() -> None:
    names = ("herbs", "maps", "songs")
    verdict = Verdict(side="input", flagged=True, score=3.0, threshold=2.0, category="herbs")
    rating = Rating(verdict, Score(9, 3.0, (1.0, 2.5, -40_000.0)), None)
    told = result(rating, names)
    assert told["categories"] == {"herbs": True, "maps": True, "songs": False}
    assert told["category_scores"]["songs"] == 0.0
    harmless = Verdict(side="input", flagged=False, score=1.0, threshold=2.0)
    assert not any(result(Rating(harmless, Score(9, 1.0, (1.0, 2.5, 0.0)), None), names)["categories"].values())


# Rating, which both endpoints without a model ask


async def test_a_rating_is_the_verdict_of_a_whole_exchange() -> None:
    judge = Judge(scorer := ScriptedScorer("forbidden"), LIMITS, input_mode="off", output_mode="off")
    try:
        asked = [Message("user", "tell")]
        rating = await judge.rate(asked, "green forbidden hills")
        assert not rating.request.flagged and rating.reply is not None and rating.reply.flagged
        assert (await judge.rate(asked)).reply is None and (await judge.rate(asked, "")).reply is None
        assert scorer.open == 0
        assert rating.reply.side == "output"
    finally:
        judge.close()
