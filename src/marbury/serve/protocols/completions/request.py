"""What a completion request asks for, and every text in it. Each prompt of a list is a conversation of its own."""

from collections.abc import Mapping
from typing import Any

import msgspec

from marbury.errors import RequestError
from marbury.records import Message
from marbury.serve.protocols import fields
from marbury.serve.protocols.fields import Check
from marbury.serve.protocols.protocol import Asked

MOST_REPLIES = 64  # prompts times choices: each is watched at the same time


def read_request(body: bytes, max_messages: int) -> Asked:
    """The request in a body.

    Raises:
        RequestError: it is not JSON, or has a field that cannot be read or guarded.
    """
    request = fields.decoded(body)
    first, *others = judged_prompts(request, max_messages)
    choices = (request.get("n") or 1) * (1 + len(others))
    if choices > MOST_REPLIES:
        raise RequestError(f"prompts times n are {choices}: at most {MOST_REPLIES}", "prompt")
    return Asked(
        messages=first,
        model=request.get("model") or "",
        stream=bool(request.get("stream")),
        include_usage=bool((request.get("stream_options") or {}).get("include_usage")),
        choices=choices,
        payload=msgspec.json.encode(request),
        others=tuple(others),
    )


def judged_prompts(request: Mapping[str, Any], max_messages: int = 512) -> list[tuple[Message, ...]]:
    """Every text of a request, as one conversation for each prompt: what stands beside the prompts is in all of them.

    Raises:
        RequestError: a field cannot be read or guarded; `param` names it.
    """
    beside = fields.beside(request, "prompt", _FIELDS)
    return [(*beside, Message("user", prompt)) for prompt in _prompts(request.get("prompt"), max_messages)]


def _prompts(value: Any, most: int) -> list[str]:
    prompts = [value] if isinstance(value, str) else value
    if not isinstance(prompts, list) or not prompts:
        raise RequestError("prompt must be a string or a list of strings", "prompt")
    if len(prompts) > most:
        raise RequestError(f"{len(prompts)} prompts are more than the {most} allowed", "prompt")
    for i, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            raise RequestError("token ids cannot be read: send the prompt as text", f"prompt[{i}]")
    return prompts


_FIELDS: dict[str, Check] = {
    "model": fields.word,
    "user": fields.word,
    "safety_identifier": fields.word,
    "service_tier": fields.word,
    "suffix": fields.text,
    "echo": fields.switch,
    "stream": fields.switch,
    "stream_options": fields.options,
    "n": fields.count,
    "best_of": fields.count,
    "logit_bias": fields.biases,
    "logprobs": fields.refused,
    "stop": fields.read,
    "response_format": fields.read,
    "metadata": fields.read,
}
