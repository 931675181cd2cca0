"""The proxy: any OpenAI-compatible endpoint, guarded."""

from marbury.serve.app import create_app
from marbury.serve.run import run
from marbury.serve.settings import ServeSettings

__all__ = ["ServeSettings", "create_app", "run"]
