"""From a Markdown file to the rules as plain values.

The format: YAML front matter with a `title`; an introduction; `## Restricted` and `## Permitted`, each with one
`###` section per category: paragraphs of prose, then a list of examples. Only what cannot be read is an error
here; whether the rules make sense is `lint`'s business.
"""

import difflib
import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn

import msgspec
import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from marbury.errors import ConstitutionError

Side = Literal["restricted", "permitted"]
_FRONT_MATTER = ("title", "version", "summary")
_CODE = re.compile(r"`([^`\s]+)`")


class Category(msgspec.Struct, frozen=True):
    """One rule: its name, what it says, examples of requests, and where its heading stands."""

    slug: str
    prose: str
    examples: tuple[str, ...]
    line: int

    @property
    def named(self) -> tuple[str, ...]:
        """What the prose names in backticks, in order: by habit, the slugs of its neighbours."""
        return tuple(dict.fromkeys(_CODE.findall(self.prose)))


class Constitution(msgspec.Struct, frozen=True):
    """The rules of one assistant. The order of the categories is theirs for good: classifiers keep it."""

    title: str
    summary: str
    introduction: str
    restricted: tuple[Category, ...]
    permitted: tuple[Category, ...]

    @property
    def categories(self) -> tuple[Category, ...]:
        """All categories, the restricted ones first."""
        return self.restricted + self.permitted

    @property
    def slugs(self) -> tuple[str, ...]:
        """The names of all categories, the restricted ones first."""
        return tuple(category.slug for category in self.categories)

    @property
    def restricted_slugs(self) -> tuple[str, ...]:
        """The names of the restricted categories, in their order."""
        return tuple(category.slug for category in self.restricted)

    def category(self, slug: str) -> Category:
        """The category with this name.

        Raises:
            ConstitutionError: there is none (names the nearest one).
        """
        for category in self.categories:
            if category.slug == slug:
                return category
        near = difflib.get_close_matches(slug, self.slugs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(self.slugs)}"
        raise ConstitutionError(f"no category {slug!r} in the constitution {self.title!r}; {hint}")

    def side(self, slug: str) -> Side:
        """The side on which a category stands. Raises ConstitutionError as `category` does."""
        return "restricted" if self.category(slug) in self.restricted else "permitted"

    def neighbours(self, slug: str) -> tuple[Category, ...]:
        """The categories across the border that this one names in backticks, or that name this one."""
        own = self.category(slug)
        others = self.permitted if own in self.restricted else self.restricted
        return tuple(other for other in others if other.slug in own.named or slug in other.named)

    @property
    def canonical(self) -> bytes:
        """The rules as JSON that does not change when prose is wrapped anew or lines are moved."""
        value = {
            "title": self.title,
            "summary": self.summary,
            "introduction": self.introduction,
            "restricted": [_plain(category) for category in self.restricted],
            "permitted": [_plain(category) for category in self.permitted],
        }
        return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()

    @property
    def version(self) -> str:
        """sha256 of `canonical`: what data, weights and thresholds say they were made from."""
        return hashlib.sha256(self.canonical).hexdigest()


