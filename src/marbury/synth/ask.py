"""Asking a chat model with a memory, so that a killed run goes on where it was and pays for nothing twice.

Every answer lies in a file of its own, named by the hash of the request. What is asked, this module does not know.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from marbury.chat.model import ChatModel, complete
from marbury.errors import ModelError, WorkspaceError
from marbury.records import Message, Reply
from marbury.synth.prompts import REPAIR
from marbury.workspace import write_atomic

Value = TypeVar("Value")
_ATTEMPTS = 2  # a reply that breaks off half-way is worth one more try; the endpoint repeats the rest itself


class Asker:
    """Asks one model, with a limited number of open requests. `asked` and `remembered` count its answers."""

    def __init__(self, model: ChatModel, answers: Path, *, concurrency: int = 4, salt: str = "") -> None:
        """`salt`: what else makes an answer another one, such as the temperature."""
        self.asked = 0
        self.remembered = 0
        self._model = model
        self._answers = answers
        self._salt = salt
        self._room = asyncio.Semaphore(concurrency)

    async def reply(self, messages: Sequence[Message]) -> Reply:
        """The model's reply, from the disk if it was given before.

        Raises:
            ModelError: the model failed twice.
            WorkspaceError: the remembered answer is damaged.
        """
        path = self._path(messages)
        if path.exists():
            self.remembered += 1
            return _remembered(path)
        async with self._room:
            reply = await self._complete(messages)
        write_atomic(path, msgspec.json.encode(reply))
        self.asked += 1
        return reply

    async def value(self, messages: Sequence[Message], kind: type[Value]) -> Value | str:
        """The model's reply read as JSON of this kind, or why it cannot be read (after one repair try)."""
        reason = ""
        for _ in range(2):
            reply = await self.reply(messages)
            if reply.finish == "content_filter":
                return "the endpoint's filter stopped the answer"
            try:
                return msgspec.json.decode(json_part(reply.text), type=kind)
            except msgspec.MsgspecError as error:
                reason = str(error)
            repair = Message("user", REPAIR.substitute(reason=reason))
            messages = (*messages, Message("assistant", reply.text), repair)
        return f"not the JSON that was asked for: {reason}"

    async def _complete(self, messages: Sequence[Message]) -> Reply:
        for _ in range(_ATTEMPTS - 1):
            try:
                return await complete(self._model, messages)
            except ModelError:
                continue
        return await complete(self._model, messages)

    def _path(self, messages: Sequence[Message]) -> Path:
        request = [self._model.name, self._salt, [[message.role, message.content] for message in messages]]
        digest = hashlib.sha256(json.dumps(request, ensure_ascii=False).encode()).hexdigest()
        return self._answers / digest[:2] / f"{digest}.json"


def json_part(text: str) -> str:
    """The JSON object in a text: models like to put a fence or a sentence around it."""
    start, end = text.find("{"), text.rfind("}")
    return text[start : end + 1] if 0 <= start < end else text


def _remembered(path: Path) -> Reply:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Reply)
    except msgspec.MsgspecError as error:
        raise WorkspaceError(f"{path}: a damaged answer ({error}): delete this file and run again") from error
