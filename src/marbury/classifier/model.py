"""The classifier: a causal language model with a linear value head per side.

On every token a head gives one logit for the harm of the whole text and one per restricted category. A layout
`separate` has two classifiers of one side each, `shared` one classifier with both heads. Saved and loaded as any
transformers model; the base's own configuration travels inside.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

import marbury.classifier.backbone  # noqa: F401  (registers marbury-base)
from marbury.scoring import Side


class ClassifierConfig(PreTrainedConfig):  # type: ignore[misc]
    """What a saved classifier says of itself; `window` is the smoothing of the output side in tokens."""

    model_type = "marbury-classifier"

    def __init__(
        self,
        base: dict[str, Any] | None = None,
        sides: Sequence[Side] = ("input", "output"),
        categories: Sequence[str] = (),
        window: int = 1,
        max_tokens: int = 512,
        constitution: str = "",
        **rest: Any,
    ) -> None:
        self.base = base or {}
        self.sides = list(sides)
        self.categories = list(categories)
        self.window = window
        self.max_tokens = max_tokens
        self.constitution = constitution
        super().__init__(**rest)

    def base_config(self) -> Any:
        """The configuration of the base model."""
        values = dict(self.base)
        return CONFIG_MAPPING[values.pop("model_type")](**values)


class Classifier(PreTrainedModel):  # type: ignore[misc]
    """A backbone and one linear head per side: logits over (harm, category 1, category 2, ...)."""

    config_class = ClassifierConfig
    base_model_prefix = "backbone"

    def __init__(self, config: ClassifierConfig, backbone: Any = None) -> None:
        super().__init__(config)
        base = config.base_config()
        self.backbone = backbone if backbone is not None else AutoModelForCausalLM.from_config(base)
        width = base.get_text_config().hidden_size
        self.heads = nn.ModuleDict({side: nn.Linear(width, 1 + len(config.categories)) for side in config.sides})
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """A head starts at zero: every text is undecided."""
        if module in list(self.heads.values()):
            nn.init.zeros_(module.weight)  # type: ignore[arg-type]
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, ids_BT: Tensor, cache: Any = None) -> Tensor:
        """States of the last layer (batch, token, width). A cache is read and then covers these tokens too.

        Sequences are padded on the right, so that the causal mask alone hides the padding.
        """
        out = self.backbone.base_model(input_ids=ids_BT, cache=cache, use_cache=cache is not None)
        states_BTD: Tensor = out.last_hidden_state
        return states_BTD

    def score(self, hidden_BTD: Tensor, side: Side) -> Tensor:
        """Logits (batch, token, 1 + categories) of one side."""
        logits_BTC: Tensor = self.heads[side](hidden_BTD)
        return logits_BTC

    def next_token_logits(self, hidden_BTD: Tensor) -> Tensor:
        """Logits over the vocabulary, through the base's own language-model head."""
        if self.config.base.get("model_type") in {"bert", "marbury-base"}:
            logits_BTV: Tensor = self.backbone.cls(hidden_BTD)
        else:
            logits_BTV = self.backbone.get_output_embeddings()(hidden_BTD)
        return logits_BTV


def build(
    backbone: Any, sides: Sequence[Side], categories: Sequence[str], window: int, max_tokens: int, constitution: str
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
    )
    return Classifier(config, backbone)


@torch.no_grad()
def count_parameters(model: Classifier) -> tuple[int, int]:
    """How many parameters there are, and how many of them are trained."""
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


AutoConfig.register(ClassifierConfig.model_type, ClassifierConfig)
AutoModel.register(ClassifierConfig, Classifier)
