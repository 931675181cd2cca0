"""The decoded readings of a whole text, codes within codes included.

Every code is tried on the text, then on what came out, three deep. A reading is kept for its gain in nats: how much
more probable it is as language than the text it came from. Knows no model and no message.
"""

from dataclasses import dataclass

from marbury.views.letters import Reading, read_growing, read_turning
from marbury.views.spans import read_spans

DEPTH = 3
MOST = 4
HEAD, TAIL = 49_152, 16_384  # characters that are looked at in a longer text


@dataclass(frozen=True)
class View:
    """One decoded reading, and the codes that were undone for it, outermost first."""

    codes: tuple[str, ...]
    text: str


def views(text: str) -> tuple[View, ...]:
    """The decoded readings of a text, best first: at most 4, together at most twice as long as the text.

    Of a text beyond 65,536 characters the first 49,152 and the last 16,384 are looked at; a view holds these two.
    """
    sample = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]}\n{text[-TAIL:]}"
    found: dict[str, tuple[float, tuple[str, ...]]] = {}
    level: list[tuple[float, tuple[str, ...], str]] = [(0.0, (), sample)]
    for _ in range(DEPTH):
        deeper: list[tuple[float, tuple[str, ...], str]] = []
        for gain, codes, part in level:
            for reading in readings(part):
                if reading.text not in found and reading.text != sample:
                    found[reading.text] = gain + reading.gain, (*codes, reading.code)
                    deeper.append((*found[reading.text], reading.text))
        level = sorted(deeper, key=lambda row: -row[0])[:MOST]
    return _best(found, 2 * len(text))


def _best(found: dict[str, tuple[float, tuple[str, ...]]], room: int) -> tuple[View, ...]:
    chosen: list[View] = []
    for text, (_, codes) in sorted(found.items(), key=lambda item: -item[1][0]):
        if len(text) <= room and len(chosen) < MOST:
            room -= len(text)
            chosen.append(View(codes, text))
    return tuple(chosen)


def readings(text: str) -> list[Reading]:
    """The readings of a text, each with one code undone."""
    return read_growing(text) + read_spans(text) + read_turning(text)
