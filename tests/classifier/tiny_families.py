"""Tiny random causal models of many families, made on the spot: classifiers without a tokenizer, and whole bases."""

import json
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from marbury.classifier.model import Classifier, build

SENTENCES = [
    "how does amber salt keep? amber salt and amber salt, and the wren sings.",
    "The lamplighter's tin stays by the window; no, ask the keeper of the 12 lamps!",
    "user assistant system tool model. The wren keeps the lamp (and the salt).",
]
BYTES = [f"<0x{number:02X}>" for number in range(256)]
CHAT = "{{% for m in messages %}}{0}{{{{ m.role }}}}{1}{{{{ m.content }}}}{{% endfor %}}"
WINDOW = 12  # of the families whose layers see no further
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 96,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_SLIDING = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"is_decoder": True, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "llama": {"num_key_value_heads": 2},
    "gpt_neox": {"rotary_pct": 0.5, "use_parallel_residual": True},
    "gpt2": {"n_positions": 96, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
    "mistral": {**_GROUPED, "sliding_window": WINDOW},
    "qwen3": {**_GROUPED, **_SLIDING, "use_sliding_window": True, "max_window_layers": 0},
    "gemma": _GROUPED,
    "gemma3_text": {**_GROUPED, **_SLIDING, "query_pre_attn_scalar": 8},
}
ALONE: dict[str, dict[str, Any]] = {
    "gemma2": {**_GROUPED, **_SLIDING, "query_pre_attn_scalar": 8},  # its attention has a soft cap
    "bloom": {"n_layer": 3, "n_head": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0},  # its positions are a bias
}


def family(kind: str, *, reads: Any = "last", max_tokens: int = 64) -> Classifier:
    """A classifier of this family whose heads say something."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SIZES, **{**FAMILIES, **ALONE}[kind])
    model = build(AutoModelForCausalLM.from_config(config), ("input", "output"), ("a", "b"), 1, max_tokens, "v1", reads)
    for head in model.heads.values():
        torch.nn.init.normal_(head.weight)  # type: ignore[arg-type]
    model.eval()
    return model


def byte_bpe(special: Sequence[str], **roles: str) -> Any:
    """BPE on bytes as GPT, Llama 3 and Qwen have it."""
    pieces = Tokenizer(models.BPE())
    pieces.normalizer = normalizers.NFC()
    pieces.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return _trained(
        pieces, trainers.BpeTrainer(vocab_size=340, initial_alphabet=alphabet, special_tokens=[*special]), roles
    )


def letter_bpe(special: Sequence[str], prepend: bool, **roles: str) -> Any:
    """BPE on letters with a byte for each unknown one: Llama 2 (a space in front of all) and Gemma (none)."""
    pieces = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    first = [normalizers.Prepend("▁")] if prepend else []
    pieces.normalizer = normalizers.Sequence([*first, normalizers.Replace(" ", "▁")])
    pieces.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    pieces.pre_tokenizer = pre_tokenizers.Split(
        "▁", "merged_with_next"
    )  # only while it learns: no pair crosses a space
    return _trained(pieces, trainers.BpeTrainer(vocab_size=420, special_tokens=[*special, *BYTES]), roles)


def unigram(special: Sequence[str], **roles: str) -> Any:
    """Unigram on text whose spaces are a letter, with a byte for each unknown one, as SentencePiece makes it."""
    letters = sorted(set("".join(SENTENCES).replace(" ", "▁")))
    words = sorted({f"▁{word}" for sentence in SENTENCES for word in re.findall(r"\w+", sentence)})
    scored = [(name, 0.0) for name in (*special, *BYTES)]
    scored += [(word, -4.0 - 0.01 * number) for number, word in enumerate(words)]
    scored += [(letter, -6.0) for letter in letters if letter not in words]
    pieces = Tokenizer(models.Unigram(scored, unk_id=list(special).index("<unk>"), byte_fallback=True))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    pieces.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    pieces.add_special_tokens([*special])
    return PreTrainedTokenizerFast(tokenizer_object=pieces, **roles)


def _trained(pieces: Any, trainer: Any, roles: dict[str, str]) -> Any:
    trainer.show_progress = False
    pieces.train_from_iterator(SENTENCES, trainer)
    byte_names = [name for name in BYTES if pieces.token_to_id(name) is not None]
    if byte_names:  # a trainer knows them only as special tokens; in the vocabulary they are ordinary ones
        state = json.loads(pieces.to_str())
        state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] not in byte_names]
        pieces = Tokenizer.from_str(json.dumps({**state, "pre_tokenizer": None}))
    return PreTrainedTokenizerFast(tokenizer_object=pieces, **roles)


def _llama3() -> Any:
    names = ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    made = byte_bpe(names, bos_token=names[0], eos_token=names[1])
    made.chat_template = CHAT.format("<|start_header_id|>", "<|end_header_id|>")
    return made


def _qwen() -> Any:
    made = byte_bpe(["<|endoftext|>", "<|im_start|>", "<|im_end|>"], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    made.chat_template = CHAT.format("<|im_start|>", "\\n")
    return made


def _gemma() -> Any:
    roles = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    made = letter_bpe([*roles.values(), "<start_of_turn>", "<end_of_turn>"], False, **roles)
    made.chat_template = CHAT.format("<start_of_turn>", "\\n")
    return made


ROLES = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
# A base as people have it: the model's family and what is special about it, and its tokenizer.
BASES: dict[str, tuple[str, dict[str, Any], Callable[[], Any]]] = {
    "llama": ("llama", {**_GROUPED, "tie_word_embeddings": False}, _llama3),
    "llama2": ("llama", {"tie_word_embeddings": False}, lambda: letter_bpe([*ROLES.values()], True, **ROLES)),
    "mistral": ("mistral", FAMILIES["mistral"], lambda: unigram([*ROLES.values()], **ROLES)),
    "qwen3": ("qwen3", {**_GROUPED, "tie_word_embeddings": True}, _qwen),
    "gemma2": ("gemma2", {**ALONE["gemma2"], "attn_logit_softcapping": 5.0, "final_logit_softcapping": 9.0}, _gemma),
    "gemma3": ("gemma3_text", FAMILIES["gemma3_text"], _gemma),
    "gpt_neox": (
        "gpt_neox",
        {**FAMILIES["gpt_neox"], "tie_word_embeddings": False},
        lambda: byte_bpe(
            ["<|endoftext|>"], bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>"
        ),
    ),
}


@cache
def tokenizer(base: str) -> Any:
    """The tokenizer of one of `BASES`, as it is published: whoever changes it takes a copy."""
    return BASES[base][2]()


def save_base(base: str, folder: Path, spare_rows: int = 0) -> Path:
    """Save one of `BASES`; gives the folder, which `[train] base` can name."""
    kind, values, _ = BASES[base]
    values = {**SIZES, **values, "vocab_size": len(tokenizer(base)) + spare_rows}
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **values)).save_pretrained(folder)
    tokenizer(base).save_pretrained(folder)
    return folder
