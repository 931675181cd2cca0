"""Every endpoint. A new one is a folder beside this file and a line here."""

from marbury.serve.protocols.chat.endpoint import CHAT
from marbury.serve.protocols.completions.endpoint import COMPLETIONS
from marbury.serve.protocols.litellm.endpoint import LITELLM
from marbury.serve.protocols.messages.endpoint import MESSAGES
from marbury.serve.protocols.moderations.endpoint import MODERATIONS
from marbury.serve.protocols.protocol import Protocol, RatingProtocol
from marbury.serve.protocols.responses.endpoint import RESPONSES

ENDPOINTS: tuple[Protocol, ...] = (  # that ask a model
    CHAT,
    COMPLETIONS,
    RESPONSES,
    MESSAGES,
)
RATING: tuple[RatingProtocol, ...] = (  # that ask none
    MODERATIONS,
    LITELLM,
)
