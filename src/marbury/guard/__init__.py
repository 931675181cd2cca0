"""A chat model around a chat model: judges the request, watches the reply."""

from marbury.guard.guard import Guard
from marbury.guard.judge import Judge
from marbury.guard.judged import AsyncWatch, JudgedRequest, Mode, Released
from marbury.guard.rating import Rating
from marbury.guard.scripted import ScriptedScorer
from marbury.guard.watch import Watch

__all__ = ["AsyncWatch", "Guard", "Judge", "JudgedRequest", "Mode", "Rating", "Released", "ScriptedScorer", "Watch"]
