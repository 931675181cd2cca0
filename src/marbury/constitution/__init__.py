"""The rules: reading them, checking them, comparing two of them, and the bundled ones."""

from marbury.constitution.diff import Change, diff, touched
from marbury.constitution.lint import Finding, lint
from marbury.constitution.parse import Category, Constitution, parse, read

__all__ = ["Category", "Change", "Constitution", "Finding", "diff", "lint", "parse", "read", "touched"]
