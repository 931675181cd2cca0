"""The endpoint as the proxy runs it."""

from marbury.serve.protocols.messages import failures
from marbury.serve.protocols.messages.gate import MessageGate
from marbury.serve.protocols.messages.request import read_request
from marbury.serve.protocols.messages.whole import WholeMessage, blocked
from marbury.serve.protocols.protocol import Protocol

MESSAGES = Protocol(
    route="messages",
    path="/messages",
    read=read_request,
    gate=MessageGate,
    whole=WholeMessage,
    blocked=blocked,
    body=failures.body,
    event=failures.event,
    key_header="x-api-key",
)
