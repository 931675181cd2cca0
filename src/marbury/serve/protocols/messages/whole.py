"""Messages that are not streamed, and the ordinary empty answer that a blocked request gets."""

from typing import Any

import msgspec

from marbury.guard import JudgedRequest
from marbury.serve.journal import OutputVerdict
from marbury.serve.protocols.messages.gate import block_of, first_text
from marbury.serve.protocols.messages.speech import Speech
from marbury.serve.protocols.messages.wire import (
    DROPPED,
    REFUSED,
    TOOL,
    Part,
    ending,
    event,
    head,
    input_of,
    message_from,
    whole,
)
from marbury.serve.protocols.plain import call_id
from marbury.serve.protocols.protocol import Asked


class WholeMessage:
    """One message that came whole: it passes whole or not at all."""

    def __init__(self, judged: JudgedRequest, asked: Asked, request_id: str) -> None:
        self._judged = judged
        self._asked = asked
        self._request_id = request_id
        self._speech = Speech(judged, asked)
        self.stopped = False

    async def judge(self, body: bytes) -> bytes:
        """The message as it may leave.

        Raises:
            GuardError: judging failed.
            ModelError: the upstream sent what is no message.
        """
        arrived = message_from(body)
        parts = [part for part in arrived.content or () if part.type != DROPPED]
        for number, part in enumerate(parts):
            block = block_of(part, number)
            self._speech.start(block, part.name or "")
            if text := first_text(part):
                self._speech.say(block, text)
            self._speech.stop(block)
        self._speech.finish()
        _, steps = self._speech.take()
        released = await self._judged.advance(steps) if steps else []
        self.stopped = any(result.stopped for result in released)
        frame = head(self._asked, self._request_id, arrived)
        if self.stopped:
            return whole(frame | REFUSED)
        content = [_passed(part, number) for number, part in enumerate(parts)]
        return whole(frame | {"content": content} | ending(arrived.stop_reason, arrived.stop_sequence, self._asked))

    def verdicts(self) -> list[OutputVerdict]:
        """The verdict of every channel."""
        return self._speech.verdicts()


def blocked(asked: Asked, request_id: str) -> bytes:
    """The answer to a blocked request: an empty message that ends as a refusal, streamed if that was asked."""
    frame = head(asked, request_id)
    if not asked.stream:
        return whole(frame | REFUSED)
    return b"".join(
        [
            event("message_start", message=frame),
            event("message_delta", delta=REFUSED, usage={"output_tokens": 0}),
            event("message_stop"),
        ]
    )


def _passed(part: Part, number: int) -> dict[str, Any]:
    if part.type == TOOL:
        given = msgspec.Raw((input_of(part) or "{}").encode())
        return {"type": TOOL, "id": call_id(part.id) or f"toolu_{number}", "name": part.name or "", "input": given}
    if part.type == "text":
        return {"type": "text", "text": part.text or ""}
    return {"type": "thinking", "thinking": part.thinking or "", "signature": ""}
