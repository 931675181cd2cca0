"""What it means to be a chat model. A guard keeps the same contract, so nobody asks whether a model is guarded."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from marbury.records import Finish, Message, Piece, Reply


class ChatModel(Protocol):
    """Answers a conversation, piece by piece."""

    @property
    def name(self) -> str:
        """How reports call the model."""
        ...

    def stream(self, messages: Sequence[Message]) -> AsyncIterator[Piece]:
        """The reply as it grows. The last piece, and only it, has a `finish`.

        Raises:
            ModelError: the model or its endpoint failed.
        """
        ...


async def complete(model: ChatModel, messages: Sequence[Message]) -> Reply:
    """The whole reply. Raises ModelError as `stream` does."""
    parts: list[str] = []
    finish: Finish = "stop"
    async for piece in model.stream(messages):
        parts.append(piece.text)
        finish = piece.finish or finish
    return Reply("".join(parts), finish)
