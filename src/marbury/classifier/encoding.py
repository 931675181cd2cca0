"""From a conversation to tokens, the same way for whole texts and for streams.

Text is cut into *pieces* by a rule that looks at no more than the piece itself (white space, then at most 32
characters without white space; an ideograph or kana ends a piece), and each piece is tokenised alone. So
tokenising a stream gives exactly the tokens of the whole text for every tokenizer, and at most one piece is
ever held back. Special tokens written in a text are read as text.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

from marbury.records import Message, Role

MAX_PIECE = 32
MAX_SPACE = 16
_WIDE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_PIECE = re.compile(
    rf"\s{{{MAX_SPACE}}}|\s{{0,{MAX_SPACE - 1}}}(?:[{_WIDE}]|[^\s{_WIDE}]{{1,{MAX_PIECE}}})|\s{{1,{MAX_SPACE - 1}}}"
)
_ENDED = re.compile(rf"\s{{{MAX_SPACE}}}|\s*(?:[{_WIDE}]|[^\s{_WIDE}]{{{MAX_PIECE}}})")
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_CACHED_PIECES = 50_000


class PieceCutter:
    """Cuts a growing text into pieces; holds back the last one until nothing can change it."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> list[str]:
        """The pieces that are complete now."""
        held, start, done = self._held + text, 0, []
        while match := _PIECE.match(held, start):
            piece = match.group()
            if match.end() == len(held) and not _ENDED.fullmatch(piece):
                break
            done.append(piece)
            start = match.end()
        self._held = held[start:]
        return done

    def finish(self) -> list[str]:
        """The piece that was held back, if any."""
        last, self._held = self._held, ""
        return [last] if last else []


def cut(text: str) -> list[str]:
    """The pieces of a whole text; joined they are the text."""
    cutter = PieceCutter()
    return cutter.push(text) + cutter.finish()


def check_vocabulary(tokenizer: Any) -> None:
    """Refuse a tokenizer without words: what transformers makes of a folder whose tokenizer file is missing.

    Raises:
        ValueError: every text would be unknown.
    """
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.all_special_ids):
        raise ValueError("its tokenizer has no words: is tokenizer.json missing?")


class Encoder:
    """Tokenises pieces and conversations for one tokenizer. Raises ValueError for one without words."""

    def __init__(self, tokenizer: Any) -> None:
        check_vocabulary(tokenizer)
        self.tokenizer = tokenizer
        # A copy, because whoever calls the tokenizer itself sets all three anew.
        backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", None))
        if backend is not None:
            backend.encode_special_tokens = True  # "[SEP]" typed by a user is text
            backend.no_padding()
            backend.no_truncation()
        self._backend = backend
        self._special = {token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id}
        self._cache: dict[str, tuple[int, ...]] = {}
        self.start: tuple[int, ...] = tuple(
            t
            for t in [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id]
            if t is not None
        )
        self.markers: dict[Role, tuple[int, ...]] = self._make_markers()

    def _make_markers(self) -> dict[Role, tuple[int, ...]]:
        """Tokens that open a turn: reserved ones where the vocabulary has them, else a line of text."""
        markers: dict[Role, tuple[int, ...]] = {}
        vocabulary = self.tokenizer.get_vocab()
        for number, role in enumerate(_ROLES, 1):
            reserved = vocabulary.get(f"[unused{number}]")
            markers[role] = (reserved,) if reserved is not None else self.tokens(f"\n\n[{role}]\n")
        markers["developer"] = markers["system"]
        return markers

    def tokens(self, piece: str) -> tuple[int, ...]:
        """The tokens of one piece; none when the tokenizer sees nothing in it."""
        known = self._cache.get(piece)
        if known is None:
            clean = piece.encode("utf-8", "replace").decode()  # lone surrogates become "?"
            known = self._encode(clean)
            if not self._special.isdisjoint(known):  # Unigram knows "</s>" as a word, but not its letters
                known = tuple(token for letter in clean for token in self._encode(letter))
            if len(self._cache) >= _CACHED_PIECES:
                self._cache.clear()
            self._cache[piece] = known
        return known

    def _encode(self, text: str) -> tuple[int, ...]:
        if self._backend is not None:
            return tuple(self._backend.encode(text, add_special_tokens=False).ids)
        return tuple(self.tokenizer.encode(text, add_special_tokens=False))

    def text(self, text: str) -> list[int]:
        """The tokens of a whole text."""
        return [token for piece in cut(text) for token in self.tokens(piece)]

    def request(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """The tokens of a request up to where the reply begins, and the positions of each turn's end.

        A turn ends at the last token of the marker that opens the next one; the request's own score is read
        at the marker that opens the reply, the last position.
        """
        ids, ends = list(self.start), []
        for number, message in enumerate(messages):
            ids += self.markers[message.role]
            if number:
                ends.append(len(ids) - 1)
            ids += self.text(message.content)
        ids += self.markers["assistant"]
        ends.append(len(ids) - 1)
        return ids, ends


def flatten(groups: Iterable[Iterable[int]]) -> list[int]:
    """Token groups as one list."""
    return [token for group in groups for token in group]
