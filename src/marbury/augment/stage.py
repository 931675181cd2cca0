"""The door of `augment`: from examples to variants of them, each made by a recorded chain of transformations.

Rows for training and validation use transformations and templates that training may know. Rows for the test use
held-out ones alone, plus a known one each, so that both can be measured. Innocent material stays within its split.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from marbury.augment import templates
from marbury.augment.chains import Deck, compose
from marbury.augment.editing import Pool, pool_of
from marbury.augment.templates import Template
from marbury.augment.transformations import all_steps, divide
from marbury.progress import track
from marbury.records import Example, Split, read_rows, to_jsonl
from marbury.split import is_held_out, split_of
from marbury.workspace import Counts, Workspace, write_atomic

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

    def __post_init__(self) -> None:
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


def decks_of(examples: list[Example], attacks: list[Template], seed: int) -> Decks:
    """The steps, divided, and a pool for each split. Attacks of a held-out family are left out."""
    known, held_out = divide(all_steps(attacks))
    held_out = {name: step for name, step in held_out.items() if step.kind != "attack"}
    pools = {split: pool_of(row for row in examples if split_of(row.pair, seed) == split) for split in _SPLITS}
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


def run(ws: Workspace, settings: AugmentSettings) -> Counts:
    """Make the variants of all examples.

    Raises:
        WorkspaceError: there are no examples yet.
        DataError: an example or a template is malformed.
    """
    examples = list(read_rows(ws.need(ws.examples, "synth"), Example))
    attacks = templates.load(ws.attacks) if ws.attacks.exists() else []
    decks = decks_of(examples, attacks, settings.seed)
    made = [row for example in track(examples, "augment") for row in variants_of(example, decks, settings)]
    rows = [row for row in made if row is not None]
    write_atomic(ws.variants, to_jsonl(rows))
    return {
        "examples": len(examples),
        "variants": len(rows),
        "held_out": sum(is_held_out(row.chain[0]) for row in rows),
        "not_fitting": len(made) - len(rows),
        "known_transformations": len(decks.known.steps),
        "held_out_transformations": len(decks.held_out.steps),
        "attacks": len(attacks),
        "attacks_left_out": len(attacks) - len(decks.known.kinds.get("attack", ())),
    }
