"""marbury-base: all-MiniLM-L6-v2 made causal and adapted, as an ordinary transformers model with packed weights.

The architecture is BERT's with a causal mask and a longer table of positions. Weights travel as int8 with one scale a
row (23 MB in place of 91); `from_pretrained` unpacks them, so that whoever loads the model sees fp32 weights.
"""

from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, BertConfig, BertLMHeadModel, BertModel

WEIGHTS = "model.safetensors"
SCALE = ".scale"  # added to a weight's name: the scales of its rows


class MarburyBaseConfig(BertConfig):  # type: ignore[misc]
    """The configuration of marbury-base: BERT's, read from left to right."""

    model_type = "marbury-base"

    def __init__(self, is_decoder: bool = True, **values: Any) -> None:
        super().__init__(is_decoder=is_decoder, **values)


def pack(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every matrix as int8 (rows, columns) and its scales (rows,) in fp32: w = int8 * scale. Vectors stay fp32."""
    packed: dict[str, Tensor] = {}
    for name, weight in weights.items():
        if weight.dim() != 2:
            packed[name] = weight.float().contiguous()
            continue
        scale_R = weight.float().abs().amax(1).clamp(min=1e-12) / 127
        packed[name] = (weight.float() / scale_R[:, None]).round().to(torch.int8).contiguous()
        packed[name + SCALE] = scale_R
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The fp32 weights that `pack` has packed. Weights that are not packed stay as they are."""
    return {
        name: weight.float() * packed[name + SCALE][:, None] if name + SCALE in packed else weight
        for name, weight in packed.items()
        if not name.endswith(SCALE)
    }


class _Packed:
    """Loads a folder with packed weights as if they had been saved in fp32."""

    @classmethod
    def from_pretrained(cls, source: Any, *args: Any, config: Any = None, **rest: Any) -> Self:
        """As transformers does it. Raises OSError or SafetensorError for a folder without whole weights."""
        place = Path(source) / WEIGHTS if source is not None else None
        if place is None or not place.is_file() or rest.get("state_dict") is not None:
            model: Self = super().from_pretrained(source, *args, config=config, **rest)  # type: ignore[misc]
            return model
        weights = load_file(place)
        if not any(name.endswith(SCALE) for name in weights):
            model = super().from_pretrained(source, *args, config=config, **rest)  # type: ignore[misc]
            return model
        config = config if config is not None else MarburyBaseConfig.from_pretrained(source)
        model = super().from_pretrained(None, *args, config=config, state_dict=unpack(weights), **rest)  # type: ignore[misc]
        return model


class MarburyBaseModel(_Packed, BertModel):  # type: ignore[misc]
    """The backbone without a language-model head: states (batch, token, width)."""

    config_class = MarburyBaseConfig
    _keys_to_ignore_on_load_unexpected = (r"^cls\.",)  # a folder with the head is no reason for a report

    def __init__(self, config: MarburyBaseConfig, add_pooling_layer: bool = False) -> None:
        super().__init__(config, add_pooling_layer)


class MarburyBaseForCausalLM(_Packed, BertLMHeadModel):  # type: ignore[misc]
    """The backbone with next-token logits; the output embeddings are the input embeddings."""

    config_class = MarburyBaseConfig


def save_packed(model: MarburyBaseForCausalLM, folder: Path) -> None:
    """Write configuration and packed weights."""
    folder.mkdir(parents=True, exist_ok=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    tied = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    weights = {name: weight for name, weight in model.state_dict().items() if name not in tied}
    save_file(pack(weights), folder / WEIGHTS, metadata={"format": "pt"})


AutoConfig.register(MarburyBaseConfig.model_type, MarburyBaseConfig)
AutoModel.register(MarburyBaseConfig, MarburyBaseModel)
AutoModelForCausalLM.register(MarburyBaseConfig, MarburyBaseForCausalLM)
