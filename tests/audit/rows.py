"""Entries as the proxy makes them."""

import time
from collections.abc import Callable
from typing import Any

from marbury.records import Message
from marbury.scoring import Verdict
from marbury.serve.journal import Content, Entry, OutputVerdict

FLAGGED = Verdict("input", True, 3.0, 1.0, "recipes")
FINE = Verdict("input", False, -3.0, 1.0)


def entry(id: str, **more: Any) -> Entry:
    given: dict[str, Any] = {
        "time": time.time(),
        "route": "chat_completions",
        "model": "tale-1",
        "status": 200,
        "input": FINE,
        "outputs": [OutputVerdict(0, "content", Verdict("output", False, -2.0, 2.0))],
        "input_mode": "enforce",
        "output_mode": "enforce",
        "policy": "c0ffee",
        "classifier": "beef",
        "steps": 7,
        "seconds": 0.25,
    }
    return Entry(id=id, **(given | more))


def blocked(id: str, **more: Any) -> Entry:
    return entry(id, **({"input": FLAGGED, "outputs": [], "outcome": "input_blocked"} | more))


def said(request: str, *reply: str) -> Content:
    return Content((Message("user", request),), reply)


def eventually(true: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
