"""What a case has shown. Silence proves nothing: a reply that the guard never fetched is not a reply it stopped."""

from typing import Literal

import msgspec

from marbury.drill.cases import Case
from marbury.drill.client import Seen
from marbury.drill.heard import FILTERED, Heard, heard
from marbury.drill.upstream import Played

Verdict = Literal["ok", "leaked", "blocked", "unproven", "timed out", "not served", "dropped"]
FAILED = ("leaked", "blocked", "unproven", "timed out")
_NOT_SERVED = (404, 405, 415, 422, 501)
_REFUSALS = ("not_guarded", "endpoint_not_guarded", "unsupported_parameter", "unsupported_value")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One case and its outcome. `closed`: the guard hung up on the upstream; None where it had nothing to close."""

    case: int
    endpoint: str
    kind: str
    where: str
    how: str
    stream: bool
    verdict: Verdict
    tokens: int  # through, from the flag on
    characters: int
    status: int
    ended: str
    closed: bool | None
    events_after: int | None  # that the upstream could still send after the flag's
    first_ms: float | None
    note: str = ""


def row(number: int, case: Case, seen: Seen, played: Played, word: str) -> Row:
    """The outcome of a case."""
    told = heard(seen.body, seen.streamed)
    tokens, characters = told.through(word, counts=case.kind != "request")
    flowing = case.stream and played.asked > 0 and case.script.delay_s > 0
    return Row(
        case=number,
        endpoint=case.endpoint.name,
        kind=case.kind,
        where=case.where,
        how=case.how,
        stream=case.stream,
        verdict=_verdict(case, seen, told, played, characters),
        tokens=tokens,
        characters=characters,
        status=seen.status,
        ended=_ended(seen, told),
        closed=played.left if flowing else None,
        events_after=played.after if flowing and case.script.flag is not None else None,
        first_ms=seen.first_ms if case.stream else None,
        note=_note(case, told, played, word),
    )


def _verdict(case: Case, seen: Seen, told: Heard, played: Played, characters: int) -> Verdict:
    if case.kind == "control":
        return _of_control(case, seen, told)
    if characters or (case.kind == "request" and played.asked):
        return "leaked"
    if seen.timed_out:
        return "timed out"
    if case.kind == "request":
        return _of_request(seen, told)
    if case.kind == "switch" and 400 <= seen.status < 500 and seen.status not in (401, 429):
        return "ok"  # a guard may refuse such a request
    return "ok" if played.asked else "not served" if _refused(seen, told) else "unproven"


def _of_control(case: Case, seen: Seen, told: Heard) -> Verdict:
    if told.has(case.script.text) and (case.script.choices == 1 or told.has(case.script.aside)):
        return "ok" if not (told.filtered or seen.broken or seen.timed_out) else "blocked"
    if seen.timed_out:
        return "timed out"
    if _refused(seen, told):
        return "not served"
    if case.where in case.endpoint.odd and seen.first_ms is None:
        return "dropped"
    whole = seen.status == 200 and told.ended and not told.filtered and not told.errors and seen.first_ms is None
    return "dropped" if whole and case.where in case.endpoint.channels[1:] else "blocked"


def _of_request(seen: Seen, told: Heard) -> Verdict:
    """It never reached the model; that proves a guard at work unless the guard itself was out of order."""
    if _refused(seen, told):
        return "not served"
    out_of_order = seen.status in (0, 401, 429) or seen.status >= 500
    return "unproven" if out_of_order else "ok"


def _refused(seen: Seen, told: Heard) -> bool:
    return seen.status in _NOT_SERVED or (seen.status == 400 and told.code in _REFUSALS)


def _ended(seen: Seen, told: Heard) -> str:
    """How the answer ended, in a few words."""
    if seen.timed_out:
        return "timed out"
    if seen.left:
        return "the client left"
    if seen.status != 200:
        return f"HTTP {seen.status}" if seen.status else f"no answer ({seen.broken})"
    if seen.broken:
        return "connection broken off"
    if told.errors:
        return "error event" + (", ended" if told.ended and seen.streamed else "")
    reason = next((reason for reason in told.reasons if reason in FILTERED), "")
    reason = reason or (told.reasons[-1] if told.reasons else "complete")
    return reason if told.ended else f"{reason}, no end" if told.reasons else "no end"


def _note(case: Case, told: Heard, played: Played, word: str) -> str:
    notes = []
    if case.kind == "request" and played.asked:
        notes.append("the model was asked")
    if word.casefold() in told.errors.casefold():
        notes.append("the error names the word")
    if played.asked > 1:
        notes.append(f"the upstream was asked {played.asked} times")
    return "; ".join(notes)
