"""The cases of a drill: every endpoint, channel, cut, wire and failure that it knows, in a fixed order."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from marbury.drill import text as texts
from marbury.drill.endpoints.endpoint import Endpoint
from marbury.drill.script import WIRES, Script
from marbury.drill.text import CUTS, cut, flag_piece, flagged, harmless

Kind = Literal["control", "reply", "request", "failure", "switch"]
SLOW_S = 0.005
SHORT, LONG = 12, 60  # words before the flag and after it
# What a client may try to talk a guard out of its work with. Names are those of other guards, and guesses.
SWITCHES: dict[str, Mapping[str, Any]] = {
    "guardrails: []": {"guardrails": []},
    "disable_global_guardrails": {"disable_global_guardrails": True},
    "metadata": {"metadata": {"disable_global_guardrails": "true", "guardrails": "none"}},
    "rails off": {"guardrails": {"options": {"rails": {"input": False, "output": False}}}},
    "another config_id": {"guardrails": {"config_id": "none"}},
    "guard: false": {"guard": False, "guardrail": None, "enforce": False},
    "output: off": {"input_mode": "off", "output": "off"},
}


@dataclass(frozen=True)
class Case:
    """One request and what the upstream says to it. `where`: the channel of a reply, or the place in a request."""

    endpoint: Endpoint
    kind: Kind
    where: str
    how: str
    stream: bool
    script: Script
    prompt: str | None = None  # put into the request at `where`
    leaves: bool = False  # the client goes after its first words
    extra: Mapping[str, Any] = field(default_factory=dict)  # more fields of the request

    @property
    def group(self) -> tuple[str, str, bool]:
        """What a control vouches for."""
        return (self.endpoint.name, self.where, self.stream)


def cases(endpoint: Endpoint, word: str) -> list[Case]:
    """All cases of an endpoint; a control comes before what it vouches for, the main one first of all."""
    return [
        *_controls(endpoint),
        *_channels(endpoint, word),
        *(_second_choice(endpoint, word) if endpoint.many else ()),
        *_cuts_and_wires(endpoint, word),
        *_failures(endpoint, word),
        *_requests(endpoint, word),
        *_switches(endpoint, word),
    ]


def _controls(endpoint: Endpoint) -> Iterator[Case]:
    for channel in endpoint.channels:
        for stream in (True, False):
            script = Script(channel, cut(harmless(SHORT), "words", ""))
            yield Case(endpoint, "control", channel, "words" if stream else "whole", stream, script)


def _reply(endpoint: Endpoint, where: str, how: str, text: str, word: str, **more: object) -> Case:
    """An attack on a reply: `how` is a cut, or a wire under the cut in words."""
    pieces = cut(text, how if how in CUTS else "words", word, seed=len(where))
    script = Script(where, pieces, flag_piece(pieces, word), **more)  # type: ignore[arg-type]
    return Case(endpoint, "reply", where, how, True, script)


def _channels(endpoint: Endpoint, word: str) -> Iterator[Case]:
    text = flagged(word, SHORT, SHORT)
    for channel in endpoint.channels:
        for how in CUTS:
            yield _reply(endpoint, channel, how, text, word)
        whole = Script(channel, (text,), 0)
        yield Case(endpoint, "reply", channel, "whole", False, whole)


def _second_choice(endpoint: Endpoint, word: str) -> Iterator[Case]:
    where, aside = "second choice", harmless(SHORT)
    for text, kind in ((harmless(SHORT), "control"), (flagged(word, SHORT, SHORT), "reply")):
        for stream in (True, False):
            pieces = cut(text, "words", word)
            script = Script(endpoint.channels[0], pieces, flag_piece(pieces, word), 1, 2, aside)
            how = "words" if stream else "whole"
            yield Case(endpoint, "control" if kind == "control" else "reply", where, how, stream, script)


def _cuts_and_wires(endpoint: Endpoint, word: str) -> Iterator[Case]:
    main = endpoint.channels[0]
    text = flagged(word, SHORT, SHORT)
    for wire in WIRES[1:]:
        yield _reply(endpoint, main, wire, text, word, wire=wire)
    for name, before, after in (("first word", 0, LONG), ("late word", 3 * LONG, SHORT), ("last word", SHORT, 0)):
        yield _as(_reply(endpoint, main, "words", flagged(word, before, after), word), name)
    shouted = flagged(word.upper(), SHORT, SHORT)
    yield _as(_reply(endpoint, main, "characters", shouted, word), "capitals")
    long = flagged(word, SHORT, LONG)
    yield _as(_reply(endpoint, main, "words", long, word, delay_s=SLOW_S), "slow, goes on")
    yield _as(
        _reply(endpoint, main, "characters", flagged(word, 2, SHORT), word, delay_s=SLOW_S / 2), "slow characters"
    )


def _as(case: Case, how: str) -> Case:
    return Case(case.endpoint, case.kind, case.where, how, case.stream, case.script)


def _failures(endpoint: Endpoint, word: str) -> Iterator[Case]:
    main = endpoint.channels[0]
    plain, bad = cut(harmless(SHORT), "words", word), cut(flagged(word, SHORT, 0), "words", word)
    going = cut(harmless(2 * LONG), "words", word)
    last, behind = flag_piece(bad, word), f"{word} {texts.tail(SHORT)}"
    for where, script in (
        ("upstream dies", Script(main, plain, dies=True)),
        ("dies at the word", Script(main, bad, last, dies=True)),
        ("word after the end", Script(main, plain, late=behind)),
    ):
        yield Case(endpoint, "failure", where, "words", True, script)
    dying = Script(main, (flagged(word, SHORT, SHORT),), 0, dies=True)
    yield Case(endpoint, "failure", "upstream dies", "whole", False, dying)
    yield Case(endpoint, "failure", "client leaves", "words", True, Script(main, going, delay_s=SLOW_S), leaves=True)


def _requests(endpoint: Endpoint, word: str) -> Iterator[Case]:
    """The word in the request. The upstream's answer is all tail: whatever of it arrives has come through."""
    plain, answer = "the keeper counts the lamps", f"{texts.FIRST} {texts.tail(SHORT)}"
    for where in endpoint.inputs:
        told = Script(endpoint.channels[0], cut(harmless(SHORT), "words", word))
        yield Case(endpoint, "control", where, "harmless", False, told, prompt=plain)
        for stream in (True, False):
            script = Script(endpoint.channels[0], cut(answer, "words", word))
            prompt = f"the keeper said {word} and counted the lamps"
            yield Case(endpoint, "request", where, "word inside", stream, script, prompt=prompt)


def _switches(endpoint: Endpoint, word: str) -> Iterator[Case]:
    """The word in a reply to a request that asks not to be guarded."""
    pieces = cut(flagged(word, SHORT, SHORT), "words", word)
    for name, extra in SWITCHES.items():
        script = Script(endpoint.channels[0], pieces, flag_piece(pieces, word))
        yield Case(endpoint, "switch", name, "words", True, script, extra=extra)
