"""Chunks of a streamed chat completion, made of the text that was released."""

from dataclasses import dataclass, field
from typing import Any

from marbury.guard import AsyncWatch, Released
from marbury.serve.protocols.chat.wire import LEGACY, Channel, Function, Head, OutChoice, Said, ToolCall
from marbury.serve.protocols.escapes import Unescaping


@dataclass
class Call:
    """A tool call: its id waits for its name, so that the first thing a client hears of it is both."""

    id: str | None = None
    name: str = ""
    named: bool = False  # the name is complete
    told: bool = False  # the client has heard of it


@dataclass(eq=False)
class OpenChoice:
    """One choice while it streams."""

    index: int
    watches: dict[Channel, AsyncWatch] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)
    escapes: dict[Channel, Unescaping] = field(default_factory=dict)  # of arguments, which are judged decoded
    complete: bool = False  # the upstream has said its finish reason
    ended: bool = False  # a finish reason has left


class ChunkWriter:
    """Makes chunks of released text: one for what a choice says between two flushes."""

    def __init__(self, head: Head) -> None:
        self._head = head
        self._out: list[bytes] = []
        self._said: Said | None = None
        self._speaker: OpenChoice | None = None

    def take(self) -> bytes:
        """All that was written since the last time."""
        self.flush()
        out, self._out = b"".join(self._out), []
        return out

    def flush(self) -> None:
        """End the chunk that is being made."""
        if self._said is not None and self._speaker is not None:
            self._out.append(self._head.chunk([OutChoice(self._speaker.index, self._said, None)]))
        self._said = self._speaker = None

    def raw(self, event: bytes) -> None:
        """An event as it is."""
        self.flush()
        self._out.append(event)

    def usage(self, usage: dict[str, Any]) -> None:
        """The usage chunk."""
        self.raw(self._head.chunk([], usage))

    def end(self, choice: OpenChoice, reason: str, *, flagged: bool) -> None:
        """The last chunk of a choice."""
        self.raw(self._head.chunk([OutChoice(choice.index, Said(), reason)], flagged=flagged))

    def role(self, choice: OpenChoice) -> None:
        """The beginning of a choice."""
        said = self._speak(choice)
        said.role, said.content = "assistant", said.content or ""

    def release(self, choice: OpenChoice, channel: Channel, result: Released, *, complete: bool) -> None:
        """Text that a watch released; `complete` says that the channel has ended."""
        kind, place = channel
        if kind == "name":
            choice.calls[place].name += result.text
            if complete and not result.stopped:
                self._tell(choice, place)
        elif not result.text:
            return
        elif kind == "arguments":
            self._argue(choice, place, choice.escapes[channel].release(len(result.text)))
        else:
            said = self._speak(choice)
            setattr(said, kind, (getattr(said, kind) or "") + result.text)

    def _speak(self, choice: OpenChoice) -> Said:
        if self._speaker is not choice:
            self.flush()
        if self._said is None:
            self._said, self._speaker = Said(), choice
        return self._said

    def _tell(self, choice: OpenChoice, place: int) -> None:
        """The first that a client hears of a call."""
        call, said = choice.calls[place], self._speak(choice)
        call.told = True
        function = Function(call.name, "")
        if place == LEGACY:
            said.function_call = function
        else:
            said.tool_calls = [*(said.tool_calls or ()), ToolCall(place, call.id, "function", function)]

    def _argue(self, choice: OpenChoice, place: int, text: str) -> None:
        if not choice.calls[place].told:
            self._tell(choice, place)
        said = self._speak(choice)
        if place == LEGACY:
            function = said.function_call = said.function_call or Function()
        else:
            calls = said.tool_calls = said.tool_calls or []
            if not calls or calls[-1].index != place:
                calls.append(ToolCall(place, function=Function()))
            assert calls[-1].function is not None
            function = calls[-1].function
        function.arguments = (function.arguments or "") + text
