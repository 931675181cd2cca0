"""The endpoint as the proxy runs it."""

from marbury.serve.failures import Failure
from marbury.serve.protocols.chat.gate import ReplyGate
from marbury.serve.protocols.chat.request import read_request
from marbury.serve.protocols.chat.whole import WholeReply, blocked
from marbury.serve.protocols.protocol import Protocol

CHAT = Protocol(
    route="chat_completions",
    path="/chat/completions",
    read=read_request,
    gate=ReplyGate,
    whole=WholeReply,
    blocked=blocked,
    body=Failure.body,
    event=Failure.event,
)
