"""All endpoints that the drill knows; another one is a module beside these and its line here."""

from marbury.drill.endpoints.chat import CHAT
from marbury.drill.endpoints.completions import COMPLETIONS
from marbury.drill.endpoints.endpoint import Endpoint
from marbury.drill.endpoints.messages import MESSAGES
from marbury.drill.endpoints.responses import RESPONSES

ENDPOINTS = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)


def endpoint_at(path: str) -> Endpoint | None:
    """The endpoint that a path asks for; the longest name wins, for `/chat/completions` ends like `/completions`."""
    found = [endpoint for endpoint in ENDPOINTS if path.rstrip("/").endswith(endpoint.path)]
    return max(found, key=lambda endpoint: len(endpoint.path), default=None)
