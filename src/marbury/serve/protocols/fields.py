"""The kinds of fields in a request: each check gives the texts to read, or refuses the field by name."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from marbury.errors import RequestError
from marbury.records import Message

Check = Callable[[Any, str], list[str]]
MOST_CHOICES = 16
DEEPEST = 48
_WORD = re.compile(r"[\w./:@+=|~-]{1,256}", re.ASCII)
_PLAIN_CHOICES = ("none", "auto", "required")
# Words of JSON schemas and of OpenAI's own objects; any other key or value is a text that the model reads.
_STRUCTURE = frozenset(
    "type function name description parameters properties required items enum strict additionalProperties anyOf "
    "json_schema json_object schema content text tools mode allowed_tools $defs $ref title default minimum maximum "
    "object string number integer boolean array".split()
)
_PLACE = re.compile(r"[\w.\[\]-]{1,128}", re.ASCII)


def text(value: Any, where: str) -> list[str]:
    """A string that the model reads."""
    if not isinstance(value, str):
        raise RequestError(f"{where} must be a string", where)
    return [value]


def word(value: Any, where: str) -> list[str]:
    """A name for machines: no model reads it, so it is not judged, and it must be too poor to carry text."""
    if not isinstance(value, str) or not is_word(value):
        raise RequestError(f"{where} must be one word of letters, digits and ./:@+=|~- (at most 256)", where)
    return []


def is_word(value: str) -> bool:
    """Whether a string is too poor to carry text."""
    return _WORD.fullmatch(value) is not None


def nothing(value: Any, where: str) -> list[str]:
    """An unknown field: welcome as long as there is nothing in it, or its name, but a number or a switch."""
    if not _PLACE.fullmatch(where):
        raise RequestError("a field's name is too odd to be passed on: leave it out", where[:128])
    if value is None or isinstance(value, bool | int | float) or value in ("", [], {}):
        return []
    raise RequestError(f"{where} is not a field that the guard can read, so it is refused: leave it out", where)


def refused(value: Any, where: str) -> list[str]:
    """A field that asks for what is not guarded, unless it is switched off."""
    if value in (False, 0, None) or value in ("", [], {}):
        return []
    raise RequestError(f"{where} would answer on a channel that is not guarded: leave it out", where)


def modalities(value: Any, where: str) -> list[str]:
    """Text alone."""
    return [] if value == ["text"] else refused(value, where)


def read(value: Any, where: str) -> list[str]:
    """Whatever is in it, as one text."""
    return ["\n".join(texts(value, where))]


def read_each(value: Any, where: str, kinds: tuple[str, ...] = ("function",)) -> list[str]:
    """A list of tools: each is a text of its own."""
    if not isinstance(value, list):
        raise RequestError(f"{where} must be a list", where)
    for i, tool in enumerate(value):
        kind = tool.get("type", "function") if isinstance(tool, dict) else None
        if kind not in kinds:
            raise RequestError(f"only tools of type {' or '.join(kinds)} can be guarded", f"{where}[{i}].type")
    return [text for i, tool in enumerate(value) for text in read(tool, f"{where}[{i}]")]


def choice(value: Any, where: str) -> list[str]:
    """Which tool to use: a plain word, or an object that is read."""
    return [] if value in _PLAIN_CHOICES else read(value, where)


def content(kinds: Mapping[str, str]) -> Check:
    """A content: a string, or parts of text, each of a kind that names the field with its text.

    Parts that meet inside a word are read joined as well: upstreams differ in joining.
    """

    def check(value: Any, where: str) -> list[str]:
        if isinstance(value, str):
            return [value]
        if not isinstance(value, list):
            raise RequestError(f"{where} must be a string or a list of text parts", where)
        return both_ways([_part(part, f"{where}[{i}]", kinds) for i, part in enumerate(value)])

    return check


def both_ways(parts: list[str]) -> list[str]:
    """Parts of one text, apart and, where two meet inside a word, joined as well."""
    apart, joined = "\n".join(parts), "".join(parts)
    return [apart] if joined.split() == apart.split() else [apart, joined]


def _part(part: Any, where: str, kinds: Mapping[str, str]) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise RequestError("only text can be guarded: images, audio and files are refused", f"{where}.type")
    text = part.get(kinds[kind])
    if not isinstance(text, str):
        raise RequestError(f"a part of type {kind} needs a string {kinds[kind]!r}", f"{where}.{kinds[kind]}")
    for field, value in part.items():
        if field not in ("type", kinds[kind]):
            nothing(value, f"{where}.{field}")
    return text


def arguments(value: Any, where: str) -> list[str]:
    """A call's arguments as they stand, and decoded where an escape could hide a text."""
    if not isinstance(value, str):
        return list(texts(value, where))
    if "\\" not in value:
        return [value]
    try:
        return [value, *texts(msgspec.json.decode(value), where)]
    except (ValueError, RecursionError):
        return [value]


