"""The constitutions that ship with Marbury, to begin from."""

import difflib
from importlib.resources import files

from marbury.errors import SettingsError

_DATA = files("marbury") / "data"


def names() -> tuple[str, ...]:
    """The names of the bundled constitutions, Orvane first: it is the one with a corpus of its own."""
    found = sorted(
        path.name.removesuffix(".md") for path in (_DATA / "templates").iterdir() if path.name.endswith(".md")
    )
    return ("orvane", *found)


def text(name: str) -> str:
    """The Markdown of a bundled constitution.

    Raises:
        SettingsError: there is no such template (names the nearest one).
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names())}"
        raise SettingsError(f"no template {name!r}; {hint}")
    path = _DATA / "orvane" / "constitution.md" if name == "orvane" else _DATA / "templates" / f"{name}.md"
    return path.read_text(encoding="utf-8")
