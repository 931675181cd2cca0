"""Decoded readings of a text that is still growing.

Every few characters the last hundred or so are read in all codes; a code that is found opens a *view*, and from
there on its text is decoded as it comes. So each character costs a bounded amount of work and memory, however long
the text. What turns the order round (reversed letters or words, upside-down) can be read only where a line ends.
Not seen at all: one text spread over so many characters that a window of them says too little.
"""

import re
from collections.abc import Iterator

from marbury.views.decoders import Letters, Spans
from marbury.views.find import DEPTH, MOST
from marbury.views.letters import GROWING, Reading, read_growing, read_turning, shifts
from marbury.views.spans import SPANS, read_spans

WINDOW = 160  # characters that a code is found in
STEP = 24  # characters after which the window is read again
LINE = 2_048  # characters after which a line is read as if it ended
IDLE = 256  # characters without anything decoded after which a view ends
_SHORT, _FULL = 40, 240  # a line waits for so many new characters; lines without a finding are kept up to so many
_HALF = 128  # characters after which a gain counts half
_LONGEST = 32  # characters of a unit that has no white space

_UNIT = re.compile(rf"[^\S\n]{{0,{_LONGEST}}}\n|[^\S\n]{{1,{_LONGEST}}}\S{{0,{_LONGEST}}}|\S{{1,{_LONGEST}}}")
_LETTER_CODES = {code.name: code for code in GROWING}
_SPAN_CODES = {code.name: code for code in SPANS}


class _View:
    """One reading that is open: how it is decoded, and the readings of its own text.

    `worth`: the nats that it gained, old ones faded. `idle`: characters since it gained any.
    """

    def __init__(self, number: int, code: str, decoder: Letters | Spans | None, inner: "_Level | None") -> None:
        self.number, self.code, self.decoder, self.inner = number, code, decoder, inner
        self.worth = 0.0
        self.idle = 0

    def pass_by(self, characters: int) -> None:
        """The text has grown."""
        self.worth *= 0.5 ** (characters / _HALF)
        self.idle += characters

    def gain(self, nats: float) -> None:
        """Something was decoded."""
        if nats > 0:
            self.worth += nats
            self.idle = 0


