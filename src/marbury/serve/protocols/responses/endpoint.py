"""The endpoint as the proxy runs it."""

import msgspec

from marbury.serve.failures import Failure
from marbury.serve.protocols.protocol import Protocol
from marbury.serve.protocols.responses.gate import ResponseGate
from marbury.serve.protocols.responses.request import read_request
from marbury.serve.protocols.responses.whole import WholeResponse, blocked


def broken(failure: Failure) -> bytes:
    """The event that breaks a stream off, for clients that look at its type and for those that look for `error`."""
    error = msgspec.json.decode(failure.body())["error"]
    told = {"type": "error", "code": failure.code, "message": failure.message, "param": failure.param, "error": error}
    return b"event: error\ndata: " + msgspec.json.encode(told) + b"\n\n"


RESPONSES = Protocol(
    route="responses",
    path="/responses",
    read=read_request,
    gate=ResponseGate,
    whole=WholeResponse,
    blocked=blocked,
    body=lambda failure: failure.about("input").body(),
    event=broken,
)
