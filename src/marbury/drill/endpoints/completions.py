"""OpenAI's older completions: text in, text out."""

from typing import Any

from marbury.drill.endpoints.endpoint import Ask, Body, Endpoint
from marbury.drill.script import DONE, Event, Script, event

HEAD = {"id": "cmpl-drill", "object": "text_completion", "created": 1700000000, "model": "drill-1"}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}


def _request(ask: Ask) -> Body:
    body: Body = {"model": ask.model, "prompt": ask.text, "stream": ask.stream, "max_tokens": 400}
    return body | ({"n": ask.choices} if ask.choices > 1 else {})


def _choice(index: int, text: str, finish: str | None, *, probabilities: bool = False) -> Body:
    choice: dict[str, Any] = {"index": index, "text": text, "finish_reason": finish, "logprobs": None}
    if probabilities:
        tokens = {"tokens": [text], "token_logprobs": [-0.1], "top_logprobs": [{text: -0.1}], "text_offset": [0]}
        choice |= {"text": "", "logprobs": tokens}
    return choice


def _events(script: Script) -> list[Event]:
    probabilities = COMPLETIONS.channel(script) == "logprobs"
    others = [index for index in range(script.choices) if index != script.choice]
    events = [event(HEAD | {"choices": [_choice(i, script.aside, None)]}) for i in others]
    events += [
        event(HEAD | {"choices": [_choice(script.choice, piece, None, probabilities=probabilities)]}, number)
        for number, piece in enumerate(script.pieces)
    ]
    if script.dies:
        return events
    events += [event(HEAD | {"choices": [_choice(i, "", "stop")]}) for i in range(script.choices)]
    if not script.late:
        return [*events, DONE]
    late = event(HEAD | {"choices": [_choice(script.choice, script.late, None)]})
    return [*events, late, DONE, late]


def _whole(script: Script) -> Body:
    probabilities = COMPLETIONS.channel(script) == "logprobs"
    choices = [
        _choice(i, script.text, "stop", probabilities=probabilities)
        if i == script.choice
        else _choice(i, script.aside, "stop")
        for i in range(script.choices)
    ]
    return HEAD | {"choices": choices, "usage": USAGE}


COMPLETIONS = Endpoint(
    name="completions",
    path="/completions",
    channels=("content", "logprobs"),
    request=_request,
    inputs={
        "prompt": lambda body, text: body | {"prompt": f"{body['prompt']} {text}"},
        "prompt, list": lambda body, text: body | {"prompt": [body["prompt"], text]},
        "suffix": lambda body, text: body | {"suffix": text},
    },
    events=_events,
    whole=_whole,
    many=True,
    odd=("logprobs",),
)
