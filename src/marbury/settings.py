"""Reading `marbury.toml`: one table per stage, each made into the frozen dataclass beside the stage's door."""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from marbury.errors import SettingsError

Settings = TypeVar("Settings")


def read(path: Path) -> dict[str, Any]:
    """The tables of a settings file; no file, no tables.

    Raises:
        SettingsError: the file is not TOML.
    """
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error


def check_names(given: Mapping[str, Any], known: list[str], where: str) -> None:
    """Refuse a name that is not known, naming the nearest one.

    Raises:
        SettingsError: a name is unknown.
    """
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise SettingsError(f"{where}: unknown setting {name!r}; {hint}")


def _check_tables(kind: Any, table: Mapping[str, Any], where: str) -> None:
    """Refuse unknown names in a table and in the tables of its fields."""
    check_names(table, [field.name for field in fields(kind)], where)
    for name, hint in get_type_hints(kind).items():
        given = table.get(name)
        if is_dataclass(hint) and isinstance(given, Mapping):
            _check_tables(hint, given, f"{where} {name}")
        inner = next((part for part in get_args(hint) if is_dataclass(part)), None)
        for number, part in enumerate(given if inner and isinstance(given, list) else (), 1):
            if isinstance(part, Mapping):
                _check_tables(inner, part, f"{where} {name} {number}")


def build(kind: type[Settings], table: Mapping[str, Any], where: str) -> Settings:
    """A settings dataclass from a table; a field may hold a dataclass or a tuple of them, each a table of its own.

    Raises:
        SettingsError: a key is unknown (names the nearest one), or a value has the wrong type or range.
    """
    assert is_dataclass(kind)
    _check_tables(kind, table, where)
    try:
        return msgspec.convert(dict(table), kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"{where}: {error}") from error
