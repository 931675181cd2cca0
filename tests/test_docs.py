"""The documents against the product: pages, links, commands, settings and named tests."""

import ast
import importlib.util
import re
import shlex
import tomllib
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer.main

from marbury import pipeline
from marbury.cli import app
from marbury.settings import build
from marbury.workspace import Workspace

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
VERBS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
WITHOUT_A_PAGE = {"version"}  # it has nothing to explain
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def generator() -> ModuleType:
    """scripts/cli_docs.py as a module."""
    spec = importlib.util.spec_from_file_location("cli_docs", ROOT / "scripts" / "cli_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages."""
    return [body for language, body in FENCE.findall(page.read_text()) if language in languages]


def commands(page: Path) -> list[list[str]]:
    """The commands that a page shows: all lines of bash blocks, and of console blocks those after a `$`."""
    lines = [line for body in blocks(page, "bash") for line in body.splitlines()]
    lines += [line[2:] for body in blocks(page, "console") for line in body.splitlines() if line.startswith("$ ")]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_verb_has_a_page_that_the_index_names() -> None:
    index = (DOCS / "index.md").read_text()
    for verb in set(VERBS) - WITHOUT_A_PAGE:
        assert (DOCS / f"{verb}.md").exists(), f"docs/{verb}.md is missing"
        assert f"({verb}.md)" in index, f"docs/index.md does not name {verb}.md"


def test_every_page_is_a_verbs_or_known() -> None:
    known = {"index", "architecture", "settings", "cli", "views", "channels", "quality", "deploy"}
    assert {page.stem for page in DOCS.glob("*.md")} == known | set(VERBS) - WITHOUT_A_PAGE


def test_generated_pages_are_fresh() -> None:
    module = generator()
    assert module.CLI.read_text() == module.cli_page(), "run `make docs`"
    assert module.SETTINGS.read_text() == module.settings_page(), "run `make docs`"


def test_a_stale_page_fails_the_check_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    for name in ("CLI", "SETTINGS"):
        copy = tmp_path / getattr(module, name).name
        copy.write_bytes(getattr(module, name).read_bytes())
        monkeypatch.setattr(module, name, copy)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.SETTINGS.write_text(module.SETTINGS.read_text().replace("| `port` | `8787` |", "| `port` | `8788` |"))
    monkeypatch.setattr("sys.argv", ["cli_docs.py", "--check"])
    assert module.main() == 1
    assert "settings.md is stale" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["cli_docs.py"])
    assert module.main() == 0
    assert "| `port` | `8787` |" in module.SETTINGS.read_text()


@pytest.mark.parametrize("stage", pipeline.TABLES)
def test_every_setting_says_what_it_does_and_stands_on_its_verbs_page(stage: str, tmp_path: Path) -> None:
    values = pipeline.load_settings(Workspace(tmp_path))[stage]
    meanings = generator().field_comments(type(values))
    page = (DOCS / f"{stage}.md").read_text()
    for field in fields(values):
        assert meanings[field.name], f"[{stage}] {field.name} has no comment beside it"
        assert re.search(rf"`{field.name}\b|^{field.name} =", page, re.MULTILINE), f"{stage}.md lacks {field.name}"


@pytest.mark.parametrize("name", NAMES)
def test_every_relative_link_exists(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{name} links to {target}, which does not exist"
        assert not anchor or anchor in anchors(file), f"{name} links to {target}, which has no such heading"


@pytest.mark.parametrize("name", NAMES)
def test_every_shown_command_is_one(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(ROOT / name):
        if words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, f"{name}: {' '.join(words)}"
        elif words[0].endswith("marbury"):
            command = VERBS[words[1]]
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            given = {word.partition("=")[0] for word in words[2:] if word.startswith("--")}
            assert given <= known, f"{name}: {' '.join(words)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_shown_setting_is_one(name: str, tmp_path: Path) -> None:
    kinds = {stage: type(values) for stage, values in pipeline.load_settings(Workspace(tmp_path)).items()}
    for body in blocks(ROOT / name, "toml"):
        for stage, table in tomllib.loads(body).items():
            build(kinds[stage], table, name)


@pytest.mark.parametrize("name", NAMES)
def test_every_shown_python_is_python(name: str) -> None:
    for body in blocks(ROOT / name, "python"):
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("marbury"):
                module = importlib.import_module(node.module or "")
                assert all(hasattr(module, alias.name) for alias in node.names), f"{name}: {ast.unparse(node)}"


@pytest.mark.parametrize("name", NAMES)
def test_every_named_test_exists(name: str) -> None:
    for path, function in re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / name).read_text()):
        assert (ROOT / path).exists(), f"{name} names {path}"
        assert not function or f"def {function}(" in (ROOT / path).read_text(), f"{name} names {path}::{function}"


def test_every_file_that_the_architecture_names_exists() -> None:
    text = (DOCS / "architecture.md").read_text()
    source = ROOT / "src" / "marbury"
    for path in re.findall(r"`([\w/]+\.py)`", text):
        assert (source / path).exists() or list(source.rglob(path)), f"docs/architecture.md names {path}"


def test_the_readme_names_every_promise() -> None:
    section = (ROOT / "README.md").read_text().partition("## What is promised")[2].partition("\n## ")[0]
    promises = re.split(r"^\d+\. ", section, flags=re.MULTILINE)[1:]
    assert len(promises) == 6
    assert all("::" in promise for promise in promises)
