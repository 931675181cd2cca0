"""Chains: one to three steps after each other, drawn from a seed, checked, recorded and repeatable."""

from random import Random

import msgspec

from marbury.augment.editing import Pool, Transformation
from marbury.augment.transformations import PLACES, WEIGHTS, Steps
from marbury.errors import DataError
from marbury.records import Example

Chain = tuple[str, ...]

_LENGTH_WEIGHTS = (5, 3, 2)  # one step, two, three
_ATTEMPTS = 20


class Deck:
    """Steps sorted for drawing: by place in the chain, then by kind."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.kinds: dict[str, list[Transformation]] = {}
        for step in steps.values():
            self.kinds.setdefault(step.kind, []).append(step)
        # A kind with a step or two must not fill the data with them.
        self.weights = {kind: min(WEIGHTS[kind], len(members)) for kind, members in self.kinds.items()}

    def draw(self, random: Random, max_steps: int) -> Chain:
        """The names of one chain in their order; at most one step for each place."""
        left = list(self.kinds)
        chain: list[str] = []
        for _ in range(random.choices(range(1, max_steps + 1), _LENGTH_WEIGHTS[:max_steps])[0]):
            if not left:
                break
            kind = random.choices(left, [self.weights[kind] for kind in left])[0]
            chain.append(random.choice(self.kinds[kind]).name)
            left = [other for other in left if PLACES[other] != PLACES[kind]]
        return tuple(sorted(chain, key=lambda name: PLACES[name.partition(":")[0]]))


def replay(example: Example, chain: Chain, number: int, steps: Steps, pool: Pool, seed: int) -> Example | None:
    """The row that a chain makes from an example; None where a step does not fit or changes nothing.

    The same arguments give the same row, whenever and wherever.

    Raises:
        DataError: the chain names a step that is not there.
    """
    if not example.request or example.request[-1].role != "user":
        return None
    name = f"{example.id}~{number}"
    row = example
    for place, step in enumerate(chain):
        if step not in steps:
            raise DataError(f"row {name}: no transformation {step!r}; run `marbury augment` again")
        changed = steps[step].apply(row, Random(f"{seed}:{name}:{place}:{step}"), pool)
        if changed is None or changed.request == row.request and changed.reply in (None, row.reply):
            return None
        row = changed
    return msgspec.structs.replace(row, id=name, origin=example.id, chain=chain)


def fits(row: Example, max_characters: int) -> bool:
    """Whether a row is neither too long nor has an empty turn."""
    if any(not message.content.strip() for message in row.messages):
        return False
    return sum(len(message.content) for message in row.messages) <= max_characters


def compose(
    example: Example, number: int, deck: Deck, pool: Pool, *, seed: int, max_steps: int, max_characters: int
) -> Example | None:
    """One variant of an example; None when no chain that was tried fits."""
    if not deck.steps:
        return None
    random = Random(f"{seed}:{example.id}~{number}")
    for _ in range(_ATTEMPTS):
        row = replay(example, deck.draw(random, max_steps), number, deck.steps, pool, seed)
        if row is not None and fits(row, max_characters):
            return row
    return None
