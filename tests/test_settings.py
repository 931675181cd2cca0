from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from marbury import settings
from marbury.errors import SettingsError


@dataclass(frozen=True)
class LampSettings:
    colour: Literal["amber", "blue"] = "amber"
    height: float = 1.5
    bulbs: int = 2

    def __post_init__(self) -> None:
        if self.bulbs < 1:
            raise ValueError(f"bulbs must be at least 1, not {self.bulbs}")


def test_no_file_means_no_tables(tmp_path: Path) -> None:
    assert settings.read(tmp_path / "marbury.toml") == {}


def test_tables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "marbury.toml"
    path.write_text('[lamp]\ncolour = "blue"\nbulbs = 3\n')
    assert settings.read(path) == {"lamp": {"colour": "blue", "bulbs": 3}}


@pytest.mark.parametrize("data", [b"[lamp\n", b"lamp = \xff\n"])
def test_what_is_not_toml_is_named_with_its_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "marbury.toml"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match="marbury.toml: not TOML"):
        settings.read(path)


def test_a_table_becomes_its_dataclass_and_the_rest_are_defaults() -> None:
    built = settings.build(LampSettings, {"bulbs": 3, "height": 2}, "marbury.toml [lamp]")
    assert built == LampSettings(bulbs=3, height=2.0)
    assert isinstance(built.height, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"bulps": 1}, r"\[lamp\]: unknown setting 'bulps'; did you mean 'bulbs'\?"),
        ({"zzz": 1}, r"\[lamp\]: unknown setting 'zzz'; known: colour, height, bulbs"),
        ({"bulbs": "three"}, r"\[lamp\]: Expected `int`, got `str`.*bulbs"),
        ({"bulbs": 2.5}, r"\[lamp\]: Expected `int`.*bulbs"),
        ({"colour": "red"}, r"\[lamp\]: Invalid enum value 'red'.*colour"),
        ({"bulbs": 0}, r"\[lamp\]: bulbs must be at least 1, not 0"),
    ],
)
def test_a_wrong_setting_says_what_and_where(table: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        settings.build(LampSettings, table, "marbury.toml [lamp]")
