"""A scorer that keeps the `Scorer` contract without any learning, for tests, drills and measuring the proxy.

Its tokens are words with the space before them, cut at 32 characters. A token is harmful from the one in which
the trigger completes; a request is harmful when one of its messages contains the trigger.
"""

import re
import time
from collections.abc import Sequence

from marbury.records import Message
from marbury.scoring import Score

LONGEST_TOKEN = 32
_WORD = re.compile(r"\s*\S*")


class ScriptedScorer:
    """Harm +10 from the trigger on, -10 before.

    Steps are counted over all replies. `fails_at`, `nan_at`: at this step the scorer raises, or gives a score that
    is not a number; step 0 is the reading of a request. `delay_s`: how long every reading and every push takes.
    """

    def __init__(
        self, trigger: str, *, fails_at: int | None = None, nan_at: int | None = None, delay_s: float = 0.0
    ) -> None:
        self.trigger = trigger.casefold()
        self.fails_at = fails_at
        self.nan_at = nan_at
        self.delay_s = delay_s
        self.steps = 0
        self.open = 0  # readings and replies that nobody has closed

    @property
    def categories(self) -> tuple[str, ...]:
        """One category, called `scripted`."""
        return ("scripted",)

    def read(self, messages: Sequence[Message]) -> "ScriptedReading":
        """Read a request."""
        time.sleep(self.delay_s)
        flagged = any(self.trigger in message.content.casefold() for message in messages)
        return ScriptedReading(self, self.score(0, sum(len(m.content) for m in messages), flagged))

    def score(self, step: int, end: int, flagged: bool) -> Score:
        """The score of one step, or the failure that is planned for it."""
        if step == self.fails_at:
            raise RuntimeError(f"scripted failure at step {step}")
        harm = float("nan") if step == self.nan_at else 10.0 if flagged else -10.0
        return Score(end=end, harm=harm, categories=(harm,))


class _Closing:
    """Counts itself as open until it is closed."""

    def __init__(self, scorer: ScriptedScorer) -> None:
        self._scorer = scorer
        self._closed = False
        scorer.open += 1

    def close(self) -> None:
        """Count it as closed, once."""
        if not self._closed:
            self._closed = True
            self._scorer.open -= 1


class ScriptedReading(_Closing):
    """A request that was read."""

    def __init__(self, scorer: ScriptedScorer, score: Score) -> None:
        super().__init__(scorer)
        self._score = score

    @property
    def score(self) -> Score:
        """+10 if a message contains the trigger."""
        return self._score

    def reply(self) -> "ScriptedReply":
        """Begin a reply."""
        return ScriptedReply(self._scorer)


class ScriptedReply(_Closing):
    """Scores one reply; holds back the last word until it is complete."""

    def __init__(self, scorer: ScriptedScorer) -> None:
        super().__init__(scorer)
        self._word = ""  # the token that more text could change
        self._end = 0
        self._recent = ""  # folded end of the text, long enough to find a trigger that begins there
        self._flagged = False

    def push(self, text: str) -> list[Score]:
        """The scores of the words that are complete."""
        assert not self._closed, "push after close"
        if self._scorer.delay_s:
            time.sleep(self._scorer.delay_s)
        self._word += text
        tokens, start = [], 0
        while start < len(self._word):
            found = _WORD.match(self._word, start)
            assert found is not None
            end = min(found.end(), start + LONGEST_TOKEN)
            if end == len(self._word) and end - start < LONGEST_TOKEN:
                break
            tokens.append(self._word[start:end])
            start = end
        self._word = self._word[start:]
        return [self._step(token) for token in tokens]

    def finish(self) -> list[Score]:
        """The score of the last word."""
        assert not self._closed, "finish after close"
        token, self._word = self._word, ""
        return [self._step(token)] if token else []

    def _step(self, token: str) -> Score:
        self._scorer.steps += 1
        self._end += len(token)
        self._recent += token.casefold()
        self._flagged = self._flagged or self._scorer.trigger in self._recent
        self._recent = self._recent[-len(self._scorer.trigger) :]
        return self._scorer.score(self._scorer.steps, self._end, self._flagged)
