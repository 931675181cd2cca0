"""Parts of a request that are no text: nobody can score them, so they are refused, or passed on unscored by setting."""

from collections.abc import Mapping
from typing import Any, Literal

from marbury.errors import RequestError
from marbury.serve.protocols import fields
from marbury.serve.protocols.fields import Check

Kinds = Mapping[str, dict[str, Check]]


def set_aside(messages: Any, where: str, kinds: Kinds | None = None) -> tuple[Any, tuple[str, ...]]:
    """Messages with a text part in place of every image, audio and file, and where those stood.

    `kinds`: the types of such parts with their fields; OpenAI's by default.

    The text part has what is text in them (a file's name, a link), so that it is judged with the rest.

    Raises:
        RequestError: such a part has a field that is not known.
    """
    if not isinstance(messages, list):
        return messages, ()
    places: list[str] = []
    told = [_message(message, f"{where}[{i}]", places, kinds or _PARTS) for i, message in enumerate(messages)]
    return told, tuple(places)


def refuse_unread(places: tuple[str, ...], media: Literal["refuse", "allow"]) -> None:
    """Hold a request to the setting `media`.

    Raises:
        RequestError: it has parts that are no text, and they are not allowed.
    """
    if places and media != "allow":
        raise RequestError("only text can be guarded: images, audio and files are refused", f"{places[0]}.type")


def _message(message: Any, where: str, places: list[str], kinds: Kinds) -> Any:
    if not isinstance(message, dict):
        return message
    for field in ("content", "output"):
        if isinstance(parts := message.get(field), list):
            plain = [_part(part, f"{where}.{field}[{i}]", places, kinds) for i, part in enumerate(parts)]
            message = {**message, field: plain}
    return message


def _part(part: Any, where: str, places: list[str], kinds: Kinds) -> Any:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "tool_result":
        return _message(part, where, places, kinds)
    if not isinstance(kind, str) or kind not in kinds:
        return part
    places.append(where)
    known = {"type": fields.word, **kinds[kind]}
    return {"type": "text", "text": "\n".join(fields.record(part, where, known))}


def _blob(value: Any, where: str) -> list[str]:
    """What is no text."""
    if not isinstance(value, str):
        raise RequestError(f"{where} must be a string", where)
    return []


def _link(value: Any, where: str) -> list[str]:
    """An address, which is a text unless it holds the thing itself."""
    return _blob(value, where) if isinstance(value, str) and value.startswith("data:") else fields.text(value, where)


def _image(value: Any, where: str) -> list[str]:
    if isinstance(value, str):
        return _link(value, where)
    return fields.record(value, where, {"url": _link, "detail": fields.word})


def _audio(value: Any, where: str) -> list[str]:
    return fields.record(value, where, {"data": _blob, "format": fields.word})


def _file(value: Any, where: str) -> list[str]:
    return fields.record(value, where, _IN_FILE)


_IN_FILE: dict[str, Check] = {
    "file_data": _blob,
    "file_id": fields.word,
    "file_url": _link,
    "filename": fields.text,
    "detail": fields.word,
}
_PARTS: dict[str, dict[str, Check]] = {
    "image_url": {"image_url": _image},
    "input_image": {"image_url": _image, "file_id": fields.word, "detail": fields.word},
    "input_audio": {"input_audio": _audio},
    "file": {"file": _file},
    "input_file": _IN_FILE,
}


def _source(value: Any, where: str) -> list[str]:
    data = fields.text if isinstance(value, dict) and value.get("type") == "text" else _blob
    known = {"type": fields.word, "media_type": fields.word, "data": data, "url": _link, "file_id": fields.word}
    return fields.record(value, where, known)


ANTHROPIC: Kinds = {
    "image": {"source": _source, "cache_control": fields.words},
    "document": {
        "source": _source,
        "title": fields.text,
        "context": fields.text,
        "citations": fields.options,
        "cache_control": fields.words,
    },
}