class _Level:
    """One text as it grows, and its readings. `above`: the view whose text it is, and those that this one is in."""

    def __init__(self, stream: "ViewStream", above: tuple[int, ...] = ()) -> None:
        self._stream, self._above = stream, above
        self._window = ""  # the end of the text
        self._fresh = 0  # characters that the window has got since it was read
        self._lines = ""  # text that was not read in the codes that turn it round, or did not say enough yet
        self._unread = 0  # characters of it that are new
        self.open: dict[str, _View] = {}

    def push(self, text: str) -> None:
        """Take more text, unit by unit."""
        for unit in _UNIT.findall(text):
            for view in list(self.open.values()):
                self._feed(view, unit)
            self._window += unit
            self._fresh += len(unit)
            if self._fresh >= STEP:
                self._look()
            self._lines += unit
            self._unread += len(unit)
            if ("\n" in unit and self._unread >= _SHORT) or len(self._lines) >= LINE:
                self._turn()

    def finish(self) -> None:
        """The text is complete."""
        self._look()
        self._turn()
        for view in list(self.open.values()):
            if view.decoder:
                self._say(view, view.decoder.finish())
        for view in list(self.open.values()):
            if view.inner:
                view.inner.finish()

    def _feed(self, view: _View, unit: str) -> None:
        if view.number not in self._stream.open:
            return
        view.pass_by(len(unit))
        if view.decoder:
            text, gain = view.decoder.push(unit)
            view.gain(gain)
            self._say(view, text)
        if view.idle > IDLE + (0 if view.decoder else LINE):
            self._stream.retire(view)

    def _look(self) -> None:
        """Read the window in every code that is not open yet."""
        self._fresh = 0
        self._window = self._window[-WINDOW:]
        for reading in read_growing(self._window) + read_spans(self._window):
            if reading.code not in self.open:
                self._begin(reading)

    def _begin(self, reading: Reading) -> None:
        start = self._window[reading.start :]
        if reading.code in _SPAN_CODES:
            decoder: Letters | Spans = Spans(_SPAN_CODES[reading.code])
            view = self._enter(reading, decoder)
            if view:
                self._say(view, decoder.push(start)[0])
        else:
            view = self._enter(reading, Letters(_LETTER_CODES.get(reading.code) or shifts()[reading.code]))
            if view:
                self._say(view, reading.text[reading.start :])

    def _turn(self) -> None:
        """Read the lines that have ended in the codes that turn them round. Short ones wait for more evidence."""
        lines, self._unread = self._lines, 0
        found = read_turning(lines, self.open)
        if found or len(lines) >= _FULL:
            self._lines = ""
        for reading in found:
            view = self.open.get(reading.code)
            if view:
                view.gain(reading.gain)
            else:
                view = self._enter(reading, None)
            if view:
                self._say(view, reading.text[reading.start :])

    def _enter(self, reading: Reading, decoder: Letters | Spans | None) -> _View | None:
        """Open a view; None where others that are open are worth more."""
        if not self._stream.has_room(reading.gain, self._above):
            return None
        number = self._stream.number()
        above = (*self._above, number)
        inner = _Level(self._stream, above) if len(above) < DEPTH else None
        view = self.open[reading.code] = _View(number, reading.code, decoder, inner)
        view.gain(reading.gain)
        self._stream.enter(self, view)
        return view

    def _say(self, view: _View, text: str) -> None:
        if text and view.number in self._stream.open:
            self._stream.said.append((view.number, text))
            if view.inner:
                view.inner.push(text)


class ViewStream:
    """The readings of one text, each with a number of its own. At most 4 are open; a better one takes the place of
    the one that is worth least.

    What comes out depends on where the pieces end that are pushed: push them as a `PieceCutter` cuts them, and it
    does not depend on how the text arrived.
    """

    def __init__(self) -> None:
        self.said: list[tuple[int, str]] = []
        self._numbers = 0
        self._open: dict[int, tuple[_Level, _View]] = {}
        self._top = _Level(self)

    @property
    def open(self) -> frozenset[int]:
        """The numbers of the views that may still grow."""
        return frozenset(self._open)

    def push(self, text: str) -> list[tuple[int, str]]:
        """Take a piece; give what it adds to the views, in order."""
        self._top.push(text)
        return self._taken()

    def finish(self) -> list[tuple[int, str]]:
        """The text is complete: give what could be read only now."""
        self._top.finish()
        self._open.clear()
        return self._taken()

    def _taken(self) -> list[tuple[int, str]]:
        said, self.said = self.said, []
        return said

    # What the levels call.

    def number(self) -> int:
        """A number that no view had."""
        self._numbers += 1
        return self._numbers

    def has_room(self, gain: float, above: tuple[int, ...]) -> bool:
        """Whether a view of this gain may open; ends the one that has to go for it, which is none of those above."""
        if len(self._open) < MOST:
            return True
        others = [view for number, (_, view) in self._open.items() if number not in above]
        least = min(others, key=lambda view: view.worth, default=None)
        if least is None or least.worth >= gain:
            return False
        self.retire(least)
        return True

    def enter(self, level: _Level, view: _View) -> None:
        """A view begins."""
        self._open[view.number] = level, view

    def retire(self, view: _View) -> None:
        """A view ends, and all views of its own text with it."""
        found = self._open.pop(view.number, None)
        if found:
            found[0].open.pop(view.code, None)
        for inner in _inside(view):
            self.retire(inner)


def _inside(view: _View) -> Iterator[_View]:
    yield from list(view.inner.open.values()) if view.inner else ()
