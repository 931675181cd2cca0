"""Taking out of a text what names a person or opens a door. Patterns only, linear in the text: no promise."""

import re

_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_NUMBER = re.compile(r"\+?\d(?:[ .()/-]{0,2}\d){5,}")  # phones, cards, accounts
_RUN = re.compile(r"[A-Za-z0-9_+/=-]{20,}")


def redacted(text: str) -> str:
    """The text with `[email]`, `[secret]` and `[number]` in place of those."""
    return _NUMBER.sub("[number]", _RUN.sub(_secret, _EMAIL.sub("[email]", text)))


def _secret(run: re.Match[str]) -> str:
    """Keys mix letters and digits; long words do not."""
    text = run[0]
    mixed = any(char.isdigit() for char in text) and any(char.isalpha() for char in text)
    return "[secret]" if mixed else text
