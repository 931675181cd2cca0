"""Which weights of a classifier are trained: all, those of the upper layers, adapters beside them, or none."""

from typing import Any

from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers.pytorch_utils import Conv1D

from marbury.classifier.model import Classifier
from marbury.classifier.settings import TrainSettings


def prepare(model: Classifier, settings: TrainSettings) -> None:
    """Mark what is trained; with LoRA, put adapters beside the matrices of the layers that are not frozen."""
    body = set(model.backbone.base_model.parameters())
    for parameter in model.backbone.parameters():
        if parameter not in body and not settings.ntp_weight:  # a language-model head that nothing teaches
            parameter.requires_grad_(False)
    if settings.tune == "full":
        freeze(model, settings.freeze_layers)
        return
    model.backbone.requires_grad_(False)
    if settings.tune == "lora":
        adapt(model, settings.lora_rank, settings.freeze_layers)


def freeze(model: Classifier, layers: int) -> None:
    """Keep the lowest layers, and with them the embeddings, as they are."""
    if layers <= 0:
        return
    base = model.backbone.base_model
    for part in (base.get_input_embeddings(), *stack(model)[:layers]):
        part.requires_grad_(False)
    embeddings = getattr(base, "embeddings", None)
    if embeddings is not None:
        embeddings.requires_grad_(False)


def stack(model: Classifier) -> nn.ModuleList:
    """The layers of the backbone, lowest first."""
    base = model.backbone.base_model
    count = model.config.base_config().get_text_config().num_hidden_layers
    stacks = [m for m in base.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    assert stacks, f"{type(base).__name__} has no list of {count} layers"
    return stacks[0]


def adapt(model: Classifier, rank: int, frozen: int) -> None:
    """LoRA (arXiv 2106.09685) on every matrix of the layers above the `frozen` lowest ones, scaled by 2.

    Raises:
        ValueError: there is no layer or no matrix left.
    """
    layers = stack(model)
    names = [
        f"{number}.{name}"
        for number, layer in enumerate(layers)
        for name, part in layer.named_modules()
        if number >= frozen and type(part) in (nn.Linear, Conv1D)  # not what is made of one: routers give more
    ]
    if not names:
        raise ValueError(f"no matrix is left to adapt above {frozen} frozen layers")
    # Into the bare list of layers: in a model that it knows as a mixture of experts, peft takes names for others.
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=names), layers)


def merge(model: Classifier) -> None:
    """Add the adapters, if any, to the matrices beside which they stand, so that nothing shows that there were some."""
    adapted = [(name, part) for name, part in model.named_modules() if isinstance(part, BaseTunerLayer)]
    for name, part in adapted:
        layer: Any = part
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
