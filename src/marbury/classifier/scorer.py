"""The `Scorer` on torch: one step per token with a cache, for any base model.

A reply is scored in the context of its request. A context has a limit; when it is full it begins again with the
head of the conversation and its most recent half, so that a stream of any length costs a bounded number of steps a
token and a bounded amount of memory. The rule looks at the tokens alone, so streamed and whole scoring agree.
"""

import copy
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoTokenizer, DynamicCache
from transformers.utils.logging import disable_progress_bar

from marbury.classifier.batches import HEAD
from marbury.classifier.encoding import Encoder, PieceCutter
from marbury.classifier.model import Classifier
from marbury.errors import WorkspaceError
from marbury.records import Message
from marbury.scoring import Score, Side


class Context:
    """A growing token sequence and what the model remembers of it."""

    def __init__(self, model: Classifier, limit: int) -> None:
        self._model, self._limit = model, limit
        self._head: list[int] = []
        self._window: list[int] = []
        self._cache: Any = None

    def extend(self, ids: Sequence[int], before_restart: Callable[[], None] | None = None) -> Tensor:
        """States (token, width) of the new tokens. `before_restart` is called when older tokens are about to go."""
        states, start = [], 0
        while start < len(ids):
            room = self._limit - len(self._window)
            if room <= 0:
                if before_restart is not None:
                    before_restart()
                self._restart()
                continue
            states.append(self._step(ids[start : start + room]))
            start += room
        return torch.cat(states) if states else torch.empty(0, self._model.config.base_config().hidden_size)

    def peek(self, ids: Sequence[int]) -> Tensor:
        """States that these tokens would have now; the context does not change."""
        kept = len(self._window)
        states = self._step(ids)
        del self._window[kept:]
        self._cache.crop(-len(ids))
        return states

    def fork(self) -> "Context":
        """A context of its own with the same past."""
        twin = Context(self._model, self._limit)
        twin._head, twin._window = list(self._head), list(self._window)
        twin._cache = copy.deepcopy(self._cache)
        return twin

    @torch.inference_mode()
    def _step(self, ids: Sequence[int]) -> Tensor:
        if self._cache is None:
            self._cache = DynamicCache(config=self._model.backbone.config)
        device = self._model.device
        states_BTD: Tensor = self._model(torch.tensor([list(ids)], device=device), self._cache)
        self._head += ids[: max(0, HEAD - len(self._head))]
        self._window += ids
        return states_BTD[0]

    def _restart(self) -> None:
        recent = self._window[-(self._limit // 2) :]
        head = self._head[: min(HEAD, self._limit // 4)]
        self._window, self._cache = [], None
        self._step(head + recent)


class TorchReply:
    """Scores one reply token by token."""

    def __init__(self, context: Context, model: Classifier, encoder: Encoder) -> None:
        self._context: Context | None = context
        self._model, self._encoder = model, encoder
        self._cutter = PieceCutter()
        self._recent: deque[Tensor] = deque(maxlen=max(1, model.config.window))
        self._end = 0
        self._last: Score | None = None

    def push(self, text: str) -> list[Score]:
        """Take more text; give the scores of the tokens that no later text can change."""
        return self._score(self._cutter.push(text))

    def finish(self) -> list[Score]:
        """The text is complete: give the scores that were still held back."""
        return self._score(self._cutter.finish())

    def close(self) -> None:
        """Free the cache."""
        self._context = None
        self._recent.clear()

    def _score(self, pieces: list[str]) -> list[Score]:
        if self._context is None or not pieces:
            return []
        groups = [self._encoder.tokens(piece) for piece in pieces]
        states = self._context.extend([token for group in groups for token in group])
        with torch.inference_mode():
            logits = iter(self._model.score(states, "output").float().cpu())
        scores = []
        for piece, group in zip(pieces, groups, strict=True):
            for number in range(len(group)):
                self._recent.append(next(logits))
                end = self._end + len(piece) if number == len(group) - 1 else self._end
                scores.append(self._smooth(end))
            self._end += len(piece)
            if not group:  # nothing in it for the tokenizer: it goes with the last score
                scores.append(Score(self._end, *self._carried()))
        return scores

    def _smooth(self, end: int) -> Score:
        """The mean of the last `window` logits, as the softmax loss trains them."""
        harm, *categories = torch.stack(tuple(self._recent)).mean(0).tolist()
        self._last = Score(end, harm, tuple(categories))
        return self._last

    def _carried(self) -> tuple[float, tuple[float, ...]]:
        return (self._last.harm, self._last.categories) if self._last else (float("-inf"), ())


class TorchReading:
    """A request that has been read."""

    def __init__(self, scorer: "StreamScorer", messages: Sequence[Message]) -> None:
        self._scorer, self._messages = scorer, messages
        self._contexts: dict[int, Context] = {}
        self.score = self._input_score()

    def _input_score(self) -> Score:
        """The highest score over the ends of all turns, and over where a context had to begin again."""
        model, encoder = self._scorer.part("input")
        ids, ends = encoder.request(self._messages)
        marker = encoder.markers["assistant"]
        context = Context(model, model.config.max_tokens - len(marker))
        seen: list[Tensor] = []

        def peek() -> None:
            seen.append(context.peek(marker)[-1])

        states = context.extend(ids, peek)
        seen += [states[end] for end in ends]
        self._contexts[id(model)] = context
        with torch.inference_mode():
            logits = model.score(torch.stack(seen), "input").float().cpu()
        harm, *categories = logits[int(logits[:, 0].argmax())].tolist()
        return Score(sum(len(m.content) for m in self._messages), harm, tuple(categories))

    def reply(self) -> TorchReply:
        """Begin a reply to this request."""
        model, encoder = self._scorer.part("output")
        context = self._contexts.get(id(model))
        if context is None:
            ids, _ = encoder.request(self._messages)
            context = Context(model, model.config.max_tokens - len(encoder.markers["assistant"]))
            context.extend(ids)
            self._contexts[id(model)] = context
        return TorchReply(context.fork(), model, encoder)

    def close(self) -> None:
        """Free the caches."""
        self._contexts.clear()


class StreamScorer:
    """The classifiers of a run folder, ready to read. Not for two threads at once."""

    def __init__(self, parts: dict[Side, tuple[Classifier, Encoder]]) -> None:
        self._parts = parts
        for model, _ in parts.values():
            model.eval()

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> Self:
        """The classifiers that `train` saved. `threads`: how many this process gives to torch; None: its own choice.

        Raises:
            WorkspaceError: there are none, a side is missing, or a file is missing or damaged.
        """
        disable_progress_bar()
        if threads is not None:
            torch.set_num_threads(threads)
        parts: dict[Side, tuple[Classifier, Encoder]] = {}
        for place in sorted(path.parent for path in folder.glob("*/config.json")):
            try:
                part = _load_part(place)
            except (OSError, ValueError, SafetensorError) as error:
                raise WorkspaceError(f"{place}: damaged ({error}): run `marbury train {folder.parent}`") from error
            for side in part[0].config.sides:
                parts[side] = part
        if set(parts) != {"input", "output"}:
            raise WorkspaceError(f"{folder}: no classifier for both sides: run `marbury train {folder.parent}`")
        return cls(parts)

    @property
    def categories(self) -> tuple[str, ...]:
        """The restricted categories, in the order of the scores."""
        return tuple(self._parts["output"][0].config.categories)

    @property
    def constitution(self) -> str:
        """The version of the constitution that the classifiers were trained for."""
        version: str = self._parts["output"][0].config.constitution
        return version

    def part(self, side: Side) -> tuple[Classifier, Encoder]:
        """The classifier and encoder of one side."""
        return self._parts[side]

    def read(self, messages: Sequence[Message]) -> TorchReading:
        """Read a request: all messages before the reply."""
        return TorchReading(self, tuple(messages))


def _load_part(place: Path) -> tuple[Classifier, Encoder]:
    model, report = Classifier.from_pretrained(place, output_loading_info=True)
    if report["missing_keys"]:  # transformers would make them up, and the guard would open
        raise ValueError(f"no weights for {', '.join(sorted(report['missing_keys']))}")
    return model, Encoder(AutoTokenizer.from_pretrained(place))
