"""Decoding one code piece by piece, from where it was found. What is not in the code stays as it is."""

from marbury.views.letters import LetterCode, gain_of
from marbury.views.spans import MORE, SpanCode, decoded

_STAYS, _RETURNS = -3.0, 2.0  # the gain that a piece needs to be decoded, after a decoded and after a plain one
_CREDIT = 20.0  # nats that a run can lose before it is none any more
_JUDGED = 12  # decoded characters after which a run is judged again
_HELD = 512  # characters that may wait for the rest of a group
_TAIL = 32  # characters at the end that may be the beginning of a run


class Letters:
    """A code that is undone within each piece."""

    def __init__(self, code: LetterCode) -> None:
        self._code = code
        self._coded = True

    def push(self, piece: str) -> tuple[str, float]:
        """The piece decoded if that is more probable, and the nats that this gains."""
        gain = gain_of(self._code, piece)
        self._coded = self._code.throughout or gain > (_STAYS if self._coded else _RETURNS)
        return (self._code.decode(piece), gain) if self._coded else (piece, 0.0)

    def finish(self) -> str:
        """Nothing waits here."""
        return ""


class Spans:
    """A code that writes groups of signs: complete groups are decoded, the rest waits."""

    def __init__(self, code: SpanCode) -> None:
        self._code = code
        self._held = ""
        self._inside = False
        self._credit = 0.0  # nats gained in this run, bounded
        self._unjudged = "", "", 0.0  # what was decoded, its run, and its nats drawn blindly
        self._gain = 0.0

    def push(self, piece: str) -> tuple[str, float]:
        """What can be said by now, and the nats that its decoding gains."""
        self._held += piece
        self._gain = 0.0
        return self._take(last=False), self._gain

    def finish(self) -> str:
        """All that waits."""
        return self._take(last=True) + self._rest()

    def _take(self, last: bool) -> str:
        out: list[str] = []
        while self._held:
            before = len(self._held), self._inside
            out.append(self._run(last) if self._inside else self._plain(last))
            if (len(self._held), self._inside) == before:
                break
        if len(self._held) > _HELD:
            out.append(self._rest())
        return "".join(out)

    def _rest(self) -> str:
        rest, self._held, self._inside = self._held, "", False
        return rest

    def _release(self, count: int) -> str:
        text, self._held = self._held[:count], self._held[count:]
        return text

    def _run(self, last: bool) -> str:
        """Inside of a run: what can be decoded of it now."""
        found = self._code.more.match(self._held)
        end = found.end() if found else 0
        ended = last or end < len(self._held)
        text, used = self._decoded(self._held[:end], ended)
        self._release(used)
        if ended or end - used > _TAIL:  # what is left of the run is none
            self._inside = False
            text += self._release(end - used)
        return text

    def _decoded(self, run: str, ended: bool) -> tuple[str, int]:
        try:
            span = self._code.read(run, ended)
        except ValueError:
            return "", 0
        text, coded, blind = self._unjudged
        text, coded, blind = text + span.text, coded + run[: span.used], blind + span.blind
        self._unjudged = text, coded, blind
        if len(text) >= _JUDGED:  # a letter or two say nothing
            gain = self._code.read.gain(text, coded, blind)
            self._unjudged = "", "", 0.0
            self._gain += max(0.0, gain)
            self._credit = min(_CREDIT, self._credit + gain)
            if self._credit <= 0:
                return "", 0
        return span.text, span.used

    def _plain(self, last: bool) -> str:
        """Outside of a run: the text before the next one. What may be the beginning of one waits."""
        for found in self._code.run.finditer(self._held):
            ends = found.end() == len(self._held) and not last
            if decoded(self._code, found[0], not ends)[1] >= MORE:
                self._inside, self._credit, self._unjudged = True, MORE, ("", "", 0.0)
                return self._release(found.start())
            if ends and len(found[0]) < _TAIL:
                return self._release(found.start())
        return self._release(len(self._held) if last else max(0, len(self._held) - _TAIL))
