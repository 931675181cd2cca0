"""What people's labels mean: words, numbers and truth values as harmful, harmless, or left out."""

import math
from collections.abc import Mapping
from typing import Any, Literal

Meaning = Literal["harmful", "harmless", "skip"]

_HARMFUL = {
    "harmful",
    "unsafe",
    "toxic",
    "malicious",
    "jailbreak",
    "jailbroken",
    "bad",
    "flagged",
    "injection",
    "attack",
}
_HARMLESS = {"harmless", "safe", "benign", "unharmful", "nontoxic", "non-toxic", "not harmful", "good", "ok", "normal"}
_TRUE = {"1", "true", "yes", "y", "t"}
_FALSE = {"0", "false", "no", "n", "f"}


class Skip(ValueError):
    """The settings leave this row out; that is no mistake of the file."""


def label_text(value: Any) -> str:
    """A label as the settings write it: no value is "", a whole number has no point, a truth value is a word."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    number = _number(value)
    return str(int(number)) if number is not None and number.is_integer() else str(value).strip()


def meaning_of(
    value: Any, words: Mapping[str, Meaning], least: float | None = None, safe: bool = False
) -> Meaning | None:
    """What a label means: as `words` say, else by the usual words; None when nobody knows.

    `least`: the number from which a score means harmful. `safe`: the column says whether the row is safe.
    """
    text = label_text(value)
    if text in words:
        return words[text]
    low = text.casefold()
    if low in _HARMFUL | _HARMLESS:
        return "harmful" if low in _HARMFUL else "harmless"
    number = None if isinstance(value, bool) else _number(value)
    if least is not None and number is not None:
        return "harmful" if (number >= least) != safe else "harmless"
    if low in _TRUE | _FALSE:
        return "harmful" if (low in _TRUE) != safe else "harmless"
    return None


def is_harmful(value: Any, words: Mapping[str, Meaning], least: float | None = None, safe: bool = False) -> bool:
    """Whether a label means harmful.

    Raises:
        Skip: the settings leave such rows out.
        ValueError: the label means neither; says what to do.
    """
    meaning = meaning_of(value, words, least, safe)
    text = label_text(value)
    if meaning == "skip":
        raise Skip(f"label {text!r} is left out by the settings")
    if meaning is None:
        score = _number(value) is not None
        hint = "give `harmful_from`, the score from which a row is harmful" if score else "name it in `labels`"
        raise ValueError(f"label {text!r} means neither harmful nor harmless: {hint}")
    return meaning == "harmful"


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
