"""What the input classifier thinks of texts, in OpenAI's shape with the constitution's categories.

It tells scores, by which an attacker could steer: it answers only where the setting `moderations` says so. A flagged
text is not blocked by anybody here, so its row in the journal has the outcome `passed` beside a flagged verdict.
"""

import math
from collections.abc import Sequence
from typing import Any

from marbury.errors import RequestError
from marbury.guard import Judge, Rating
from marbury.records import Message
from marbury.serve.journal import Entry
from marbury.serve.protocols import fields
from marbury.serve.protocols.protocol import RatingProtocol
from marbury.serve.settings import ServeSettings

_OFF = "POST /v1/moderations tells scores to whoever can reach it, so it is off: set [serve] moderations = true"
_KNOWN = {"model": fields.word, "user": fields.word, "safety_identifier": fields.word}
_parts = fields.content({"text": "text"})


async def moderate(body: bytes, judge: Judge, settings: ServeSettings, entry: Entry) -> dict[str, Any]:
    """OpenAI's answer: a result for each text. Raises RequestError and GuardError."""
    if not settings.moderations:
        raise RequestError(_OFF, status=403, code="endpoint_off")
    request = fields.decoded(body)
    texts = inputs(request, settings.max_messages)
    entry.model = request.get("model") or ""
    ratings = [await judge.rate([Message("user", text)]) for text in texts]
    entry.input = max((rating.request for rating in ratings), key=lambda verdict: verdict.score)
    results = [result(rating, judge.categories) for rating in ratings]
    return {"id": f"modr-{entry.id}", "model": f"marbury-{judge.version}", "results": results}


def inputs(request: dict[str, Any], most: int) -> list[str]:
    """The texts of a request: each string of a list is one, and all parts of a list of parts are one together.

    Raises:
        RequestError: a field cannot be read.
    """
    for field, value in request.items():
        if field != "input" and value is not None:
            _KNOWN.get(field, fields.nothing)(value, field)
    value = request.get("input")
    if not isinstance(value, list):
        return fields.text(value, "input")
    if not value or len(value) > most:
        raise RequestError(f"input must be a string or a list of 1 to {most}", "input")
    if all(isinstance(text, str) for text in value):
        return value
    return ["\n".join(_parts(value, "input"))]


def result(rating: Rating, categories: Sequence[str]) -> dict[str, Any]:
    """One result. Scores are from 0 to 1; a category is true that is at the threshold in a text that is flagged."""
    logits = dict(zip(categories, rating.score.categories, strict=False))
    flagged = rating.request.flagged
    true = {
        name: name == rating.request.category or logit >= rating.request.threshold for name, logit in logits.items()
    }
    return {
        "flagged": flagged,
        "categories": {name: flagged and value for name, value in true.items()},
        "category_scores": {name: round(0.5 + 0.5 * math.tanh(logit / 2), 6) for name, logit in logits.items()},
        "category_applied_input_types": {name: ["text"] for name in logits},
    }


MODERATIONS = RatingProtocol(route="moderations", path="/v1/moderations", answer=moderate)
