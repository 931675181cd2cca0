"""The door of `augment`: from examples to variants of them, each made by a recorded chain of transformations.

Rows for training and validation use transformations and templates that training may know. Rows for the test use
held-out ones alone, plus a known one each, so that both can be measured. Innocent material stays within its split.
"""

import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from marbury.augment import templates
from marbury.augment.chains import Deck, compose
from marbury.augment.editing import Growing, Pool
from marbury.augment.shards import join, make_all
from marbury.augment.templates import Template
from marbury.augment.transformations import all_steps, divide
from marbury.records import Example, Split, read_rows, to_jsonl
from marbury.split import split_of
from marbury.workspace import Counts, Workspace, hash_path, write_atomic

_SPLITS: tuple[Split, ...] = ("train", "valid", "test")


@dataclass(frozen=True)
class AugmentSettings:
    """How many variants are made, and how far they may go from their example."""

    variants: int = 1
    """Variants of every example for training and validation."""
    heldout_variants: int = 2
    """Variants of every test example by held-out transformations."""
    known_variants: int = 1
    """Variants of every test example by transformations that training knows."""
    max_steps: int = 2
    """Most transformations in one chain, 1 to 3."""
    max_characters: int = 4000
    """Longest variant, all turns together."""
    heldout_characters: int = 8000
    """Longest variant by held-out transformations, some of which hide a request or a reply in length."""
    seed: int = 0
    """Seed of the chains and of the split; `dataset` must use the same."""

    processes: int = 1
    """Processes that make variants; the output is the same for any number."""

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError("processes must be at least 1")
        for name in ("variants", "heldout_variants", "known_variants"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        if not 1 <= self.max_steps <= 3:
            raise ValueError("max_steps must be 1, 2 or 3")
        for name in ("max_characters", "heldout_characters"):
            if getattr(self, name) < 200:
                raise ValueError(f"{name} must be at least 200")


@dataclass(frozen=True)
class Decks:
    """What variants are drawn from: known and held-out steps, and the innocent material of each split."""

    known: Deck
    held_out: Deck
    pools: dict[Split, Pool]


def decks_of(examples: Iterable[Example], attacks: list[Template], seed: int) -> Decks:
    """The steps, divided, and a pool for each split. Attacks of a held-out family are left out."""
    known, held_out = divide(all_steps(attacks))
    held_out = {name: step for name, step in held_out.items() if step.kind != "attack"}
    growing = {split: Growing(seed) for split in _SPLITS}
    for row in examples:
        growing[split_of(row.pair, seed)].add(row)
    pools = {split: pool.pool() for split, pool in growing.items()}
    return Decks(Deck(known), Deck(held_out), pools)


def variants_of(example: Example, decks: Decks, settings: AugmentSettings) -> Iterator[Example | None]:
    """The variants of one example, numbered from 1; None stands for one that could not be made."""
    split = split_of(example.pair, settings.seed)
    plan = [decks.known] * settings.variants
    if split == "test":
        plan = [decks.held_out] * settings.heldout_variants + [decks.known] * settings.known_variants
    for number, deck in enumerate(plan, 1):
        yield compose(
            example,
            number,
            deck,
            decks.pools[split],
            seed=settings.seed,
            max_steps=settings.max_steps,
            max_characters=settings.heldout_characters if deck is decks.held_out else settings.max_characters,
        )


@dataclass(frozen=True)
class _Make:
    decks: Decks
    settings: AugmentSettings

    def __call__(self, example: Example) -> Iterator[Example | None]:
        return variants_of(example, self.decks, self.settings)


def maker(source: Path, attacks: list[Template], settings: AugmentSettings) -> _Make:
    """What makes the variants of an example, built again in another process."""
    return _Make(decks_of(read_rows(source, Example), attacks, settings.seed), settings)


def _begin(folder: Path, source: Path, attacks: list[Template], settings: AugmentSettings) -> None:
    """Keep the shards of a broken run only where the same input and settings made them."""
    code = [hash_path(path) for path in sorted(Path(__file__).parent.glob("*.py"))]  # a changed step makes other rows
    known = (hash_path(source), to_jsonl(attacks), replace(settings, processes=1), code)
    key = hashlib.sha256(repr(known).encode()).hexdigest().encode()
    mark = folder / "key"
    if not mark.exists() or mark.read_bytes() != key:
        shutil.rmtree(folder, ignore_errors=True)
        write_atomic(mark, key)


def run(ws: Workspace, settings: AugmentSettings) -> Counts:
    """Make the variants of all examples.

    Raises:
        WorkspaceError: there are no examples yet.
        DataError: an example or a template is malformed.
    """
    source = ws.need(ws.examples, "synth")
    attacks = templates.load(ws.attacks) if ws.attacks.exists() else []
    decks = decks_of(read_rows(source, Example), attacks, settings.seed)
    arguments = (source, attacks, settings)
    folder = ws.variants.with_name(f"{ws.variants.stem}.shards")
    _begin(folder, source, attacks, settings)
    total: Counter[str] = Counter()
    for counts in make_all(source, folder, _Make(decks, settings), maker, arguments, settings.processes):
        total.update(counts)
    join(folder, ws.variants)
    shutil.rmtree(folder)
    return {
        **{name: total[name] for name in ("examples", "variants", "held_out", "not_fitting")},
        "known_transformations": len(decks.known.steps),
        "held_out_transformations": len(decks.held_out.steps),
        "attacks": len(attacks),
        "attacks_left_out": len(attacks) - len(decks.known.kinds.get("attack", ())),
    }
