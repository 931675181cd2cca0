"""From the name of a model, as people write it in settings and flags, to the model."""

import difflib
import re
from pathlib import Path

from marbury.chat.endpoint import OPENAI, Endpoint
from marbury.chat.model import ChatModel
from marbury.chat.scripted import Scripted
from marbury.errors import SettingsError

FORMS = {
    "openai": "openai:MODEL@http://HOST/v1",
    "scripted": "scripted:FILE.jsonl",
}
_ADDRESS = re.compile(r"@(localhost|[\w.-]+[.:]\w)")  # an address without http://, not a model's revision


def open_model(
    spec: str,
    *,
    folder: Path = Path(),
    key_env: str = "",
    temperature: float | None = None,
    max_tokens: int | None = None,
    timeout_s: float = 120.0,
    retries: int = 4,
) -> ChatModel:
    """The model that a text names; the other arguments are for endpoints (see `Endpoint`).

    A scripted model's file is looked up from `folder`. `openai:MODEL` without an address means OpenAI itself.

    Raises:
        SettingsError: the text names no kind of model that there is, or a key is missing.
        DataError: the scripted model's file cannot be read.
    """
    kind, _, rest = spec.partition(":")
    if kind not in FORMS or not rest:
        raise SettingsError(f"{spec!r} is not a model: {_hint(spec, kind)}")
    if kind == "scripted":
        return Scripted.load(folder / rest)
    found = re.fullmatch(r"(?P<model>.+?)(@(?P<url>https?://.+))?", rest)
    if found is None or (found["url"] is None and _ADDRESS.search(rest)):
        raise SettingsError(f"{spec!r} is not a model: write {FORMS['openai']}, with http:// or https://")
    return Endpoint(
        found["model"],
        found["url"] or OPENAI,
        key_env=key_env,
        temperature=temperature,
        max_tokens=max_tokens,
        timeout_s=timeout_s,
        retries=retries,
    )


def _hint(spec: str, kind: str) -> str:
    if spec.startswith(("http://", "https://")):
        return f"put the model's name before the address: openai:MODEL@{spec}"
    if spec.endswith(".jsonl") and ":" not in spec:
        return f"did you mean 'scripted:{spec}'?"
    near = difflib.get_close_matches(kind.casefold(), FORMS, n=1)
    if near:
        return f"did you mean {FORMS[near[0]]}?"
    return f"write {' or '.join(FORMS.values())}"
