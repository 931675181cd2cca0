"""Completions that are not streamed, and the ordinary empty answer that a blocked request gets."""

from marbury.errors import ModelError
from marbury.guard import AsyncWatch, JudgedRequest
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.completions.gate import prompt_of
from marbury.serve.protocols.completions.wire import (
    DONE,
    FILTERED,
    NO_USAGE,
    Choice,
    Head,
    OutChoice,
    arrived_from,
)
from marbury.serve.protocols.plain import word
from marbury.serve.protocols.protocol import Asked


class WholeCompletion:
    """One reply that came whole: each choice passes whole or not at all."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._asked = asked
        self._head = Head(f"cmpl-{request_id}", asked.model)
        self._watched: list[tuple[int, AsyncWatch]] = []
        self.stopped = False

    async def judge(self, body: bytes) -> bytes:
        """The reply as it may leave.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent what is no completion.
        """
        arrived = arrived_from(body)
        choices = self._checked(arrived.choices or [])
        self._head.take(arrived)
        steps: list[tuple[AsyncWatch, str | None]] = []
        for choice in choices:
            watch = self._judged.watch(prompt_of(self._asked, choice.index))
            self._watched.append((choice.index, watch))
            steps += [(watch, choice.text or ""), (watch, None)]
        released = await self._judged.advance(steps)
        stopped = [any(r.stopped for r in released[i : i + 2]) for i in range(0, len(released), 2)]
        self.stopped = any(stopped)
        said = [_withheld(c.index) if over else _passed(c) for c, over in zip(choices, stopped, strict=True)]
        return self._head.whole(said, arrived.usage or {})

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every choice."""
        return [OutputVerdict(i, "text", watch.verdict) for i, watch in self._watched if watch.verdict is not None]

    def _checked(self, choices: list[Choice]) -> list[Choice]:
        most = self._asked.choices
        if not choices or len(choices) > most or not all(0 <= choice.index < most for choice in choices):
            raise ModelError(f"the upstream sent {len(choices)} choices when {most} were asked for")
        return choices


def blocked(asked: Asked, request_id: str) -> bytes:
    """The answer to a blocked request: empty choices that end with `content_filter`, streamed if that was asked."""
    head = Head(f"cmpl-{request_id}", asked.model)
    choices = [_withheld(i) for i in range(asked.choices)]
    if not asked.stream:
        return head.whole(choices, NO_USAGE)
    usage = [head.chunk([], NO_USAGE)] if asked.include_usage else []
    return b"".join([*(head.chunk([choice]) for choice in choices), *usage, DONE])


def _withheld(index: int) -> OutChoice:
    return OutChoice(index, "", FILTERED)


def _passed(choice: Choice) -> OutChoice:
    return OutChoice(choice.index, choice.text or "", word(choice.finish_reason, "stop"))
