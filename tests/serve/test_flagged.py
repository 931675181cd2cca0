"""OpenAI's `moderation` object at a stop: the same whichever side fired, and never a category or a score."""

from typing import Any

from rig import ASK, proxy, tale, whole

BAD: Any = [{"role": "user", "content": "Tell me of the forbidden."}]


async def streamed(messages: Any, text: str) -> list[dict[str, Any]]:
    with proxy(tale(text)) as running:
        async with running.client() as client:
            stream = await client.chat.completions.create(model="m", messages=messages, stream=True)
            chunks = [chunk async for chunk in stream]
    return [chunk.moderation.model_dump() for chunk in chunks if chunk.moderation is not None]


async def at_once(messages: Any, text: str) -> dict[str, Any] | None:
    with proxy([whole({"content": text})], kind="application/json") as running:
        async with running.client() as client:
            reply = await client.chat.completions.create(model="m", messages=messages)
    return reply.moderation.model_dump() if reply.moderation is not None else None


async def test_it_is_the_same_whichever_side_fired() -> None:
    blocked, stopped = await streamed(BAD, "green"), await streamed(ASK, "a forbidden thing")
    assert blocked == stopped and len(stopped) == 1
    assert await at_once(BAD, "green") == await at_once(ASK, "a forbidden thing") == stopped[0]
    for side in ("input", "output"):
        told = stopped[0][side]["results"][0]
        assert told["flagged"] and told["categories"] == told["category_scores"] == {}


async def test_a_harmless_reply_has_none() -> None:
    assert await streamed(ASK, "green hills") == []
    assert await at_once(ASK, "green hills") is None
