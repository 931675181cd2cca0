"""What may pass unread: names for machines and numbers, too poor to carry a text."""

import re
from typing import Any

_WORD = re.compile(r"[\w./:@+=|~-]{1,256}", re.ASCII)
_CALL_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


def word(text: str | None, default: str) -> str:
    """A name for machines if it is one word, else the default."""
    return text if text is not None and _WORD.fullmatch(text) else default


def call_id(text: str | None) -> str | None:
    """The id of a tool call if it is a short word."""
    return text if text is not None and _CALL_ID.fullmatch(text) else None


def numbers(value: Any) -> dict[str, Any]:
    """What of a usage object is numbers."""
    if not isinstance(value, dict):
        return {}
    counts: dict[str, Any] = {}
    for key, part in value.items():
        if isinstance(part, dict):
            counts[key] = numbers(part)
        elif isinstance(part, int | float):
            counts[key] = part
    return {key: part for key, part in counts.items() if _WORD.fullmatch(key)}
