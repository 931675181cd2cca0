"""Writes the pages of the docs that can be generated: docs/cli.md and the tables of docs/settings.md.

The command line's own help and the comments beside the settings are the source; nothing is said twice. With
`--check` nothing is written, and the exit status is 1 when a page is stale.
"""

import argparse
import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer.main

from marbury import pipeline
from marbury.cli import app
from marbury.workspace import Workspace

ROOT = Path(__file__).parent.parent
CLI, SETTINGS = ROOT / "docs" / "cli.md", ROOT / "docs" / "settings.md"
MARK = "<!-- From here on written by scripts/cli_docs.py: run `make docs` after a change. -->\n"


def cli_page() -> str:
    """docs/cli.md: every verb with its help, arguments and options."""
    group: Any = typer.main.get_command(app)
    lines = [
        "# The command line",
        "",
        "<!-- Written by scripts/cli_docs.py from the command line itself: run `make docs` after a change. -->",
        "",
        *_plain(group.help).split("\n"),
        "",
        "Exit status: 0 done; 1 Marbury's own error, errors found by `check`, or a `drill` that failed; 2 the command "
        "itself is wrong; 130 stopped with Ctrl-C.",
        "",
        "| verb | |",
        "|---|---|",
        *(f"| [`{verb}`](#{verb}) | {_cell(command.help)} |" for verb, command in group.commands.items()),
        "",
    ]
    for verb, command in group.commands.items():
        lines += [f"## {verb}", "", _plain(command.help), "", "```", f"marbury {verb}{_usage(command)}", "```", ""]
        if command.params:
            lines += ["| | default | |", "|---|---|---|", *map(_parameter, command.params), ""]
        if (CLI.parent / f"{verb}.md").exists():
            lines += [f"More: [{verb}]({verb}.md)", ""]
    return "\n".join(lines).rstrip() + "\n"


def _plain(text: str) -> str:
    """Help without rich's markup: what is bold there is code here."""
    return re.sub(r"\[bold\](.*?)\[/\]", r"`\1`", inspect.cleandoc(text))


def _cell(text: str | None) -> str:
    return " ".join(_plain(text or "").split()).replace("|", "\\|")


def _is_argument(parameter: Any) -> bool:
    return not parameter.opts[0].startswith("-")


def _usage(command: Any) -> str:
    arguments = [parameter for parameter in command.params if _is_argument(parameter)]
    options = " [OPTIONS]" if len(arguments) < len(command.params) else ""
    return options + "".join(f" {a.name.upper()}" if a.required else f" [{a.name.upper()}]" for a in arguments)


def _parameter(parameter: Any) -> str:
    """One row: how it is written, its default, what it does."""
    if _is_argument(parameter):
        name, flag = parameter.name.upper(), False
    else:
        flag = parameter.is_flag
        name = ", ".join(parameter.opts) + ("" if flag else " VALUE")
    default = "required" if parameter.required else ""
    if not flag and parameter.default is not None:
        default = f"`{parameter.default}`"
    again = " May be given more than once." if parameter.multiple else ""
    return f"| `{name}` | {default} | {_cell(parameter.help)}{again} |"


def settings_page() -> str:
    """docs/settings.md: what people wrote there, then a table for every stage.

    Raises:
        ValueError: the page has lost its mark.
    """
    head, mark, _ = SETTINGS.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        raise ValueError(f"{SETTINGS}: the line {MARK.strip()!r} is missing: put it back above the tables")
    # A folder without a settings file has the defaults.
    settings = pipeline.load_settings(Workspace(Path(gettempdir()) / "no-such-run-folder"))
    lines: list[str] = []
    for name in pipeline.TABLES:
        lines += ["", f"## {name}", "", f"`[{name}]`, explained in [{name}]({name}.md).", ""]
        lines += ["| setting | default | |", "|---|---|---|"]
        lines += [f"| `{key}` | `{default}` | {text} |" for key, default, text in settings_of(settings[name])]
    return head + mark + "\n".join(lines) + "\n"


def settings_of(values: Any) -> Iterator[tuple[str, str, str]]:
    """Name, default as TOML, and meaning of each setting of a stage."""
    meanings, kinds = field_comments(type(values)), get_type_hints(type(values))
    for field in fields(values):
        kind = kinds[field.name]
        choices = ", ".join(f"`{_toml(value)}`" for value in get_args(kind)) if get_origin(kind) is Literal else ""
        meaning = meanings.get(field.name, "") + (f" ({choices})" if choices else "")
        yield field.name, _toml(getattr(values, field.name)), meaning


def field_comments(kind: type) -> dict[str, str]:
    """What a dataclass says of its fields: the comment on the same line, or the string below."""
    source = inspect.getsource(kind)
    lines = source.splitlines()
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    for node, below in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        _, _, text = lines[(node.end_lineno or 0) - 1][node.end_col_offset :].partition("#")
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            text = below.value.value
        found[node.target.id] = _cell(text)
    return found


def _toml(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, tuple):
        return json.dumps(list(value))
    return json.dumps(value)


def main() -> int:
    """Write the pages, or with `--check` say which are stale; gives the exit status."""
    parser = argparse.ArgumentParser(description="Write docs/cli.md and the tables of docs/settings.md.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a page is stale")
    check = parser.parse_args().check
    stale = [(path, page) for path, page in ((CLI, cli_page()), (SETTINGS, settings_page())) if _differs(path, page)]
    for path, page in stale:
        if not check:
            path.write_text(page, encoding="utf-8")
        verb = "is stale: run `make docs`" if check else "written"
        print(f"{path.relative_to(ROOT)} {verb}", file=sys.stderr if check else sys.stdout)
    return 1 if check and stale else 0


def _differs(path: Path, page: str) -> bool:
    return not path.exists() or path.read_text(encoding="utf-8") != page


if __name__ == "__main__":
    sys.exit(main())
