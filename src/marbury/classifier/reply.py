"""A request that was read and the replies to it, each scored token by token on an engine.

What is to be read next is said by generators (`Reads`), so that whoever has many replies can let them advance side by
side. It knows no files and does not choose an engine.
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from marbury.classifier.context import Context, Logits, Reads, read_together
from marbury.classifier.encoding import Encoder, PieceCutter
from marbury.classifier.engine import Engine
from marbury.classifier.model import Classifier
from marbury.classifier.prefixes import Prefixes
from marbury.records import Message
from marbury.scoring import Score

T = TypeVar("T")


class Part(NamedTuple):
    """What reads for one side, or for both."""

    model: Classifier
    encoder: Encoder
    engine: Engine
    prefixes: Prefixes

    def context(self) -> Context:
        """An empty context. A request must leave room to look at the marker that opens a reply."""
        return Context(
            self.engine, self.model.config.max_tokens - len(self.encoder.markers["assistant"]), self.prefixes
        )


class StreamReply:
    """Scores one reply token by token."""

    def __init__(self, context: Context, part: Part) -> None:
        self._context: Context | None = context
        self._encoder, self._engine = part.encoder, part.engine
        self._columns = part.engine.columns["output"]
        self._cutter = PieceCutter()
        width = self._columns.stop - self._columns.start
        self._recent = np.zeros((max(1, part.model.config.window), width), np.float32)  # in turn, the oldest goes
        self._tokens = 0
        self._end = 0
        self._last: Score | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the memory that it holds now."""
        return self._context.nbytes if self._context else 0

    def push(self, text: str) -> list[Score]:
        """Take more text; give the scores of the tokens that no later text can change."""
        return only(read_together(self._engine, [self.advance(text)]))

    def finish(self) -> list[Score]:
        """The text is complete: give the scores that were still held back."""
        return only(read_together(self._engine, [self.advance(None)]))

    def close(self) -> None:
        """Free the memory, after giving what was read to the conversation's next turn."""
        try:
            if self._context is not None:
                self._context.remember()
        finally:
            self._drop()

    def advance(self, text: str | None) -> Reads[list[Score]]:
        """As `push`, or as `finish` for None, with the reading left to whoever runs it."""
        pieces = self._cutter.finish() if text is None else self._cutter.push(text)
        if self._context is None or not pieces:
            return []
        groups = [self._encoder.tokens(piece) for piece in pieces]
        try:
            logits = yield from self._context.extend([token for group in groups for token in group])
        except BaseException:  # how far the context came is unknown: nothing more is scored with it
            self._drop()
            raise
        return self._scores(pieces, groups, logits[:, self._columns])

    def _drop(self) -> None:
        if self._context is not None:
            self._context.close()
        self._context = None

    def _scores(self, pieces: list[str], groups: list[tuple[int, ...]], logits: Logits) -> list[Score]:
        scores, each = [], iter(logits)
        for piece, group in zip(pieces, groups, strict=True):
            for number in range(len(group)):
                end = self._end + len(piece) if number == len(group) - 1 else self._end
                scores.append(self._smooth(next(each), end))
            self._end += len(piece)
            if not group:  # nothing in it for the tokenizer: it goes with the last score
                scores.append(Score(self._end, *self._carried()))
        return scores

    def _smooth(self, logits: Logits, end: int) -> Score:
        """The mean of the last `window` logits, as the softmax loss trains them."""
        self._recent[self._tokens % len(self._recent)] = logits
        self._tokens += 1
        known = self._recent[: self._tokens]
        harm, *categories = (np.add.reduce(known) / np.float32(len(known))).tolist()
        self._last = Score(end, harm, tuple(categories))
        return self._last

    def _carried(self) -> tuple[float, tuple[float, ...]]:
        return (self._last.harm, self._last.categories) if self._last else (float("-inf"), ())


class StreamReading:
    """A request that has been read. Its memory is that of the classifier that scores replies."""

    def __init__(self, part: Part, messages: Sequence[Message], score: Score, context: Context | None) -> None:
        self._part, self._messages, self._context = part, messages, context
        self.score = score

    @property
    def nbytes(self) -> int:
        """Bytes of the memory that it holds now."""
        return self._context.nbytes if self._context else 0

    def reply(self) -> StreamReply:
        """Begin a reply to this request."""
        if self._context is None:
            self._context = only(read_together(self._part.engine, [self._again()]))
        return StreamReply(self._context.fork(), self._part)

    def close(self) -> None:
        """Free the memory."""
        if self._context is not None:
            self._context.close()
        self._context = None

    def _again(self) -> Reads[Context]:
        """Read the request with the other classifier."""
        ids, _ = self._part.encoder.request(self._messages)
        context = self._part.context()
        yield from context.extend(ids)
        context.remember()
        return context


def only(results: Sequence[T | Exception]) -> T:
    """The one result, or its failure raised."""
    (result,) = results
    if isinstance(result, Exception):
        raise result
    return result
