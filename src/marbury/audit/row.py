"""An `Entry` as a row of the database: flat where one filters, JSON where one looks."""

import hashlib
import math
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from marbury.audit.redact import redacted
from marbury.scoring import Verdict
from marbury.serve.door import flagged
from marbury.serve.journal import Content, Entry

Keep = Literal["none", "hash", "redacted", "full"]
_REFUSED = ("refused", "unauthorized", "cooling_down", "overloaded")


def row_of(entry: Entry, keep: Keep) -> dict[str, Any]:
    """The row of a request, with as much of its content as is to be kept."""
    outputs = [output.verdict for output in entry.outputs]
    highest = max(outputs, key=_order, default=None)
    found = [verdict for verdict in (entry.input, *outputs) if verdict is not None and verdict.flagged]
    row = msgspec.to_builtins(msgspec.structs.replace(entry, content=None))
    del row["input"], row["outputs"]
    row |= {
        "user_hash": row.pop("user"),
        "action": _action(entry, bool(found)),
        "stage": found[0].side if found else None,
        "category": found[0].category if found else None,
        "verdicts": {"input": msgspec.to_builtins(entry.input), "outputs": msgspec.to_builtins(entry.outputs)},
        "flagged": flagged(entry),
        "content": _content(entry.content, keep),
        **_numbers("input", entry.input),
        **_numbers("output", highest),
    }
    return {name: _clean(value) for name, value in row.items()}


def _order(verdict: Verdict) -> tuple[bool, float]:
    return math.isnan(verdict.score), verdict.score


def _numbers(side: str, verdict: Verdict | None) -> dict[str, float | None]:
    score, threshold = (verdict.score, verdict.threshold) if verdict else (None, None)
    return {f"{side}_score": score, f"{side}_threshold": threshold}


def _action(entry: Entry, found: bool) -> str:
    if entry.outcome in _REFUSED:
        return "refuse"
    if entry.judging_failed:
        return "error"
    if found:
        return "block" if flagged(entry) else "would_block"
    return "error" if entry.outcome in ("guard_error", "upstream_error", "timeout") else "allow"


def _content(content: Content | None, keep: Keep) -> dict[str, Any] | None:
    if content is None or keep == "none":
        return None
    texts = [(message.role, message.content) for message in content.request]
    if keep == "hash":
        return {
            "request": _hash("\0".join(f"{role}\0{text}" for role, text in texts)),
            "reply": [*map(_hash, content.reply)],
        }
    shown: Callable[[str], str] = redacted if keep == "redacted" else str
    request = [{"role": role, "content": shown(text)} for role, text in texts]
    return {"request": request, "reply": [shown(text) for text in content.reply]}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _clean(value: Any) -> Any:
    """What every database and JSON can hold: no NUL, no half of a character, no number that is none."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _clean(part) for name, part in value.items()}
    return [_clean(part) for part in value] if isinstance(value, list | tuple) else value
