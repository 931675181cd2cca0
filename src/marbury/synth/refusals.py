"""Recognising a refusal by its opening words.

Measured on public answers of other models that people had labelled as rejections, it finds 4 in 5; it takes no reply
of the bundled corpus and traffic for one. What it misses stays in the data, so read some rows before training.
"""

import re

_OPENING = 240  # a refusal shows in the first characters; later "I cannot" belongs to stories and quotes

_CANNOT = r"(?:can(?:no|')t|won't|will not|am unable to|'m unable to|am not able to|'m not able to)(?! wait)"
_SERVE = (
    r"(?:help|assist|provide|give|share|answer|comply|support|continue|fulfill?|discuss|participate|take part|"
    r"be able to|offer|engage|advise|recommend|tell you|do that|do this|create|generate|produce|write|act out)"
)
_REFUSALS = (
    rf"\bI ?{_CANNOT} (?:\w+ ){{0,3}}{_SERVE}\b",
    rf"\bsorry,? (?:but )?I ?{_CANNOT}\W*$",
    r"\bI(?: must| have to|'ll have to|'m going to have to)? (?:decline|refuse)\b",
    r"\bas an (?:AI|artificial|assistant|language model)\b.{0,60}\b(?:can(?:no|')t|won't|unable|not able)\b",
    r"\b(?:against|violates?) (?:my|our|the) (?:guidelines|polic(?:y|ies)|rules|principles)\b",
    r"\bich kann (?:\w+ ){0,4}nicht (?:weiter)?helfen\b|\btut mir leid, aber\b.{0,60}\bnicht\b",
    r"\bje (?:ne peux|suis désolée?).{0,30}\b(?:pas|aider|fournir)\b",
    r"\bno puedo (?:ayudar|proporcionar|dar|responder)\w*|\blo siento, pero no\b",
)
_REFUSAL = re.compile("|".join(f"(?:{pattern})" for pattern in _REFUSALS), re.DOTALL | re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """Whether a reply begins with one of the usual words of refusal, in English, German, French or Spanish."""
    return _REFUSAL.search(text.strip()[:_OPENING].replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")) is not None
