import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marbury.guard.scripted import LONGEST_TOKEN, ScriptedScorer
from marbury.records import Message
from marbury.scoring import Score, Scorer


def tokens_of(text: str) -> list[str]:
    """The slow and obvious cut: words with the space before them, in pieces of at most 32 characters."""
    tokens = []
    for word in re.findall(r"\s*\S+|\s+", text):
        tokens += [word[i : i + LONGEST_TOKEN] for i in range(0, len(word), LONGEST_TOKEN)]
    return tokens


def scores_of(scorer: Scorer, pieces: list[str]) -> list[Score]:
    reply = scorer.read([]).reply()
    scores = [score for piece in pieces for score in reply.push(piece)]
    return scores + reply.finish()


texts = st.text(st.sampled_from("ab \n\tß\U0001f319"), max_size=90)


@given(st.lists(texts, max_size=8))
def test_any_chunking_scores_like_the_whole(pieces: list[str]) -> None:
    scorer = ScriptedScorer("ab")
    assert scores_of(scorer, pieces) == scores_of(scorer, ["".join(pieces)])


@given(texts)
def test_ends_count_characters_as_the_obvious_cut_does(text: str) -> None:
    ends = [score.end for score in scores_of(ScriptedScorer("zz"), [text])]
    cut = tokens_of(text)
    assert ends == [sum(map(len, cut[: i + 1])) for i in range(len(cut))]


def test_the_trigger_counts_from_the_token_that_completes_it() -> None:
    scores = scores_of(ScriptedScorer("mist"), ["the sleeping MI", "ST rises slowly"])
    assert [score.harm for score in scores] == [-10, -10, 10, 10, 10]


def test_a_trigger_may_span_words_and_folded_letters() -> None:
    scores = scores_of(ScriptedScorer("STRASSE am"), ["die Straße am Fluss"])
    assert [score.harm for score in scores] == [-10, -10, 10, 10]


@given(st.lists(texts, max_size=5))
def test_it_holds_back_less_than_the_longest_token(pieces: list[str]) -> None:
    reply, pushed, end = ScriptedScorer("x").read([]).reply(), 0, 0
    for piece in pieces:
        pushed += len(piece)
        end = ([end] + [score.end for score in reply.push(piece)])[-1]
        assert pushed - end < LONGEST_TOKEN


def test_a_request_is_harmful_when_any_message_holds_the_trigger() -> None:
    scorer = ScriptedScorer("mist")
    assert scorer.read([Message("system", "a Mist"), Message("user", "hello")]).score.harm == 10
    assert scorer.read([Message("user", "hello")]).score.harm == -10


def test_failures_come_at_their_step() -> None:
    with pytest.raises(RuntimeError, match="step 2"):
        scores_of(ScriptedScorer("x", fails_at=2), ["a b c"])
    with pytest.raises(RuntimeError, match="step 0"):
        ScriptedScorer("x", fails_at=0).read([])
    assert [score.harm == score.harm for score in scores_of(ScriptedScorer("x", nan_at=2), ["a b c"])] == [
        True,
        False,
        True,
    ]


def test_it_counts_who_is_open() -> None:
    scorer = ScriptedScorer("x")
    reading = scorer.read([])
    reply = reading.reply()
    assert scorer.open == 2
    for closing in (reading, reply, reading, reply):
        closing.close()
    assert scorer.open == 0
