"""The `Scorer` on classifiers: one step per token with a memory, many streams in one step.

What computes is an engine: a kernel on the CPU for the small bases that it fits, torch for every other. A request is
read once; each reply to it goes on from a copy of its memory, and what both have read is kept for the conversation's
next turn. A stream holds its request's memory and its own, of at most `max_tokens` each, until it is closed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Self

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from marbury.classifier.context import Logits, Reads, read_together
from marbury.classifier.encoding import Encoder
from marbury.classifier.engine import Engine
from marbury.classifier.model import Classifier
from marbury.classifier.prefixes import Prefixes
from marbury.classifier.reply import Part, StreamReading, StreamReply, only
from marbury.classifier.torch_engine import TorchEngine
from marbury.errors import SettingsError, WorkspaceError
from marbury.records import Message
from marbury.scoring import Score, Side

EngineName = Literal["auto", "kernel", "torch"]
Precision = Literal["int8", "fp32"]
PREFIX_MB = 256


class StreamScorer:
    """The classifiers of a run folder, ready to read. Not for two threads at once.

    `engine`: what computes; auto takes the kernel where it fits. `precision`: of the kernel. `prefix_mb`: what may
    be kept of conversations for their next turn and for those that begin alike, in MiB; 0 keeps nothing. `device`:
    of torch; None: where the weights are.
    """

    def __init__(
        self,
        parts: dict[Side, tuple[Classifier, Encoder]],
        engine: EngineName = "auto",
        precision: Precision = "int8",
        prefix_mb: int = PREFIX_MB,
        device: str | None = None,
    ) -> None:
        made: dict[int, Part] = {}
        models = {id(model): (model, encoder) for model, encoder in parts.values()}
        for number, (model, encoder) in models.items():
            kept = Prefixes((prefix_mb << 20) // len(models))
            made[number] = Part(model, encoder, choose_engine(model, engine, precision, device), kept)
        self._parts: dict[Side, Part] = {side: made[id(model)] for side, (model, _) in parts.items()}

    @classmethod
    def load(
        cls,
        folder: Path,
        threads: int | None = None,
        engine: EngineName = "auto",
        precision: Precision = "int8",
        prefix_mb: int = PREFIX_MB,
        device: str | None = None,
    ) -> Self:
        """The classifiers that `train` saved. `threads`: how many this process gives to torch; None: its own choice.

        `device` is torch's; None: a GPU if there is one.

        Raises:
            WorkspaceError: there are none, a side is missing, or a file is missing or damaged.
            SettingsError: the engine cannot compute these classifiers.
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
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(parts, engine, precision, prefix_mb, device)

    @property
    def categories(self) -> tuple[str, ...]:
        """The restricted categories, in the order of the scores."""
        return tuple(self._parts["output"].model.config.categories)

    @property
    def constitution(self) -> str:
        """The version of the constitution that the classifiers were trained for."""
        version: str = self._parts["output"].model.config.constitution
        return version

    def part(self, side: Side) -> Part:
        """What reads for one side."""
        return self._parts[side]

    def read(self, messages: Sequence[Message]) -> StreamReading:
        """Read a request: all messages before the reply."""
        return only(self.read_all([messages]))

    def read_all(self, requests: Sequence[Sequence[Message]]) -> list[StreamReading | Exception]:
        """Read many requests side by side; one that fails gives its failure and stops no other."""
        reads = [self._read(tuple(messages)) for messages in requests]
        return read_together(self._parts["input"].engine, reads)

    def push_all(self, pushes: Sequence[tuple[StreamReply, str | None]]) -> list[list[Score] | Exception]:
        """Push text to many replies side by side, or finish them with None: what each `push` would give.

        One that fails gives its failure and stops no other. No reply may occur twice.
        """
        return read_together(self._parts["output"].engine, [reply.advance(text) for reply, text in pushes])

    def _read(self, messages: tuple[Message, ...]) -> Reads[StreamReading]:
        """The score is the highest over the ends of all turns, and over where a context had to begin again."""
        part, output = self._parts["input"], self._parts["output"]
        ids, ends = part.encoder.request(messages)
        marker = part.encoder.markers["assistant"]
        context = part.context()
        seen: list[Logits] = []

        def peek() -> Reads[None]:
            seen.append((yield from context.peek(marker))[-1])

        logits = yield from context.extend(ids, peek)
        context.remember()
        columns = np.stack([*seen, *(logits[end] for end in ends)])[:, part.engine.columns["input"]]
        harm, *categories = columns[int(columns[:, 0].argmax())].tolist()
        score = Score(sum(len(message.content) for message in messages), harm, tuple(categories))
        if part is output:
            return StreamReading(output, messages, score, context)
        context.close()
        return StreamReading(output, messages, score, None)


def choose_engine(model: Classifier, engine: EngineName, precision: Precision, device: str | None = None) -> Engine:
    """What computes a classifier.

    Raises:
        SettingsError: the engine that is asked for cannot compute it.
    """
    from marbury.classifier.kernel import KernelEngine  # late: numba takes a second, and other bases do without

    if engine == "kernel" or (engine == "auto" and KernelEngine.fits(model)):
        try:
            return KernelEngine.of(model, precision)
        except ValueError as error:
            raise SettingsError(f"engine kernel: {error}; take engine torch or auto") from error
    try:
        return TorchEngine(model if device is None else model.to(device))
    except ValueError as error:
        raise SettingsError(f"engine torch: {error}") from error


def _load_part(place: Path) -> tuple[Classifier, Encoder]:
    model, report = Classifier.from_pretrained(place, output_loading_info=True)
    if report["missing_keys"]:  # transformers would make them up, and the guard would open
        raise ValueError(f"no weights for {', '.join(sorted(report['missing_keys']))}")
    return model, Encoder(AutoTokenizer.from_pretrained(place))
