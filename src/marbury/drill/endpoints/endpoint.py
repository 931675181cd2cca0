"""What the drill has to know of an endpoint: how to ask there, where a text can hide, how a reply looks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from marbury.drill.script import Event, Script

Body = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """One request: `text` is its harmless user message, which also names the case to the upstream."""

    text: str
    model: str
    stream: bool
    channel: str = ""
    choices: int = 1


@dataclass(frozen=True)
class Endpoint:
    """One endpoint. The first channel is the one that every guard must pass; the drill's names are the same for all."""

    name: str
    path: str  # below the base URL that ends in /v1
    channels: tuple[str, ...]
    request: Callable[[Ask], Body]
    inputs: Mapping[str, Callable[[Body, str], Body]]  # places of a request: the request with a text put there
    events: Callable[[Script], list[Event]]
    whole: Callable[[Script], Body]
    many: bool = False  # knows `n`
    odd: tuple[str, ...] = ()  # channels on which no client expects a text: a guard may well break them off

    def channel(self, script: Script) -> str:
        """The script's channel, or the main one where a guard asks an endpoint that lacks it."""
        return script.channel if script.channel in self.channels else self.channels[0]


def tool_parameters(text: str = "what is told") -> Body:
    """The JSON schema of the drill's tool."""
    return {"type": "object", "properties": {"tale": {"type": "string", "description": text}}}


def as_arguments(pieces: tuple[str, ...]) -> tuple[str, ...]:
    """The pieces as the arguments of a call: one JSON object, cut where they were."""
    if len(pieces) == 1:
        return ('{"tale": "' + pieces[0] + '"}',)
    return ('{"tale": "' + pieces[0], *pieces[1:-1], pieces[-1] + '"}')
