import pytest

from marbury.constitution.lint import lint
from marbury.constitution.parse import parse
from marbury.constitution.templates import names, text
from marbury.errors import SettingsError


def test_orvane_comes_first() -> None:
    assert names()[0] == "orvane"
    assert {"cbrn", "education", "finance", "government", "healthcare"} <= set(names())


@pytest.mark.parametrize("name", names())
def test_every_template_is_a_constitution_without_errors(name: str) -> None:
    constitution = parse(text(name), name)
    assert len(constitution.restricted) >= 6
    assert len(constitution.permitted) >= 6
    assert constitution.summary
    assert [finding for finding in lint(constitution) if finding.level == "error"] == []


def test_an_unknown_template_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="no template 'finanse'; did you mean 'finance'"):
        text("finanse")
    with pytest.raises(SettingsError, match="there are: orvane, "):
        text("../orvane/constitution")
