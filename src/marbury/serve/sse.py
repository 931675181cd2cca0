"""Server-sent events: bytes, cut anywhere, to the data of whole events."""

from marbury.errors import ModelError


class EventParser:
    """Gives the data of each event as soon as its blank line has arrived. Works on bytes, so a cut inside a
    character does not matter; comments and every field but `data` are skipped.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max = max_event_bytes
        self._rest = b""  # a line whose end has not arrived
        self._data: list[bytes] = []  # the data lines of an event whose blank line has not arrived
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The data of the events that are complete now.

        Raises:
            ModelError: an event is longer than it may be.
        """
        lines = (self._rest + data).splitlines(keepends=True)
        # A lone CR at the end may be half of a CRLF, so it waits for what follows.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        events = self._events(lines)
        self._bound()
        return events

    def close(self) -> list[bytes]:
        """The stream has ended: the data of an event that lacks nothing but its blank line."""
        lines, self._rest = [self._rest, b"\n"], b""
        return self._events(lines)

    def _bound(self) -> None:
        if self._size + len(self._rest) > self._max:
            raise ModelError(f"the upstream sent an event of more than {self._max} bytes")

    def _events(self, lines: list[bytes]) -> list[bytes]:
        events = []
        for line in lines:
            line = line.rstrip(b"\r\n")
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
                self._size += len(line)
                self._bound()
            elif not line and self._data:
                events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data, self._size = [], 0
        return events
