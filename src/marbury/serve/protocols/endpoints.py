"""Every endpoint that asks a model. A new one is a folder beside this file and a line here."""

from marbury.serve.protocols.chat.endpoint import CHAT
from marbury.serve.protocols.messages.endpoint import MESSAGES
from marbury.serve.protocols.protocol import Protocol

ENDPOINTS: tuple[Protocol, ...] = (CHAT, MESSAGES)
