"""How a failure looks to a client of Anthropic's protocol."""

import msgspec

from marbury.serve.failures import Failure

_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
}


def body(failure: Failure) -> bytes:
    """The JSON body. `code` is not Anthropic's; it is the same that other endpoints give."""
    kind = _KINDS.get(failure.status, "invalid_request_error" if failure.status < 500 else "api_error")
    message = failure.message
    if failure.param and failure.param not in message:
        message = f"{failure.param}: {message}"  # Anthropic's errors have no field of their own for it
    error = {"type": kind, "message": message, "code": failure.code}
    return msgspec.json.encode({"type": "error", "error": error})


def event(failure: Failure) -> bytes:
    """The event that breaks a stream; no `message_stop` follows."""
    return b"event: error\ndata: " + body(failure) + b"\n\n"
