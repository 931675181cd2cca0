"""Near-duplicates: estimated similarity against the exact one."""

import random

from marbury.near import NEAR, near_any, shingles

WORDS = [f"word{number}" for number in range(300)]


def jaccard(one: str, other: str) -> float:
    a, b = shingles(one), shingles(other)
    return len(a & b) / len(a | b)


def test_clear_cases_are_decided_as_the_exact_similarity_says() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices(WORDS, k=40)) for _ in range(60)]
    twins = [" ".join([*text.split()[:-1], "other"]) for text in texts[:30]]
    strangers = [" ".join(rng.choices(WORDS, k=40)) for _ in range(30)]
    assert all(jaccard(text, twin) > NEAR + 0.1 for text, twin in zip(texts, twins, strict=False))
    assert sum(near_any(twins, texts)) >= 27
    assert sum(near_any(strangers, texts)) == 0


def test_case_and_punctuation_do_not_count_and_the_answer_is_always_the_same() -> None:
    assert list(near_any(["THE lamp, dimmed!", "a cat"], ["the lamp dimmed"])) == [True, False]
    texts = [f"sentence {n} about lamp {n % 7} and shelf {n % 5} in the house" for n in range(50)]
    assert list(near_any(texts, texts[::2])) == list(near_any(texts, texts[::2]))


def test_texts_without_words_are_compared_as_they_are() -> None:
    assert list(near_any(["...", "!!!"], ["..."])) == [True, False]
