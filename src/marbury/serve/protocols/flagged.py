"""OpenAI's `moderation` object of a blocked request or a stopped reply.

It says that the exchange was flagged and no more: the same whichever side fired, without categories and scores, for an
attacker would steer by them.
"""

from typing import Any

RESULT: dict[str, Any] = {
    "type": "moderation_result",
    "model": "marbury",
    "flagged": True,
    "categories": {},
    "category_scores": {},
    "category_applied_input_types": {},
}
MODERATION: dict[str, Any] = {"input": RESULT, "output": RESULT}  # of a response
_RESULTS: dict[str, Any] = {"type": "moderation_results", "model": "marbury", "results": [RESULT]}
CHAT_MODERATION: dict[str, Any] = {"input": _RESULTS, "output": _RESULTS}
