"""The endpoint as the proxy runs it."""

from marbury.serve.failures import Failure
from marbury.serve.protocols.completions.gate import CompletionGate
from marbury.serve.protocols.completions.request import read_request
from marbury.serve.protocols.completions.whole import WholeCompletion, blocked
from marbury.serve.protocols.protocol import Protocol

COMPLETIONS = Protocol(
    route="completions",
    path="/completions",
    read=read_request,
    gate=CompletionGate,
    whole=WholeCompletion,
    blocked=blocked,
    body=lambda failure: failure.about("prompt").body(),
    event=Failure.event,
)
