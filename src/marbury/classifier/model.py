"""The classifier: a causal language model with a linear value head per side.

On every token a head gives one logit for the harm of the whole text and one per restricted category. It reads the
state of the last layer, or those of all layers (`reads`). A layout `separate` has two classifiers of one side each,
`shared` one classifier with both heads. Saved and loaded as any transformers model; the base's own configuration
travels inside.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

import marbury.classifier.backbone  # noqa: F401  (registers marbury-base)
from marbury.scoring import Side

Reads = Literal["last", "all"]


class ClassifierConfig(PreTrainedConfig):  # type: ignore[misc]
    """What a saved classifier says of itself.

    `window` is the smoothing of the output side in tokens. `reads` says what a head sees of a token: "last", the
    state of the last layer, or "all", the states of all layers, each normalised, one after the other.
    """

    model_type = "marbury-classifier"

    def __init__(
        self,
        base: dict[str, Any] | None = None,
        sides: Sequence[Side] = ("input", "output"),
        categories: Sequence[str] = (),
        window: int = 1,
        max_tokens: int = 512,
        constitution: str = "",
        reads: Reads = "last",
        **rest: Any,
    ) -> None:
        self.base = base or {}
        self.sides = list(sides)
        self.categories = list(categories)
        self.window = window
        self.max_tokens = max_tokens
        self.constitution = constitution
        self.reads = reads
        super().__init__(**rest)

    def base_config(self) -> Any:
        """The configuration of the base model."""
        values = dict(self.base)
        return CONFIG_MAPPING[values.pop("model_type")](**values)

    def columns(self) -> dict[Side, slice]:
        """Where the logits of each side stand when those of all sides stand side by side."""
        width = 1 + len(self.categories)
        return {side: slice(number * width, (number + 1) * width) for number, side in enumerate(self.sides)}

    def state_width(self) -> int:
        """How many numbers a head reads of a token."""
        text = self.base_config().get_text_config()
        width: int = text.hidden_size * (text.num_hidden_layers if self.reads == "all" else 1)
        return width


class Classifier(PreTrainedModel):  # type: ignore[misc]
    """A backbone and one linear head per side: logits over (harm, category 1, category 2, ...)."""

    config_class = ClassifierConfig
    base_model_prefix = "backbone"

    def __init__(self, config: ClassifierConfig, backbone: Any = None) -> None:
        super().__init__(config)
        base = config.base_config()
        self.backbone = backbone if backbone is not None else AutoModelForCausalLM.from_config(base)
        width = config.state_width()
        self.heads = nn.ModuleDict({side: nn.Linear(width, 1 + len(config.categories)) for side in config.sides})
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """A head starts at zero: every text is undecided."""
        if module in list(self.heads.values()):
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(
        self, ids_BT: Tensor, cache: Any = None, next_token: bool = False, **rest: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """What the heads read (batch, token, `state_width`). A cache is read and then covers these tokens too.

        With `next_token` there are also the base's own logits (batch, token, vocabulary). Sequences are padded on the
        right, so that the causal mask alone hides the padding. `rest` goes to the base.
        """
        # The whole base makes the logits: its output embeddings alone know nothing of scales, caps and further layers.
        reader = self.backbone if next_token else self.backbone.base_model
        each = next_token or self.config.reads == "all"
        out = reader(input_ids=ids_BT, cache=cache, use_cache=cache is not None, output_hidden_states=each, **rest)
        if self.config.reads == "all":
            # Each layer to mean 0 and variance 1: in most families the states grow from layer to layer.
            layers = [layer_norm(layer.float(), layer.shape[-1:]).to(layer.dtype) for layer in out.hidden_states[1:]]
            states_BTD: Tensor = torch.cat(layers, -1)
        else:
            states_BTD = out.hidden_states[-1] if next_token else out.last_hidden_state
        return (states_BTD, out.logits) if next_token else states_BTD

    def score(self, hidden_BTD: Tensor, side: Side) -> Tensor:
        """Logits (batch, token, 1 + categories) of one side."""
        logits_BTC: Tensor = self.heads[side](hidden_BTD)
        return logits_BTC


def build(
    backbone: Any,
    sides: Sequence[Side],
    categories: Sequence[str],
    window: int,
    max_tokens: int,
    constitution: str,
    reads: Reads = "last",
) -> Classifier:
    """A classifier with fresh heads on a loaded base model."""
    limit = getattr(backbone.config, "max_position_embeddings", None) or max_tokens
    base = {name: value for name, value in backbone.config.to_dict().items() if name != "_name_or_path"}
    config = ClassifierConfig(
        base=base,
        sides=sides,
        categories=categories,
        window=window,
        max_tokens=min(max_tokens, limit),
        constitution=constitution,
        reads=reads,
    )
    return Classifier(config, backbone)


@torch.no_grad()
def count_parameters(model: Classifier) -> tuple[int, int]:
    """How many parameters there are, and how many of them are trained."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


AutoConfig.register(ClassifierConfig.model_type, ClassifierConfig)
AutoModel.register(ClassifierConfig, Classifier)
