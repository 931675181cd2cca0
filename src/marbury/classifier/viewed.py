"""A scorer around a scorer that also reads what a text hides: the verdict is the highest over all readings.

A request is read once more for each decoded reading of it, 4 at most. A reply has a second scorer of the same
reading for each view that opens in it, fed with the decoded text; what was decoded by then counts where its code
ended. A text without views costs no further step. Whatever fails in a view fails here.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

from msgspec.structs import replace

from marbury.records import Message
from marbury.scoring import Reading, ReplyScorer, Score, Scorer, push_all
from marbury.views import ViewStream, views


class ViewedReply:
    """Scores one reply and the views of it while it grows."""

    def __init__(self, begin: Callable[[], ReplyScorer]) -> None:
        self._begin = begin
        self.raw = begin()  # scores the reply as it is written
        self._stream = ViewStream()
        self._views: dict[int, ReplyScorer] = {}
        self._unread = ""  # what the plain scorer has not scored yet
        self._end = 0
        self._best: Score | None = None  # the highest of all views
        self._told = -math.inf

    def push(self, text: str) -> list[Score]:
        """Take more text; give the scores of the tokens that no later text can change."""
        return self.scored(text, self.raw.push(text))

    def scored(self, text: str | None, plain: list[Score]) -> list[Score]:
        """What `push` gives (for None: `finish`), when the plain reply has been pushed and has given these scores."""
        if text is None:
            return self._finished(plain)
        self._unread += text
        return [self._with_views(score) for score in plain]

    def finish(self) -> list[Score]:
        """The text is complete: give the scores that were still held back.

        The last score also says what the views held back. Without one, there is one more at the end of the text if
        that is higher than all before.
        """
        return self._finished(self.raw.finish())

    def _finished(self, plain: list[Score]) -> list[Score]:
        scores = [self._with_views(score) for score in plain]
        self._say(self._stream.finish())
        for number in list(self._views):
            self._end_view(number)
        if scores:
            scores[-1] = self._highest(scores[-1])
        elif self._best and not self._best.harm <= self._told:
            scores.append(replace(self._best, end=self._end))
        return scores

    def close(self) -> None:
        """Free the memory of all streams."""
        self.raw.close()
        for scorer in self._views.values():
            scorer.close()

    def _with_views(self, score: Score) -> Score:
        """The score of a token, or of what the text up to its end hides if that is higher."""
        new = score.end - self._end
        if new > 0:
            piece, self._unread = self._unread[:new], self._unread[new:]
            self._end = score.end
            self._say(self._stream.push(piece))
        highest = self._highest(score)
        self._told = max(self._told, highest.harm)
        return highest

    def _highest(self, score: Score) -> Score:
        best = higher([score, self._best]) if self._best else score
        return score if best is score else replace(best, end=score.end)

    def _say(self, said: Iterable[tuple[int, str]]) -> None:
        for number, text in said:
            if number not in self._views:
                self._views[number] = self._begin()
            self._take(self._views[number].push(text))
        for number in set(self._views) - self._stream.open:
            self._end_view(number)

    def _end_view(self, number: int) -> None:
        self._take(self._views[number].finish())
        self._views.pop(number).close()

    def _take(self, scores: list[Score]) -> None:
        known = [self._best] if self._best else []
        if scores:
            self._best = higher(known + scores)


class ViewedReading:
    """A request that has been read, in all its readings."""

    def __init__(self, scorer: Scorer, messages: Sequence[Message]) -> None:
        self._plain = scorer.read(messages)
        try:
            scores = [self._plain.score, *(_score_of(scorer, other) for other in decoded(messages))]
        except BaseException:
            self._plain.close()
            raise
        self.score = replace(higher(scores), end=self._plain.score.end)

    def reply(self) -> ViewedReply:
        """Begin a reply to this request as it was written."""
        return ViewedReply(self._plain.reply)

    def close(self) -> None:
        """Free the memory of the request."""
        self._plain.close()


class ViewedScorer:
    """Reads requests and replies as they are and as they decode."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    @property
    def categories(self) -> tuple[str, ...]:
        """The restricted categories, in the order of the scores."""
        return self.scorer.categories

    def read(self, messages: Sequence[Message]) -> Reading:
        """Read a request: all messages before the reply."""
        return ViewedReading(self.scorer, messages)

    def push_all(self, pushes: Sequence[tuple[ViewedReply, str | None]]) -> list[list[Score] | Exception]:
        """Push text to many replies, or finish them with None, in one step of the scorer; views, which are rare, alone.

        One that fails gives its failure and stops no other. No reply may occur twice.
        """
        plain = push_all(self.scorer, [(reply.raw, text) for reply, text in pushes])
        return [_scored(reply, text, scores) for (reply, text), scores in zip(pushes, plain, strict=True)]


def higher(scores: Sequence[Score]) -> Score:
    """The first of the highest scores. One that is not a number counts as the highest."""
    return max(scores, key=lambda score: (math.isnan(score.harm), score.harm))


def decoded(messages: Sequence[Message]) -> Iterator[tuple[Message, ...]]:
    """The readings of a request in which messages that have views are replaced by them: at most 4, none without."""
    found = [views(message.content) for message in messages]
    for number in range(max(map(len, found), default=0)):
        yield tuple(
            replace(message, content=those[min(number, len(those) - 1)].text) if those else message
            for message, those in zip(messages, found, strict=True)
        )


def _scored(reply: ViewedReply, text: str | None, plain: list[Score] | Exception) -> list[Score] | Exception:
    if isinstance(plain, Exception):
        return plain
    try:
        return reply.scored(text, plain)
    except Exception as error:  # handed to whoever asked
        return error


def _score_of(scorer: Scorer, messages: Sequence[Message]) -> Score:
    reading = scorer.read(messages)
    try:
        return reading.score
    finally:
        reading.close()
