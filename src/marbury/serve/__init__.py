"""The proxy: any OpenAI-compatible endpoint, guarded."""

from marbury.serve.app import create_app
from marbury.serve.policies import Policies
from marbury.serve.run import run
from marbury.serve.settings import ServeSettings

__all__ = ["Policies", "ServeSettings", "create_app", "run"]
