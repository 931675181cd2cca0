"""The heart: over every text, trigger, chunking and failure, nothing at or after a stop is ever released."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.errors import GuardError
from marbury.guard.scripted import LONGEST_TOKEN, ScriptedScorer
from marbury.guard.watch import Watch
from marbury.scoring import Score

TRIGGER = "mist"
letters = st.sampled_from("mist MIST\n\té\U0001f319x")
texts = st.text(letters, max_size=80)


@st.composite
def streams(draw: st.DrawFn) -> list[str]:
    """A text that often holds the trigger somewhere, cut anywhere, empty pieces included."""
    text = draw(texts)
    if draw(st.booleans()):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + TRIGGER + text[place:]
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=12)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def tokens_of(text: str) -> list[str]:
    tokens = []
    for word in re.findall(r"\s*\S+|\s+", text):
        tokens += [word[i : i + LONGEST_TOKEN] for i in range(0, len(word), LONGEST_TOKEN)]
    return tokens


def harmless_part(text: str) -> str:
    """The text before the token in which the trigger completes, found the slow way."""
    so_far = ""
    for token in tokens_of(text):
        if TRIGGER in (so_far + token).casefold():
            return so_far
        so_far += token
    return so_far


def watch_over(scorer: ScriptedScorer, *, enforce: bool = True) -> Watch:
    return Watch(scorer.read([]).reply(), 0.0, scorer.categories, enforce=enforce)


@given(streams())
def test_exactly_the_text_before_the_flagged_token_is_released(pieces: list[str]) -> None:
    scorer = ScriptedScorer(TRIGGER)
    watch = watch_over(scorer)
    released = "".join([watch.push(piece) for piece in pieces]) + watch.finish()
    text = "".join(pieces)
    assert released == harmless_part(text)
    assert (watch.stopped is not None) == (TRIGGER in text.casefold())


@given(streams())
def test_one_step_per_token_until_the_stop(pieces: list[str]) -> None:
    scorer = ScriptedScorer(TRIGGER)
    watch = watch_over(scorer)
    for piece in pieces:
        watch.push(piece)
    watch.finish()
    text = "".join(pieces)
    safe = len(tokens_of(harmless_part(text)))
    assert watch.steps == safe + (1 if watch.stopped else 0)
    if not watch.stopped:
        assert scorer.steps == len(tokens_of(text))


@given(streams())
def test_streamed_and_whole_give_the_same_verdict(pieces: list[str]) -> None:
    streamed, whole = watch_over(ScriptedScorer(TRIGGER)), watch_over(ScriptedScorer(TRIGGER))
    for piece in pieces:
        streamed.push(piece)
    streamed.finish()
    whole.push("".join(pieces))
    whole.finish()
    assert streamed.verdict == whole.verdict
    assert streamed.stopped == whole.stopped


@given(streams())
def test_no_more_is_held_back_than_the_longest_token(pieces: list[str]) -> None:
    watch = watch_over(ScriptedScorer(TRIGGER))
    for piece in pieces:
        watch.push(piece)
        assert watch.held < LONGEST_TOKEN


@given(streams(), st.integers(1, 20), st.booleans())
def test_a_failure_at_any_step_releases_nothing_afterwards(pieces: list[str], step: int, nan: bool) -> None:
    scorer = ScriptedScorer(TRIGGER, nan_at=step if nan else None, fails_at=None if nan else step)
    watch = watch_over(scorer)
    text, released, failed = "".join(pieces), "", False
    for piece in [*pieces, None]:
        try:
            out = watch.finish() if piece is None else watch.push(piece)
        except GuardError:
            assert not failed
            failed = True
            out = ""
        assert not (failed and out)
        released += out
    tokens = tokens_of(harmless_part(text))
    assert "".join(tokens[: step - 1]).startswith(released)
    until_stop = len(tokens) + (TRIGGER in text.casefold())
    assert failed or step > until_stop
    assert not failed or step <= len(tokens_of(text))
    assert scorer.open == 1  # the reading; the reply is closed


@given(streams())
def test_shadow_changes_nothing_and_remembers_the_stop(pieces: list[str]) -> None:
    shadow, enforced = watch_over(ScriptedScorer(TRIGGER), enforce=False), watch_over(ScriptedScorer(TRIGGER))
    assert [shadow.push(piece) for piece in pieces] == pieces
    assert shadow.finish() == ""
    for piece in pieces:
        enforced.push(piece)
    enforced.finish()
    assert shadow.stopped == enforced.stopped
    assert shadow.verdict == enforced.verdict


@given(streams(), st.integers(1, 20))
def test_shadow_survives_a_failing_scorer(pieces: list[str], step: int) -> None:
    watch = watch_over(ScriptedScorer("never to be found", fails_at=step), enforce=False)
    assert [watch.push(piece) for piece in pieces] == pieces
    watch.finish()
    assert (watch.failure is not None) == (len(tokens_of("".join(pieces))) >= step)


def test_nothing_comes_after_a_close() -> None:
    watch = watch_over(ScriptedScorer(TRIGGER))
    assert watch.push("soft clouds roll") == "soft clouds"
    watch.close()
    watch.close()
    assert watch.push(" over hills ") + watch.finish() == ""


def test_the_stop_says_why() -> None:
    watch = watch_over(ScriptedScorer(TRIGGER))
    assert watch.score == -math.inf and watch.verdict is None
    watch.push("fair ")
    watch.push("mist falls")
    assert watch.stopped is not None
    assert (watch.stopped.score, watch.stopped.threshold, watch.stopped.category) == (10, 0, "scripted")
    assert watch.score == 10


class Fixed:
    """A reply scorer that says what it is told to, whatever is pushed."""

    def __init__(self, scores: list[Score]) -> None:
        self.scores = scores

    def push(self, text: str) -> list[Score]:
        return self.scores

    def finish(self) -> list[Score]:
        return []

    def close(self) -> None:
        pass


def test_a_score_at_the_limit_stops() -> None:
    watch = Watch(Fixed([Score(2, 0.5), Score(4, 1.0)]), 1.0)
    assert watch.push("abcdef") == "ab"
    assert watch.stopped is not None


def test_half_a_character_is_not_released_before_its_last_token() -> None:
    watch = Watch(Fixed([Score(0, -1), Score(0, -1), Score(1, -1)]), 0.0)
    assert watch.push("\U0001f319") == "\U0001f319"
    assert Watch(Fixed([Score(0, -1), Score(1, 5)]), 0.0).push("\U0001f319") == ""


@pytest.mark.parametrize("scores", [[Score(9, -1)], [Score(3, -1), Score(2, -1)], [Score(-1, -1)]])
def test_an_end_that_cannot_be_is_a_failure(scores: list[Score]) -> None:
    watch = Watch(Fixed(scores), 0.0)
    with pytest.raises(GuardError, match="scored up to character"):
        watch.push("abcd")
    assert watch.push("more") == ""


def test_text_that_is_never_scored_is_never_released() -> None:
    watch = Watch(Fixed([Score(2, -1)]), 0.0)
    assert watch.push("abcd") == "ab"
    with pytest.raises(GuardError, match="last 2 characters"):
        watch.finish()
