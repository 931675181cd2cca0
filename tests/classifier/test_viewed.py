"""The scorer that also reads what a text hides: the highest reading counts, in every chunking, and it fails closed."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_classifiers import classifier, encoder

from marbury.ciphers import CIPHERS
from marbury.classifier.scorer import StreamScorer
from marbury.classifier.viewed import ViewedScorer, decoded
from marbury.guard.scripted import ScriptedScorer
from marbury.guard.watch import Watch
from marbury.records import Message
from marbury.scoring import ReplyScorer, Score, whole

SECRET = (
    "First you bring the amber crumbs to the tower, then the swan drinks from the silver bowl, and nobody may look."
)
PLAIN = "The river was low that summer, and the keeper of the gate went home before the bells rang, as he always did."
TRIGGER = "silver bowl"
STREAMED = "base64 base32 hex rot13 atbash caesar-7 morse binary leetspeak homoglyphs zero-width spaced percent".split()


def ask(text: str) -> list[Message]:
    return [Message("user", text)]


def scores(scorer: ScriptedScorer | ViewedScorer, text: str, cuts: list[int] | None = None) -> list[Score]:
    reading = scorer.read(ask("How does it go?"))
    reply = reading.reply()
    found: list[Score] = []
    for start, end in zip([0, *(cuts or [])], [*(cuts or []), len(text)], strict=True):
        found += reply.push(text[start:end])
    found += reply.finish()
    reply.close()
    reading.close()
    return found


@pytest.mark.parametrize("name", [name for name, cipher in CIPHERS.items() if cipher.decode])
def test_a_request_is_judged_by_its_highest_reading(name: str) -> None:
    inner = ScriptedScorer("swan drinks")
    scorer = ViewedScorer(inner)
    coded = CIPHERS[name].encode(SECRET)
    score, _ = whole(scorer, ask(coded), None)
    assert score == Score(len(coded), 10.0, (10.0,))
    assert whole(scorer, ask(CIPHERS[name].encode(PLAIN)), None)[0].harm == -10.0
    assert inner.open == 0


def test_a_plain_request_is_read_once() -> None:
    inner = ScriptedScorer(TRIGGER)
    scorer = ViewedScorer(inner)
    reading = scorer.read(ask(PLAIN))
    assert inner.open == 1
    assert reading.score.harm == -10.0
    reading.close()
    assert inner.open == 0
    assert scorer.categories == ("scripted",)


def test_readings_replace_the_messages_that_hide_something() -> None:
    messages = [Message("system", PLAIN), Message("user", CIPHERS["base64"].encode(CIPHERS["rot13"].encode(SECRET)))]
    found = list(decoded(messages))
    assert 1 <= len(found) <= 4
    assert all(reading[0] == messages[0] for reading in found)
    assert any(reading[1].content == SECRET for reading in found)
    assert list(decoded(ask(PLAIN))) == []


@pytest.mark.parametrize("name", STREAMED)
def test_a_reply_in_code_is_stopped_before_it_is_over(name: str) -> None:
    text = CIPHERS[name].encode(f"{SECRET} {PLAIN}")
    assert max(score.harm for score in scores(ScriptedScorer("swan drinks"), text)) == -10.0 or name == "leetspeak"
    scorer = ViewedScorer(ScriptedScorer("swan drinks"))
    watch = Watch(scorer.read(ask("Go on.")).reply(), 0.0, scorer.categories)
    released = watch.push(text) + watch.finish()
    assert watch.stopped
    assert len(released) < 0.8 * len(text)


def test_a_reversed_reply_is_judged_at_its_end() -> None:
    found = scores(ViewedScorer(ScriptedScorer("swan drinks")), CIPHERS["reversed-letters"].encode(SECRET))
    assert found[-1].harm == 10.0


def test_plain_replies_cost_the_same_steps_and_have_the_same_scores() -> None:
    raw, inner = ScriptedScorer("keeper of the gate"), ScriptedScorer("keeper of the gate")
    assert scores(ViewedScorer(inner), PLAIN * 5) == scores(raw, PLAIN * 5)
    assert inner.steps == raw.steps


@given(data=st.data(), name=st.sampled_from(STREAMED + ["reversed-letters", "upside-down", "full-width"]))
@settings(max_examples=60)
def test_streamed_equals_whole(data: st.DataObject, name: str) -> None:
    text = f"{PLAIN} {CIPHERS[name].encode(SECRET)}\n{PLAIN}"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=10)))
    at_once = scores(ViewedScorer(ScriptedScorer(TRIGGER)), text)
    assert scores(ViewedScorer(ScriptedScorer(TRIGGER)), text, cuts) == at_once
    assert [score.end for score in at_once][: len(at_once) - 1] == [s.end for s in scores(ScriptedScorer("-"), text)][
        : len(at_once) - 1
    ]
    assert at_once[-1].end == len(text)


def test_the_ends_are_those_of_the_scorer_within() -> None:
    text = f"{CIPHERS['hex'].encode(SECRET)} {PLAIN}"
    ends = [score.end for score in scores(ScriptedScorer(TRIGGER), text)]
    found = scores(ViewedScorer(ScriptedScorer(TRIGGER)), text)
    assert [score.end for score in found] == ends
    harms = [score.harm for score in found]
    assert harms == sorted(harms)  # a view's score stays


def test_what_is_decoded_only_at_the_end_has_a_score_of_its_own() -> None:
    """The plain scorer has nothing left to say when a text ends with a full token."""
    text = CIPHERS["hex"].encode("the swan drinks from the silver bowl by the gate")
    assert len(text) % 32 == 0
    raw = scores(ScriptedScorer("the gate"), text)
    found = scores(ViewedScorer(ScriptedScorer("the gate")), text)
    assert [score.end for score in found] == [*(score.end for score in raw), len(text)]
    assert found[-1].harm == 10.0


def steps_until_a_view(text: str) -> int:
    """How many steps the scorer has taken when the first view is scored."""
    raw, inner = ScriptedScorer(TRIGGER), ScriptedScorer(TRIGGER)
    one, other = raw.read(ask("?")).reply(), ViewedScorer(inner).read(ask("?")).reply()
    for letter in text:
        one.push(letter)
        other.push(letter)
        if inner.steps > raw.steps:
            return raw.steps + 1
    raise AssertionError("no view opened")


CODED = CIPHERS["rot13"].encode(f"{SECRET} {PLAIN}")


def test_a_failure_in_a_view_is_a_failure() -> None:
    inner = ScriptedScorer(TRIGGER, fails_at=steps_until_a_view(CODED))
    reply = ViewedScorer(inner).read(ask("?")).reply()
    with pytest.raises(RuntimeError, match="scripted failure"):
        for letter in CODED:
            reply.push(letter)
    reply.close()


def test_a_view_without_a_number_counts_for_ever() -> None:
    inner = ScriptedScorer(TRIGGER, nan_at=steps_until_a_view(CODED))
    found = scores(ViewedScorer(inner), CODED, list(range(1, len(CODED))))
    first = next(number for number, score in enumerate(found) if math.isnan(score.harm))
    assert all(math.isnan(score.harm) for score in found[first:])


def test_a_failed_reading_of_a_request_leaves_nothing_open() -> None:
    class Fails(ScriptedScorer):
        def score(self, step: int, end: int, flagged: bool) -> Score:
            if flagged:
                raise RuntimeError("no")
            return super().score(step, end, flagged)

    inner = Fails(TRIGGER)
    with pytest.raises(RuntimeError):
        ViewedScorer(inner).read(ask(CIPHERS["base64"].encode(SECRET)))
    assert inner.open == 0


def test_close_closes_all_and_may_come_twice() -> None:
    inner = ScriptedScorer(TRIGGER)
    reading = ViewedScorer(inner).read(ask("?"))
    reply: ReplyScorer = reading.reply()
    reply.push(CODED[:150])
    assert inner.open >= 3  # the request, the reply, a view
    for _ in range(2):
        reply.close()
        reading.close()
    assert inner.open == 0


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_it_goes_around_the_scorer_on_torch(kind: str) -> None:
    side = classifier(kind, window=4), encoder(kind)
    plain = StreamScorer({"input": side, "output": side}, engine="torch", prefix_mb=0)
    viewed = ViewedScorer(plain)
    text = f"{PLAIN} {CIPHERS['base64'].encode(SECRET)} {PLAIN}"
    assert whole(viewed, ask(PLAIN), PLAIN) == whole(plain, ask(PLAIN), PLAIN)
    raw, found = (scorer.read(ask(text)).reply() for scorer in (plain, viewed))
    before, after = (reply.push(text) + reply.finish() for reply in (raw, found))
    assert [score.end for score in after[: len(before)]] == [score.end for score in before]
    assert all(one.harm >= other.harm for one, other in zip(after, before, strict=False))
    decoded_alone = whole(plain, ask(text), f"{SECRET} {PLAIN}")[1]
    assert decoded_alone is not None
    assert max(score.harm for score in after) >= decoded_alone.harm - 1e-4
