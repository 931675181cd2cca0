"""How the classifiers are trained, and nothing that needs torch."""

from dataclasses import dataclass
from typing import Literal

_POSITIVE = ("epochs", "batch_size", "accumulate", "learning_rate", "head_learning_rate", "lora_rank", "hard_weight")


@dataclass(frozen=True)
class TrainSettings:
    """How the classifiers are trained."""

    base: str = "marbury-base"  # `marbury-base`, `minilm`, or any name or path that AutoModelForCausalLM loads
    layout: Literal["separate", "shared"] = "shared"  # two sets of weights, or one with two heads
    reads: Literal["last", "all"] = "last"  # what a head sees of a token: the last layer's state, or those of all
    tune: Literal["full", "lora", "frozen"] = "full"  # what is trained beside the heads: weights, adapters, nothing
    freeze_layers: int = 3  # lowest layers (and the embeddings, when > 0) that are not trained
    lora_rank: int = 16  # rank of the adapters with `tune = "lora"`; they are merged into the weights at the end
    loss: Literal["prefix", "maximum", "ramp", "softmax"] = "softmax"  # how the output side learns
    balance: Literal["none", "labels", "cells"] = "labels"  # equal weight to each label, or to each plain and augmented
    hard_categories: tuple[str, ...] = ()  # categories whose harmless rows come nearest to harm
    hard_weight: float = 2.0  # how much more a harmless row of these categories weighs
    epochs: float = 2.0  # passes over the data
    batch_size: int = 16  # sequences per step, over all processes
    accumulate: int = 1  # parts in which a step is computed: less memory, the same weights but for rounding
    learning_rate: float = 3e-4  # of the backbone, falling linearly to 0 after a short warm-up
    head_learning_rate: float = 3e-3  # of the value heads
    ntp_weight: float = 0.0  # weight of the next-token loss (a regulariser; needs a base with a language-model head)
    category_weight: float = 0.2  # weight of the category logits beside harm
    max_tokens: int = 384  # longest sequence; longer ones keep head and end
    stop_source: str = ""  # source whose rows say when to stop, or `valid` for the valid split; empty: never
    patience: int = 3  # checks (there are eight) without a better loss after which it ends; 0: never
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # of the products; auto: bf16 on hardware that is made for it
    seed: int = 0  # of the order of the rows, and of weights that the base lacks

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0, not {getattr(self, name)}")
        if self.max_tokens < 32:
            raise ValueError(f"max_tokens must be at least 32, not {self.max_tokens}")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} cannot be divided into {self.accumulate} equal parts")
        if self.ntp_weight and (self.reads == "all" or self.tune == "frozen"):
            raise ValueError('ntp_weight needs reads = "last" and a backbone that is trained')
