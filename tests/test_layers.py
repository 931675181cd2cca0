"""Imports point down the house, in no circle, and heavy things stay in their room."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import marbury

SOURCE = Path(marbury.__file__).parent
FLOORS = {
    1: {"records", "scoring", "settings", "workspace", "metrics", "ciphers", "progress", "errors", "views"},
    2: {"constitution", "chat", "grading"},
    3: {"synth", "augment", "dataset", "split"},
    4: {"classifier", "calibrate"},
    5: {"guard"},
    6: {"serve", "evaluate", "drill"},
    7: {"cli", "pipeline", "demo"},
}
HEAVY = {"torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers"}
ROOT = "marbury"  # the package itself holds the version alone and stands below everything

Imports = dict[str, set[str]]  # module -> what it imports


def modules(source: Path = SOURCE) -> dict[str, Path]:
    """All modules by dotted name; a folder's `__init__.py` has the name of the folder."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join((ROOT, *(part for part in parts if part != "__init__")))] = path
    return found


def imports_of(module: str, text: str, known: set[str], package: bool) -> set[str]:
    """Every name that a module imports, at its head, in functions and for type hints, as the deepest module known."""
    found: set[str] = set()
    here = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = here[: len(here) - node.level + 1] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            names = {f"{source}.{alias.name}" for alias in node.names}
            found |= names & known or {source}
            if names - known:
                found.add(source)
    return found - {module}


def floor_of(module: str) -> int:
    """The floor of a module of ours; 0 for the package itself."""
    part = module.partition(".")[2].partition(".")[0]
    if not part:
        return 0
    for floor, parts in FLOORS.items():
        if part in parts:
            return floor
    raise AssertionError(
        f"{module} has no floor: choose the lowest one that lies above all it imports (STYLE.md, 'The house'), "
        f"and add {part!r} to FLOORS in tests/test_layers.py"
    )


def climbing(imports: Imports) -> list[str]:
    """The imports that point up the house."""
    ours = [(module, name) for module, names in imports.items() for name in sorted(names) if is_ours(name)]
    return [
        f"{module} (floor {floor_of(module)}) imports {name} (floor {floor_of(name)})"
        for module, name in ours
        if floor_of(name) > floor_of(module)
    ]


def circle(imports: Imports) -> list[str]:
    """One circle of modules, or nothing."""
    try:
        TopologicalSorter({module: {n for n in names if is_ours(n)} for module, names in imports.items()}).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found
    return []


def is_ours(name: str) -> bool:
    return name == ROOT or name.startswith(f"{ROOT}.")


def read_imports() -> Imports:
    found = modules()
    return {
        name: imports_of(name, path.read_text(encoding="utf-8"), set(found), path.name == "__init__.py")
        for name, path in found.items()
    }


IMPORTS = read_imports()


@pytest.mark.parametrize("module", IMPORTS)
def test_every_module_has_a_floor(module: str) -> None:
    floor_of(module)


def test_no_floor_holds_a_module_that_is_gone() -> None:
    there = {module.split(".")[1] for module in IMPORTS if "." in module}
    assert {part for parts in FLOORS.values() for part in parts} <= there


def test_imports_point_down() -> None:
    assert climbing(IMPORTS) == []


def test_there_is_no_circle_of_modules() -> None:
    assert circle(IMPORTS) == []


def test_there_is_no_circle_of_folders() -> None:
    """Two folders of one floor do not import each other, whichever of their files it takes."""
    parts: Imports = {}
    for module, names in IMPORTS.items():
        part = ".".join(module.split(".")[:2])
        parts.setdefault(part, set()).update(".".join(name.split(".")[:2]) for name in names if is_ours(name))
    assert circle({part: names - {part} for part, names in parts.items()}) == []


def test_imported_modules_of_ours_exist() -> None:
    named = {name for names in IMPORTS.values() for name in names if is_ours(name)}
    assert named - set(IMPORTS) == set()


def test_heavy_libraries_stay_in_their_room() -> None:
    outside = {
        module: sorted(heavy)
        for module, names in IMPORTS.items()
        if (heavy := {name.partition(".")[0] for name in names} & HEAVY)
        and not module.startswith("marbury.classifier")
        and module != "marbury.chat.local"
    }
    assert outside == {}


def test_an_import_is_seen_wherever_it_hides() -> None:
    known = {"marbury.serve", "marbury.serve.app", "marbury.records"}
    text = """
from typing import TYPE_CHECKING
import json as j, torch.nn
if TYPE_CHECKING:
    from marbury.serve import app
def late():
    from . import records
    from .serve.app import create_app
    async def later():
        from marbury import serve, __version__
"""
    found = imports_of("marbury.cli", text, known, package=False)
    assert found == {"typing", "json", "torch.nn", *known, "marbury"}
    assert imports_of("marbury.serve", "from .app import x", known, package=True) == {"marbury.serve.app"}


def test_an_upward_import_a_circle_and_a_homeless_module_are_found() -> None:
    assert climbing({"marbury.records": {"marbury.guard.watch", "json"}}) == [
        "marbury.records (floor 1) imports marbury.guard.watch (floor 5)"
    ]
    assert circle({"marbury.a": {"marbury.b"}, "marbury.b": {"marbury.a"}})
    with pytest.raises(AssertionError, match="marbury.misc.things has no floor.*FLOORS in tests/test_layers.py"):
        floor_of("marbury.misc.things")
