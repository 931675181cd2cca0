import io

import pytest
from rich.console import Console

from marbury.demo import ToyUpstream, exchange, pick, serving
from marbury.errors import DataError
from marbury.guard import Mode, ScriptedScorer
from marbury.records import Example, Message
from marbury.scoring import Thresholds

LIMITS = Thresholds(0.0, 0.0, 0.0, 0.0)


def row(reply: str, *, harmful: bool = True, category: str = "preparation", chain: tuple[str, ...] = ()) -> Example:
    return Example(
        id=reply[:8],
        category=category,
        messages=(Message("user", f"Tell me about {category}."), Message("assistant", reply)),
        request_harmful=harmful,
        reply_harmful=harmful,
        pair=reply[:8],
        chain=chain,
    )


def shown(example: Example, trigger: str, mode: Mode = "enforce") -> str:
    """What the demonstration prints for one exchange."""
    out = Console(file=io.StringIO(), width=200)
    upstream = ToyUpstream([example])
    with serving(upstream.app) as behind:
        exchange(out, example, ScriptedScorer(trigger), LIMITS, mode, behind, upstream)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def test_a_harmless_reply_arrives_whole() -> None:
    text = shown(row("The museum opens at nine.\nIt shuts at five."), "quillstone")
    assert "finish_reason stop, 43 of 43 characters reached the client, upstream asked 1 times" in text


def test_a_stopped_reply_shows_what_left_and_covers_the_rest() -> None:
    text = shown(row("First the kettle, then quillstone and the brush."), "quillstone")
    assert "finish_reason  content_filter , 22 of 48 characters" in text
    assert "First the kettle, then ░░░░░░░░░░ ░░░ ░░░ ░░░░░░" in text


def test_a_blocked_question_never_reaches_the_model() -> None:
    text = shown(row("Anything."), "preparation")
    assert "0 of 9 characters reached the client, upstream asked 0 times" in text
    assert "score per token" not in text


def test_the_first_plain_english_row_is_picked() -> None:
    rows = [row("one", chain=("cipher:hex",)), row("two", category="evasion"), row("three"), row("four")]
    assert pick(rows, "preparation", harmful=True).reply == "three"
    with pytest.raises(DataError, match="no plain English row of scale-up"):
        pick(rows, "scale-up", harmful=True)
