"""Chat completions that are not streamed, and the ordinary empty answer that a blocked request gets."""

from typing import Any

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.chat.gate import DONE, FILTERED
from marbury.serve.protocols.chat.wire import (
    NO_USAGE,
    Arrived,
    Channel,
    Choice,
    Function,
    Head,
    OutChoice,
    Said,
    arrived_from,
    channel_name,
    texts,
)
from marbury.serve.protocols.escapes import unescaped
from marbury.serve.protocols.plain import call_id, numbers, word
from marbury.serve.protocols.protocol import Asked

WITHHELD: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}


class WholeReply:
    """One reply that came whole: each choice passes whole or not at all."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._asked = asked
        self._head = Head(f"chatcmpl-{request_id}", asked.model)
        self._watched: list[tuple[int, Channel, AsyncWatch]] = []
        self.stopped = False

    async def judge(self, body: bytes) -> bytes:
        """The reply as it may leave.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent what is no chat completion.
        """
        arrived = arrived_from(body)
        choices = self._checked(arrived)
        self._head.take(arrived)
        steps = [step for choice in choices for step in self._steps(choice)]
        released = await self._judged.advance(steps)
        stopped_watches = {id(watch) for (watch, _), result in zip(steps, released, strict=True) if result.stopped}
        stopped = {index for index, _, watch in self._watched if id(watch) in stopped_watches}
        self.stopped = bool(stopped)
        said = [_withheld(choice) if choice.index in stopped else _passed(choice) for choice in choices]
        return self._head.whole(said, numbers(arrived.usage), flagged=self.stopped)

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every channel."""
        return [
            OutputVerdict(index, channel_name(channel), watch.verdict)
            for index, channel, watch in self._watched
            if watch.verdict is not None
        ]

    def _steps(self, choice: Choice) -> list[tuple[AsyncWatch, str | None]]:
        steps: list[tuple[AsyncWatch, str | None]] = []
        for channel, text in texts(choice.message or Said()):
            watch = self._judged.watch()
            self._watched.append((choice.index, channel, watch))
            steps += [(watch, unescaped(text) if channel[0] == "arguments" else text), (watch, None)]
        return steps

    def _checked(self, arrived: Arrived) -> list[Choice]:
        choices = arrived.choices or []
        if not choices or len(choices) > self._asked.choices:
            raise ModelError(f"the upstream sent {len(choices)} choices when {self._asked.choices} were asked for")
        return choices


def blocked(asked: Asked, request_id: str) -> bytes:
    """The answer to a blocked request: empty choices that end with `content_filter`, streamed if that was asked."""
    head = Head(f"chatcmpl-{request_id}", asked.model)
    if not asked.stream:
        return head.whole([_withheld(Choice(i)) for i in range(asked.choices)], NO_USAGE, flagged=True)
    events: list[bytes] = []
    for i in range(asked.choices):
        events.append(head.chunk([OutChoice(i, Said(role="assistant", content=""), None)]))
        events.append(head.chunk([OutChoice(i, Said(), FILTERED)], flagged=True))
    if asked.include_usage:
        events.append(head.chunk([], NO_USAGE))
    return b"".join([*events, DONE])


def _withheld(choice: Choice) -> dict[str, Any]:
    return {"index": choice.index, "message": WITHHELD, "logprobs": None, "finish_reason": FILTERED}


def _passed(choice: Choice) -> dict[str, Any]:
    said = choice.message or Said()
    message: dict[str, Any] = {"role": "assistant", "content": said.content, "refusal": said.refusal}
    for name in ("reasoning_content", "reasoning"):
        if (text := getattr(said, name)) is not None:
            message[name] = text
    if said.tool_calls is not None:
        message["tool_calls"] = [
            {"id": call_id(call.id), "type": "function", "function": _function(call.function)}
            for call in said.tool_calls
        ]
    if said.function_call is not None:
        message["function_call"] = _function(said.function_call)
    reason = word(choice.finish_reason, "stop")
    return {"index": choice.index, "message": message, "logprobs": None, "finish_reason": reason}


def _function(function: Function | None) -> dict[str, str]:
    function = function or Function()
    return {"name": function.name or "", "arguments": function.arguments or ""}
