"""What people say of their files: as tables of marbury.toml, and as files on the command line."""

import pytest

from marbury.dataset import DatasetSettings
from marbury.dataset.columns import Fields
from marbury.dataset.mapping import Import, places, with_paths
from marbury.errors import SettingsError
from marbury.settings import build


def test_settings_come_as_tables_and_name_the_nearest_key() -> None:
    one = {"path": "a.jsonl", "fields": {"request": "ask"}, "labels": {"x": "skip"}, "categories": {"S1": "lamps"}}
    built = build(DatasetSettings, {"imports": [one]}, "marbury.toml [dataset]")
    assert built.imports == (
        Import("a.jsonl", fields=Fields(request="ask"), labels={"x": "skip"}, categories={"S1": "lamps"}),
    )
    for wrong, message in (
        ({"licens": "MIT"}, r"imports 1: unknown setting 'licens'; did you mean 'licence'\?"),
        ({"fields": {"reqest": "x"}}, r"imports 1 fields: unknown setting 'reqest'; did you mean 'request'\?"),
        ({"labels": {"x": "bad"}}, "Invalid enum value 'bad'"),
        ({"path": ""}, "an import needs a path"),
        ({"assume": "harmful", "fields": {"label": "x"}}, "`assume` labels every row, and `fields` names a label"),
    ):
        with pytest.raises(SettingsError, match=message):
            build(DatasetSettings, {"imports": [one | wrong]}, "marbury.toml [dataset]")
    with pytest.raises(SettingsError, match="imports name a.jsonl twice"):
        build(DatasetSettings, {"imports": [one, one]}, "marbury.toml [dataset]")


def test_files_are_called_by_their_names_and_by_their_paths_where_those_are_alike() -> None:
    given = with_paths([Import("a/x.csv", source="mine")], ["b/x.csv", "a/x.csv", "y.csv", "y.csv"])
    assert given == (Import("a/x.csv", source="mine"), Import("b/x.csv"), Import("y.csv"))
    assert places(given) == ["a/x.csv", "b/x.csv", "y.csv"]
