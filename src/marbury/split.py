"""What is for training and what is held out: the one place that decides, by name alone.

A pair of rows goes to one split. A transformation, and a whole family of templates, is used either on training
and validation rows or in the test as something never seen before.
"""

import hashlib

from marbury.records import Split

_TRAIN, _VALID = 0.70, 0.80  # upper edges; what lies above is the test

CIPHER_KINDS = ("cipher", "cipher-part", "reply-cipher", "cipher-both")
TEMPLATE_KINDS = ("template", "wrapper", "attack")

_HELD_OUT_CIPHERS = (
    "base32",
    "decimal",
    "html-entities",
    "rot47",
    "caesar-7",
    "reversed-words",
    "zero-width",
    "mathematical",
    "upside-down",
    "braille",
)

HELD_OUT_TRANSFORMATIONS = frozenset(
    {f"{kind}:{cipher}" for kind in CIPHER_KINDS for cipher in _HELD_OUT_CIPHERS}
    | {
        "agreed:affine",
        "agreed:bacon",
        "agreed:emoji",
        "agreed:first-word",
        "agreed:homophonic",
        "agreed:rails",
        "agreed:spoon",
        "agreed:symbols",
        "agreed:woven",
        "invite:numbers",
        "invite:teach",
        "lesson:crossword",
        "lesson:history",
        "lesson:radio",
        "long:history-6",
        "long:reply-deep",
        "long:reply-far-end",
        "long:reply-scattered",
        "long:request-deep",
        "many-shot:8",
        "many-shot:text-6",
        "noise:no-spaces",
        "noise:no-vowels",
        "noise:upper",
        "pad:around",
        "pad:reply-around",
        "splice:transcript",
        "system:chatml",
        "system:policy",
        "system:transcript",
        "turns:3",
    }
)

# Jailbreak families first, then the honest wrappers that look like them.
HELD_OUT_TEMPLATE_FAMILIES = frozenset(
    {
        "code-data",
        "emotional",
        "fiction",
        "hypothetical",
        "payload-splitting",
        "system-override",
        "code-completion",
        "long-document",
        "role-play-game",
        "translation-job",
    }
)


def split_of(pair: str, seed: int = 0) -> Split:
    """The split of a pair: about 70 % train, 10 % valid, 20 % test."""
    digest = hashlib.sha256(f"{seed}:{pair}".encode("utf-8", "surrogatepass")).digest()
    share = int.from_bytes(digest[:8]) / 2**64
    if share < _TRAIN:
        return "train"
    return "valid" if share < _VALID else "test"


def is_held_out(chain_step: str) -> bool:
    """Whether a step of a chain (`kind:detail`, templates `kind:family/id`) may occur in the test alone."""
    kind, _, detail = chain_step.partition(":")
    if kind in TEMPLATE_KINDS:
        return detail.partition("/")[0] in HELD_OUT_TEMPLATE_FAMILIES
    return chain_step in HELD_OUT_TRANSFORMATIONS
