"""A chat model that is guarded is a chat model: whoever takes one never asks which it is."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing

from marbury.chat.model import ChatModel
from marbury.errors import ModelError
from marbury.guard.judge import Judge
from marbury.guard.judged import AsyncWatch, JudgedRequest
from marbury.records import Message, Piece
from marbury.scoring import Verdict


class Guard:
    """A model behind a judge. `on_verdict` hears the verdict on the request, then the one on the reply."""

    def __init__(self, model: ChatModel, judge: Judge, on_verdict: Callable[[Verdict], None] | None = None) -> None:
        self._model = model
        self._judge = judge
        self._on_verdict = on_verdict

    @property
    def name(self) -> str:
        """The guarded model's name, marked."""
        return f"{self._model.name} guarded"

    async def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        """The reply as far as it may go out; one that is blocked or stopped ends with `content_filter`.

        Raises:
            GuardError: judging failed; nothing more is released.
            ModelError: the model failed.
        """
        request = await self._judge.read(messages)
        watch = request.watch()
        try:
            if request.blocked:
                yield Piece(finish="content_filter")
                return
            async with aclosing(self._watched(messages, watch)) as pieces:
                async for piece in pieces:
                    yield piece
            await request.settle()
        finally:
            request.close()
            self._report(request, watch)

    async def _watched(self, messages: Sequence[Message], watch: AsyncWatch) -> AsyncGenerator[Piece, None]:
        enforced = self._judge.output_mode == "enforce"
        pieces = self._model.stream(messages)
        try:
            async for piece in pieces:
                text = await watch.push(piece.text) if piece.text else ""
                if piece.finish:
                    text += await watch.finish()
                stopped = enforced and watch.stopped is not None
                finish = "content_filter" if stopped else piece.finish
                if stopped:
                    await _end(pieces)  # the model must not go on writing while the reader takes what was released
                if text or finish:
                    yield Piece(text, finish)
                if finish:
                    return
        finally:
            await _end(pieces)
        raise ModelError(f"{self._model.name}: the reply ended without a finish")

    def _report(self, request: JudgedRequest, watch: AsyncWatch) -> None:
        if self._on_verdict:
            for verdict in (request.verdict, watch.verdict):
                if verdict is not None:
                    self._on_verdict(verdict)


async def _end(pieces: AsyncIterator[Piece]) -> None:
    """Close a stream that can be closed; an async generator would otherwise wait for the garbage collector."""
    close = getattr(pieces, "aclose", None)
    if close is not None:
        await close()
