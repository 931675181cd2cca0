"""The gate of one stream: text goes in, only what has been scored below the limit comes out.

Plain and synchronous: it knows no network, no thread and no clock. Once it has stopped, failed or been closed it
gives back nothing, for ever.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

from marbury import scoring
from marbury.errors import GuardError
from marbury.scoring import ReplyScorer, Score, Scorer, Verdict, verdict


class Watch:
    """Releases a reply as far as it has been scored below `limit`.

    With `enforce=False` (shadow) all text comes back at once and unchanged, and the verdict that would have
    stopped it is only remembered.
    """

    def __init__(
        self, scorer: ReplyScorer, limit: float, categories: Sequence[str] = (), *, enforce: bool = True
    ) -> None:
        self._scorer = scorer
        self._limit = limit
        self._categories = categories
        self._enforce = enforce
        self._held = ""  # arrived, not released
        self._arrived = 0  # characters so far
        self._covered = 0  # characters that are scored, all of them below the limit
        self._closed = False
        self._best: Score | None = None
        self.stopped: Verdict | None = None
        self.failure: GuardError | None = None
        self.steps = 0

    @property
    def score(self) -> float:
        """The highest logit so far; minus infinity before the first."""
        return self._best.harm if self._best else -math.inf

    @property
    def verdict(self) -> Verdict | None:
        """The decision so far: the one that stopped the reply, else the one at the highest score."""
        if self.stopped or self._best is None:
            return self.stopped
        return verdict(self._best, self._limit, "output", self._categories)

    @property
    def held(self) -> int:
        """How many characters wait for their score."""
        return len(self._held)

    def push(self, text: str) -> str:
        """Take more text; give the text that is released now.

        Raises:
            GuardError: the scorer failed; the watch is closed then. In shadow it is remembered in `failure`.
        """
        return self._push(text, partial(self._scorer.push, text))

    def finish(self) -> str:
        """The text is complete: give the rest, if it scores below the limit.

        Raises:
            GuardError: the scorer failed, or left a part of the text without a score. In shadow as for `push`.
        """
        return self._finish(self._scorer.finish)

    def close(self) -> None:
        """Release nothing more and free the scorer. May be called twice."""
        if not self._closed:
            self._closed = True
            self._held = ""
            self._scorer.close()

    def _push(self, text: str, step: Callable[[], list[Score]]) -> str:
        released = ""
        if text and not self._closed:
            self._arrived += len(text)
            self._held += text
            released = self._advance(step)
        return released if self._enforce else text

    def _finish(self, step: Callable[[], list[Score]]) -> str:
        released = "" if self._closed else self._advance(step, last=True)
        self.close()
        return released if self._enforce else ""

    def _advance(self, step: Callable[[], list[Score]], *, last: bool = False) -> str:
        try:
            for score in _scores(step):
                if not self._passes(score):
                    break
            if last and self._covered < self._arrived and not self.stopped:
                raise GuardError(f"the classifier left the last {self.held} characters of a reply without a score")
        except GuardError as error:
            self.close()
            self.failure = error
            if self._enforce:
                raise
            return ""
        return self._release()

    def _passes(self, score: Score) -> bool:
        """Whether the token is below the limit; counts its characters as covered if so."""
        self.steps += 1
        if math.isnan(score.harm):
            raise GuardError("the classifier gave a score that is not a number")
        if not self._covered <= score.end <= self._arrived:
            raise GuardError(
                f"the classifier scored up to character {score.end} of a reply when {self._covered} were scored "
                f"before and {self._arrived} had arrived"
            )
        if self._best is None or score.harm > self._best.harm:
            self._best = score
        decision = verdict(score, self._limit, "output", self._categories)
        if decision.flagged:
            self.stopped = decision
            return False
        self._covered = score.end
        return True

    def _release(self) -> str:
        """The part of the held text that may go out now. The flagged token's own characters never do."""
        cut = len(self._held) - (self._arrived - self._covered)
        released, self._held = self._held[:cut], self._held[cut:]
        if self.stopped:
            self.close()
        return released


def push_all(scorer: Scorer, pushes: Sequence[tuple[Watch, str | None]]) -> list[str | GuardError]:
    """Push text to many watches, or finish them with None, in one step of the scorer: what each gives or raises.

    No watch may occur twice.
    """
    asked = {n: (w._scorer, text) for n, (w, text) in enumerate(pushes) if not w._closed and text != ""}
    said: dict[int, list[Score] | Exception] = {}
    try:
        said = dict(zip(asked, scoring.push_all(scorer, list(asked.values())), strict=True)) if asked else {}
    except Exception as error:  # whatever a classifier can raise: it holds for all of them
        said = dict.fromkeys(asked, error)
    released: list[str | GuardError] = []
    for number, (watch, text) in enumerate(pushes):
        step = partial(_said, said.get(number, []))
        try:
            released.append(watch._finish(step) if text is None else watch._push(text, step))
        except GuardError as error:
            released.append(error)
    return released


def _said(scores: list[Score] | Exception) -> list[Score]:
    if isinstance(scores, Exception):
        raise scores
    return scores


def _scores(step: Callable[[], list[Score]]) -> list[Score]:
    """What the scorer says; whatever a classifier can raise becomes a GuardError, for the reply must not go on."""
    try:
        return step()
    except GuardError:
        raise
    except Exception as error:
        raise GuardError(f"the classifier failed on a reply: {type(error).__name__}") from error