def switch(value: Any, where: str) -> list[str]:
    """True or false."""
    if not isinstance(value, bool):
        raise RequestError(f"{where} must be true or false", where)
    return []


def count(value: Any, where: str) -> list[str]:
    """A number of choices."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST_CHOICES:
        raise RequestError(f"{where} must be a whole number from 1 to {MOST_CHOICES}", where)
    return []


def biases(value: Any, where: str) -> list[str]:
    """Token ids and numbers."""
    if not isinstance(value, dict) or not all(
        key.isdecimal() and isinstance(bias, int | float) for key, bias in value.items()
    ):
        raise RequestError(f"{where} must map token ids to numbers", where)
    return []


def options(value: Any, where: str) -> list[str]:
    """An object of numbers and switches."""
    if not isinstance(value, dict):
        raise RequestError(f"{where} must be an object", where)
    for field, option in value.items():
        nothing(option, f"{where}.{field}")
    return []


def words(value: Any, where: str) -> list[str]:
    """An object of words, numbers and switches."""
    if not isinstance(value, dict):
        raise RequestError(f"{where} must be an object", where)
    for field, part in value.items():
        check = word if isinstance(part, str) and part else nothing
        check(part, f"{where}.{field}")
    return []


def beside(request: Mapping[str, Any], spoken: str, checks: Mapping[str, Check]) -> list[Message]:
    """What stands in a request beside what is spoken in it, as system text. A field without a check must be empty."""
    return [
        Message("system", text)
        for field, value in request.items()
        if field != spoken and value is not None
        for text in checks.get(field, nothing)(value, field)
        if text
    ]


def filled(value: Any, where: str, most: int, kinds: str) -> list[Any]:
    """A list of at least one and not too many."""
    if not isinstance(value, list) or not value:
        raise RequestError(f"{where} must be a list of at least one of its {kinds}", where)
    if len(value) > most:
        raise RequestError(f"{len(value)} {kinds} are more than the {most} allowed", where)
    return value


def decoded(body: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        RequestError: it is no JSON object.
    """
    try:
        request = msgspec.json.decode(body)
    except RecursionError as error:
        raise RequestError("the body is nested too deep") from error
    except ValueError as error:  # malformed JSON or UTF-8
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError("the body must be a JSON object")
    return request


def record(value: Any, where: str, fields: Mapping[str, Check]) -> list[str]:
    """An object with known fields, each with its own check."""
    if not isinstance(value, dict):
        raise RequestError(f"{where} must be an object", where)
    texts: list[str] = []
    for field, part in value.items():
        if part is not None:
            texts += fields.get(field, nothing)(part, f"{where}.{field}")
    return texts


def texts(value: Any, where: str, depth: int = 0) -> Iterator[str]:
    """Every string, number and telling key inside a value."""
    if depth > DEEPEST:
        raise RequestError(f"{where} is nested too deep", where)
    if isinstance(value, str):
        if value not in _STRUCTURE:
            yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            if key not in _STRUCTURE:
                yield key
            yield from texts(part, where, depth + 1)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part, where, depth + 1)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
