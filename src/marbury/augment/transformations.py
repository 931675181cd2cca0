"""The table of all transformations: what there is, in which order steps follow each other, how often they are drawn."""

from collections.abc import Iterable, Mapping

from marbury.augment import templates
from marbury.augment.agreements import agreements
from marbury.augment.editing import Transformation
from marbury.augment.encodings import encodings
from marbury.augment.layouts import layouts
from marbury.augment.lengths import lengths
from marbury.augment.templates import Template
from marbury.split import is_held_out

Steps = Mapping[str, Transformation]

# In a chain a place occurs once, and steps go from the letters of the request outwards.
PLACES = {
    "noise": 0,
    "cipher": 1,
    "cipher-part": 1,
    "reply-cipher": 1,
    "cipher-both": 1,
    "agreed": 1,
    "template": 2,
    "wrapper": 2,
    "attack": 2,
    "invite": 2,
    "lesson": 2,
    "pad": 3,
    "long": 3,
    "turns": 4,
    "system": 5,
    "many-shot": 6,
    "splice": 6,
}

# How often a kind is drawn; within a kind all steps are equally likely. Framing and wrapping weigh most, because no
# decoder can undo them.
WEIGHTS = {
    "noise": 2,
    "cipher": 2,
    "cipher-part": 1,
    "reply-cipher": 1,
    "cipher-both": 1,
    "agreed": 3,
    "template": 5,
    "wrapper": 4,
    "attack": 5,
    "invite": 1,
    "lesson": 3,
    "pad": 2,
    "long": 3,
    "turns": 2,
    "system": 2,
    "many-shot": 2,
    "splice": 2,
}


def all_steps(attacks: Iterable[Template] = ()) -> dict[str, Transformation]:
    """Every transformation by its name; `attacks` are templates that red-teaming found."""
    found = [
        *encodings(),
        *agreements(),
        *layouts(),
        *lengths(),
        *templates.as_transformations("template", templates.bundled("template")),
        *templates.as_transformations("wrapper", templates.bundled("wrapper")),
        *templates.as_transformations("attack", attacks),
    ]
    return {step.name: step for step in found}


def divide(steps: Steps) -> tuple[dict[str, Transformation], dict[str, Transformation]]:
    """The steps that training may use, and those that are held out for the test."""
    known = {name: step for name, step in steps.items() if not is_held_out(name)}
    return known, {name: step for name, step in steps.items() if is_held_out(name)}