def read(path: Path) -> Constitution:
    """The constitution in a file. Raises ConstitutionError as `parse` does, or when there is no such text file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConstitutionError(
            f"{path}: not UTF-8 at byte {error.start}: save the file as UTF-8 in your editor"
        ) from error
    except OSError as error:
        hint = "run `marbury new` to begin from a template"
        raise ConstitutionError(f"{path}: cannot be read ({error.strerror}); {hint}") from error
    return parse(text, str(path))


def parse(text: str, where: str = "constitution.md") -> Constitution:
    """The constitution in a text.

    Raises:
        ConstitutionError: the text does not have the shape of a constitution (says which line and what to do).
    """
    text = unicodedata.normalize("NFC", text.removeprefix("\ufeff"))
    front, body, offset = _split_front_matter(text, where)
    reader = _Reader(where, offset)
    for node in SyntaxTreeNode(MarkdownIt("commonmark").parse(body)).children:
        reader.take(node)
    if "restricted" not in reader.sections:
        _fail(where, 1, "no section `## Restricted`: add it, with one `### slug` per forbidden category")
    return Constitution(
        title=front["title"],
        summary=front["summary"],
        introduction="\n\n".join(reader.introduction),
        restricted=reader.categories("restricted"),
        permitted=reader.categories("permitted"),
    )


class _Reader:
    """Takes the blocks of the body one by one and knows in which section and category it stands."""

    def __init__(self, where: str, offset: int) -> None:
        self.where = where
        self.offset = offset
        self.introduction: list[str] = []
        self.sections: dict[str, list[tuple[str, int, list[str], list[str]]]] = {}
        self.side = ""
        self.titled = False

    def categories(self, side: Side) -> tuple[Category, ...]:
        drafts = self.sections.get(side, [])
        return tuple(Category(slug, "\n\n".join(prose), tuple(rows), line) for slug, line, prose, rows in drafts)

    def take(self, node: SyntaxTreeNode) -> None:
        if node.type == "heading":
            self._heading(node)
        elif node.type == "html_block" and node.content.lstrip().startswith("<!--"):
            pass  # a comment is for the editors of the rules
        elif node.type not in ("paragraph", "bullet_list", "ordered_list"):
            kind = node.type.replace("_", " ")
            self._refuse(node, f"a {kind} is not part of the format: use paragraphs and lists of examples")
        elif not self.side:
            self.introduction.append(_flat(node))
        elif not self.sections[self.side]:
            self._refuse(node, f"text outside of a category: move it under a `### slug` of {self.side}")
        elif node.type == "paragraph":
            self.sections[self.side][-1][2].append(_flat(node))
        else:
            self.sections[self.side][-1][3].extend(self._example(item) for item in node.children)

    def _heading(self, node: SyntaxTreeNode) -> None:
        text = _flat(node)
        if node.tag == "h1":
            if self.titled or self.side:
                self._refuse(node, f"a second title {text!r}: keep one `#` heading, at the top")
            self.titled = True
        elif node.tag == "h2":
            self._open(node, text)
        elif node.tag == "h3" and self.side:
            if not text:
                self._refuse(node, "a category without a name: write `### slug`")
            self.sections[self.side].append((text.strip("`"), self._line(node), [], []))
        else:
            self._refuse(node, f"heading {text!r} at an unknown place: categories are `###`, inside of a `##` section")

    def _open(self, node: SyntaxTreeNode, text: str) -> None:
        side = text.casefold()
        if side not in ("restricted", "permitted"):
            near = difflib.get_close_matches(side, ["restricted", "permitted"], n=1)
            hint = f"did you mean `## {near[0].capitalize()}`?" if near else "the two are Restricted and Permitted"
            self._refuse(node, f"unknown section {text!r}; {hint}")
        if side in self.sections:
            self._refuse(node, f"a second section {text!r}: put its categories into the first")
        self.side = side
        self.sections[side] = []

    def _example(self, item: SyntaxTreeNode) -> str:
        if any(child.type != "paragraph" for child in item.children):
            self._refuse(item, "an example is one plain text: no lists, headings or code blocks inside")
        text = " ".join(_flat(child) for child in item.children)
        if not text:
            self._refuse(item, "an empty example: write a request after the dash, or take the dash away")
        return text

    def _line(self, node: SyntaxTreeNode) -> int:
        return self.offset + (node.map[0] if node.map else 0) + 1

    def _refuse(self, node: SyntaxTreeNode, what: str) -> NoReturn:
        _fail(self.where, self._line(node), what)


def _split_front_matter(text: str, where: str) -> tuple[dict[str, str], str, int]:
    """The checked front matter, the Markdown after it, and how many lines stand before that."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != "---":
        _fail(where, 1, "no front matter: begin the file with a line `---`, a `title:` and another `---`")
    end = next((number for number, line in enumerate(lines[1:], 1) if line.rstrip() == "---"), None)
    if end is None:
        _fail(where, 1, "the front matter has no end: close it with a line `---`")
    try:
        value = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).split("\n")[0]
        hint = "put a text with a colon or other signs into quotes"
        _fail(where, mark.line + 2 if mark else 1, f"the front matter is not YAML: {what}; {hint}")
    return _front_matter(value, where), "\n".join(lines[end + 1 :]), end + 1


def _front_matter(value: Any, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        _fail(where, 1, "the front matter is not a list of `key: value`: write at least `title: ...`")
    for key in value:
        if key not in _FRONT_MATTER:
            near = difflib.get_close_matches(str(key), _FRONT_MATTER, n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it knows {', '.join(_FRONT_MATTER)}"
            _fail(where, 1, f"unknown key {key!r} in the front matter; {hint}")
    texts = {}
    for key in ("title", "summary"):
        text = value.get(key, "")
        if not isinstance(text, str):
            _fail(where, 1, f"`{key}` in the front matter is not a text: put it into quotes")
        texts[key] = " ".join(text.split())
    if not texts["title"]:
        _fail(where, 1, "no title in the front matter: add `title: ...`")
    return texts


def _plain(category: Category) -> dict[str, Any]:
    return {"slug": category.slug, "prose": category.prose, "examples": list(category.examples)}


def _flat(node: SyntaxTreeNode) -> str:
    """The Markdown text of a block as one line."""
    return " ".join(" ".join(part.content for part in node.walk() if part.type == "inline").split())


def _fail(where: str, line: int, what: str) -> NoReturn:
    raise ConstitutionError(f"{where}:{line}: {what}")
