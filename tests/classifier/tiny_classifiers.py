"""Tiny random base models and classifiers of two kinds, made on the spot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tiny_tokenizers import byte_level, wordpiece
from transformers import BertConfig, BertLMHeadModel, LlamaConfig, LlamaForCausalLM

from marbury.classifier.encoding import Encoder
from marbury.classifier.model import Classifier, build
from marbury.scoring import Side

CATEGORIES = ("preparation", "dispersal")
BOTH: tuple[Side, ...] = ("input", "output")


def bert(*, positions: int = 128) -> Any:
    """A two-layer BERT that reads left to right, for the WordPiece tokenizer."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(wordpiece()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.2,  # so small a model is deaf with the usual one
        max_position_embeddings=positions,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        is_decoder=True,
    )
    return BertLMHeadModel(config)


def llama(*, positions: int = 128, tied: bool = True) -> Any:
    """A two-layer Llama with grouped heads, for the byte-level tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(byte_level()),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=32,
        initializer_range=0.2,  # so small a model is deaf with the usual one
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
    )
    return LlamaForCausalLM(config)


BASES = {"bert": bert, "llama": llama}
TOKENIZERS = {"bert": wordpiece, "llama": byte_level}


def save_base(kind: str, folder: Path) -> Path:
    """Save a base model with its tokenizer; gives the folder, which `base` can name."""
    BASES[kind]().save_pretrained(folder)
    TOKENIZERS[kind]().save_pretrained(folder)
    return folder


def classifier(
    kind: str, sides: Sequence[Side] = BOTH, *, window: int = 4, max_tokens: int = 128, seed: int = 1
) -> Classifier:
    """A classifier whose heads say something; seed 0 leaves them at zero."""
    model = build(BASES[kind](), sides, CATEGORIES, window, max_tokens, "v1")
    torch.manual_seed(seed)
    for head in model.heads.values():
        if seed:
            torch.nn.init.normal_(head.weight)  # type: ignore[arg-type]
            torch.nn.init.normal_(head.bias)  # type: ignore[arg-type]
    model.eval()
    return model


def encoder(kind: str) -> Encoder:
    """The encoder that goes with a kind of base."""
    return Encoder(TOKENIZERS[kind]())
