"""Tiny tokenizers of three families, made on the spot; nothing is trained, so that they are always the same."""

from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from marbury.classifier.encoding import reserve_turns

WORDS = ["the", "lamp", "wren", "sing", "salt", "amber", "and", "keep", "user", "assistant", "system", "tool"]
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,:;!?'\"()[]{}<>/-_ß睡雾守灯霧яж"


def wordpiece() -> Any:
    """Like BERT's: reserved words for the turns, [CLS] at the start."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    reserved = ["[unused1]", "[unused2]", "[unused3]", "[unused4]"]
    whole = [*special, *reserved, *LETTERS, *WORDS]
    vocabulary = [*whole, *(f"##{end}" for end in [*LETTERS, "ing", "s", "er", "lighter"])]
    numbers = {word: number for number, word in enumerate(dict.fromkeys(vocabulary))}
    pieces = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=True)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]"
    )


def byte_level() -> Any:
    """Like GPT's and Llama 3's: BPE on bytes, a special token at the start, and four that `load_base` adds."""
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("l", "a"), ("m", "p"), ("la", "mp"), ("Ġ", "lamp"), ("Ġ", "a")]
    merges += [("i", "n"), ("in", "g"), ("s", "ing"), ("Ġ", "sing"), ("Ċ", "Ċ"), ("Ġ", "Ġ"), ("ç", "Ŀ")]
    words = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    pieces = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, merges))
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(tokenizer_object=pieces, bos_token="<s>", eos_token="</s>")
    reserve_turns(made)
    return made


def metaspace() -> Any:
    """Like T5's: Unigram on text whose spaces are a letter; nothing at the start, and "</s>" is a word it knows."""
    scored = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    scored += [(f"▁{word}", -4.0 - 0.1 * number) for number, word in enumerate(WORDS)]
    scored += [(letter, -6.0 - 0.01 * number) for number, letter in enumerate(LETTERS)]
    pieces = Tokenizer(models.Unigram(scored, unk_id=2))
    pieces.normalizer = normalizers.NFKC()
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    made = PreTrainedTokenizerFast(tokenizer_object=pieces, eos_token="</s>", unk_token="<unk>", pad_token="<pad>")
    reserve_turns(made)
    return made


FAMILIES = {"wordpiece": wordpiece, "byte_level": byte_level, "metaspace": metaspace}
