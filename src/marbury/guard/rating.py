"""Scores an exchange that is there as a whole and asks for nothing but its scores: for who decides elsewhere.

Runs in the scorer's thread. It closes as a `Watch` does: a score that is not a number, or a text that is left without
one, is a failure and no verdict.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from marbury.errors import GuardError
from marbury.guard.judged import Policy
from marbury.guard.watch import Watch
from marbury.records import Message, turns_of
from marbury.scoring import Reading, Score, Verdict, verdict


class Rating(NamedTuple):
    """The verdicts on an exchange, and the request's score with a logit for each category."""

    request: Verdict
    score: Score
    reply: Verdict | None  # None without a reply, and for an empty one


def rate(policy: Policy, messages: Sequence[Message], reply: str | None) -> Rating:
    """Rate an exchange.

    Raises:
        GuardError: the scorer failed.
    """
    try:
        reading = policy.scorer.read(messages)
    except Exception as error:  # whatever a classifier can raise
        raise GuardError(f"the classifier failed on a request: {type(error).__name__}") from error
    try:
        score = reading.score
        if math.isnan(score.harm):
            raise GuardError("the classifier gave a score that is not a number")
        limit = policy.thresholds.limit("input", turns_of(messages))
        decision = verdict(score, limit, "input", policy.scorer.categories)
        return Rating(decision, score, _rate_reply(policy, reading, messages, reply) if reply else None)
    finally:
        reading.close()


def _rate_reply(policy: Policy, reading: Reading, messages: Sequence[Message], reply: str) -> Verdict | None:
    limit = policy.thresholds.limit("output", turns_of(messages))
    try:
        scorer = reading.reply()
    except Exception as error:  # whatever a classifier can raise
        raise GuardError(f"the classifier could not begin a reply: {type(error).__name__}") from error
    watch = Watch(scorer, limit, policy.scorer.categories)
    try:
        watch.push(reply)
        watch.finish()
        return watch.verdict
    finally:
        watch.close()
