"""From a conversation to tokens, the same way for whole texts and for streams.

Text is cut into *pieces* by a rule that looks at no more than the piece itself (white space, then at most 32
characters without white space; an ideograph or kana ends a piece), and each piece is tokenised alone. So
tokenising a stream gives exactly the tokens of the whole text for every tokenizer, and at most one piece is
ever held back. Special tokens written in a text are read as text, so nobody can type what opens a turn. A piece
that nobody can read (`views/readable.py`) is followed by a reserved token, where the vocabulary has one.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, normalizers, pre_tokenizers

from marbury.records import Message, Role
from marbury.views.readable import WIDE, is_unreadable

MAX_PIECE = 32
MAX_SPACE = 16
_PIECE = re.compile(
    rf"\s{{{MAX_SPACE}}}|\s{{0,{MAX_SPACE - 1}}}(?:[{WIDE}]|[^\s{WIDE}]{{1,{MAX_PIECE}}})|\s{{1,{MAX_SPACE - 1}}}"
)
_ENDED = re.compile(rf"\s{{{MAX_SPACE}}}|\s*(?:[{WIDE}]|[^\s{WIDE}]{{{MAX_PIECE}}})")
_ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")
_RESERVED: dict[Role, str] = {role: f"[unused{number}]" for number, role in enumerate(_ROLES, 1)}  # BERT's
# Special tokens with which chat models open a turn, and what stands after the role's name.
_OPENINGS = {
    "<|im_start|>": "\n",
    "<|start_header_id|>": "<|end_header_id|>",
    "<start_of_turn>": "\n",
    "<|turn>": "\n",
    "<|start_of_role|>": "<|end_of_role|>",
    "<|header_start|>": "<|header_end|>",
    "<|start|>": "<|message|>",
}
_NAMES: dict[str, dict[Role, str]] = {name: {"assistant": "model"} for name in ("<start_of_turn>", "<|turn>")}
TURNS: dict[Role, str] = {role: f"<|{role}|>" for role in _ROLES}  # special tokens where a base has none of these
_UNREADABLE = "[unused5]"
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


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Names and numbers of what is no text in a tokenizer."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    named = {str(token): number for number, token in added.items() if token.special}
    return named | {str(tokenizer.convert_ids_to_tokens(number)): number for number in tokenizer.all_special_ids}


def opening(tokenizer: Any) -> str | None:
    """The special token with which the base's own chat format opens a turn; None where it has none that is known."""
    special = special_tokens(tokenizer)
    return next((name for name in _OPENINGS if name in special), None)


def reserves_turns(tokenizer: Any) -> bool:
    """Whether the vocabulary has tokens that mark turns and that nobody can type."""
    vocabulary, special = tokenizer.get_vocab(), special_tokens(tokenizer)
    reserved = set(_RESERVED.values()) <= vocabulary.keys()
    return reserved or opening(tokenizer) is not None or set(TURNS.values()) <= special.keys()


def reserve_turns(tokenizer: Any) -> list[int]:
    """Add what marks turns to a tokenizer that has nothing for it; gives the numbers that are new."""
    if reserves_turns(tokenizer):
        return []
    before = set(tokenizer.get_vocab().values())
    marks = [AddedToken(name, special=True, normalized=False) for name in TURNS.values()]
    tokenizer.add_tokens(marks, special_tokens=True)
    return sorted(set(tokenizer.get_vocab().values()) - before)


def _text_only(backend: Any) -> Any:
    """A copy of a fast tokenizer that takes all for text and adds nothing: no space in front, no padding, no cutting.

    A copy, because whoever calls the tokenizer itself sets padding, cutting and special tokens anew.
    """
    backend = copy.deepcopy(backend)
    backend.encode_special_tokens = True  # "[SEP]" typed by a user is text
    backend.no_padding()
    backend.no_truncation()
    # A space in front of every text would stand in front of every piece, of every ideograph too.
    steps = _parts(backend.normalizer)
    kept = [step for step in steps if not isinstance(step, normalizers.Prepend)]
    if len(kept) < len(steps):
        backend.normalizer = normalizers.Sequence(kept)
    for part in _parts(backend.pre_tokenizer):
        for name, nothing in (("prepend_scheme", "never"), ("add_prefix_space", False)):
            if hasattr(part, name):
                setattr(part, name, nothing)
    return backend


def _parts(of: Any) -> list[Any]:
    """The parts of a sequence of normalizers or pre-tokenizers, or the only one."""
    if isinstance(of, normalizers.Sequence | pre_tokenizers.Sequence):
        inner: Iterable[Any] = of  # type: ignore[assignment]  # by their numbers, which mypy does not know
        return [part for one in inner for part in _parts(one)]
    return [of]


class Encoder:
    """Tokenises pieces and conversations for one tokenizer.

    Raises ValueError for one without words, and for one without tokens that mark turns (`reserve_turns` adds them).
    """

    def __init__(self, tokenizer: Any) -> None:
        check_vocabulary(tokenizer)
        if not reserves_turns(tokenizer):
            raise ValueError("its tokenizer has no tokens that mark turns")
        self.tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._backend = None if backend is None else _text_only(backend)
        self._special = set(special_tokens(tokenizer).values()) - {tokenizer.unk_token_id}
        self._cache: dict[str, tuple[int, ...]] = {}
        mark = tokenizer.get_vocab().get(_UNREADABLE)
        self.unreadable: tuple[int, ...] = () if mark is None else (mark,)
        self.start: tuple[int, ...] = tuple(
            t
            for t in [tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.cls_token_id]
            if t is not None
        )
        self.markers: dict[Role, tuple[int, ...]] = self._make_markers()
        self._special |= {marker[0] for marker in self.markers.values()} | set(self.unreadable)
        self._cache.clear()  # what was read before the marks were known

    def _make_markers(self) -> dict[Role, tuple[int, ...]]:
        """Tokens that open a turn: reserved words, else a special token each, else as the base's chat format has it.

        Tokens that were added come first, so that a saved classifier keeps them if its base's format becomes known.
        """
        vocabulary, special, opens = self.tokenizer.get_vocab(), special_tokens(self.tokenizer), opening(self.tokenizer)
        markers: dict[Role, tuple[int, ...]] = {}
        for role in _ROLES:
            if set(_RESERVED.values()) <= vocabulary.keys():
                markers[role] = (vocabulary[_RESERVED[role]],)
            elif opens is None or set(TURNS.values()) <= special.keys():
                markers[role] = (special[TURNS[role]],)
            else:
                name, after = _NAMES.get(opens, {}).get(role, role), _OPENINGS[opens]
                closing = (special[after],) if after in special else self.tokens(after)
                markers[role] = (special[opens], *self.tokens(name), *closing)
        markers["developer"] = markers["system"]
        return markers

    def tokens(self, piece: str) -> tuple[int, ...]:
        """The tokens of one piece; none when the tokenizer sees nothing in it."""
        known = self._cache.get(piece)
        if known is None:
            clean = piece.encode("utf-8", "replace").decode()  # lone surrogates become "?"
            known = self._encode(clean)
            if not self._special.isdisjoint(known):  # Unigram knows "</s>" as a word, but not its letters
                letters = (token for letter in clean for token in self._encode(letter))
                known = tuple(token for token in letters if token not in self._special)
            if self.unreadable and is_unreadable(clean):
                known += self.unreadable
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
