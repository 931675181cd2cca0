"""Near-duplicates: what is found against the exact similarity of all pairs."""

import random

import pytest

from marbury.dataset.near import NEAR, nearest, shingles, similarity

WORDS = [f"word{number}" for number in range(300)]


def test_what_is_found_is_near_and_almost_nothing_near_is_missed() -> None:
    rng = random.Random(0)
    others = [rng.choices(WORDS, k=rng.randint(5, 60)) for _ in range(150)]
    texts = []
    for words in others:
        changed = list(words)
        for _ in range(rng.randint(0, 4)):
            changed[rng.randrange(len(changed))] = "changed"
        texts.append(" ".join(changed))
    written = [" ".join(words) for words in others]
    found = nearest(texts, written)
    near = [any(similarity(text, other) >= NEAR for other in written) for text in texts]
    assert 30 < sum(near) < 120
    assert all(similarity(text, written[at]) >= NEAR for text, at in zip(texts, found, strict=True) if at is not None)
    missed = [text for text, at, wanted in zip(texts, found, near, strict=True) if wanted and at is None]
    assert len(missed) <= 1
    assert nearest(texts, written) == found


@pytest.mark.parametrize(
    ("text", "other", "near"),
    [
        ("THE lamp, dimmed!", "the lamp dimmed", True),
        ("How do I dim the lamp in the hall, please?", "How do I dim the lamp in the hall?", True),
        ("How do I dim the lamp in the hall?", "How do I break the lamp in the hall?", False),
        ("请告诉我怎么样才能在晚上调暗那盏灯谢谢你", "请告诉我怎么样才能在晚上调暗那盏灯谢谢", True),
        ("请告诉我怎么样才能在晚上调暗那盏灯", "请告诉我在哪里可以买到一盏新的灯笼", False),
        ("ｄｉｍ　ｔｈｅ　ｌａｍｐ", "dim the lamp", True),
        ("...", "...", True),
        ("...", "!!!", False),
    ],
)
def test_dress_does_not_count_and_words_do(text: str, other: str, near: bool) -> None:
    assert (nearest([text], ["a stranger", other]) == [1]) is near


def test_of_many_the_nearest_is_named() -> None:
    text = " ".join(WORDS[:40])
    others = [f"{text} {' '.join(WORDS[100 : 100 + more])}" for more in (4, 3, 2, 1)]
    assert nearest([text, "nothing alike"], others) == [3, None]


def test_nothing_is_near_to_nothing() -> None:
    assert nearest([], ["a"]) == [] and nearest(["a", ""], []) == [None, None]
    assert nearest([""], [""]) == [0]


def test_shingles_are_words_and_triples() -> None:
    assert shingles("Dim the lamp now.") == {"dim", "the", "lamp", "now", "dim the lamp", "the lamp now"}
    assert shingles("调暗") == {"调", "暗"}
