"""Attacks a running guard with a scripted upstream behind it, and says what came through."""

from marbury.drill.run import Report, Target, check, drill
from marbury.drill.upstream import Upstream
from marbury.drill.verdict import Row

__all__ = ["Report", "Row", "Target", "Upstream", "check", "drill"]
