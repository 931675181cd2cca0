"""The body of a request, before anything in it is understood."""

from typing import Any

import msgspec

from marbury.errors import RequestError


def json_object(body: bytes) -> dict[str, Any]:
    """The object in a body.

    Raises:
        RequestError: it is no JSON object.
    """
    try:
        request = msgspec.json.decode(body)
    except RecursionError as error:
        raise RequestError("the body is nested too deep") from error
    except ValueError as error:  # malformed JSON or UTF-8
        raise RequestError(f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise RequestError("the body must be a JSON object")
    return request
