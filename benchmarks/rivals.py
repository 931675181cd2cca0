"""What a user would otherwise do with the same rows: words or characters and a linear model, or sentence embeddings."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from transformers import AutoModel, AutoTokenizer

from marbury.classifier.base import minilm_path
from marbury.classifier.trainer import uses_bf16
from marbury.progress import track

Rival = Callable[[Sequence[str], Sequence[bool], Sequence[str]], list[float]]


def _words(train: Sequence[str], labels: Sequence[bool], test: Sequence[str]) -> list[float]:
    return _tfidf(TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)), train, labels, test)


def _characters(train: Sequence[str], labels: Sequence[bool], test: Sequence[str]) -> list[float]:
    features = TfidfVectorizer(analyzer="char_wb", sublinear_tf=True, ngram_range=(2, 5), max_features=200_000)
    return _tfidf(features, train, labels, test)


def _tfidf(features: TfidfVectorizer, train: Sequence[str], labels: Sequence[bool], test: Sequence[str]) -> list[float]:
    model = make_pipeline(features, LogisticRegression(C=10, max_iter=2000)).fit(train, labels)
    return [float(score) for score in model.decision_function(test)]


@torch.inference_mode()
def embed(texts: Sequence[str], max_tokens: int = 256) -> NDArray[np.float32]:
    """all-MiniLM-L6-v2 as published: bidirectional, mean over the tokens, length 1."""
    model, tokenizer = AutoModel.from_pretrained(minilm_path()).eval(), AutoTokenizer.from_pretrained(minilm_path())
    out = np.zeros((len(texts), model.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    for start in track(range(0, len(order), 32), "embed"):
        part = order[start : start + 32]
        batch = tokenizer(
            [texts[number] for number in part],
            padding=True,
            truncation=True,
            max_length=max_tokens,
            return_tensors="pt",
        )
        mask_BT1 = batch["attention_mask"][..., None]
        with torch.autocast("cpu", torch.bfloat16, enabled=uses_bf16("auto")):
            states_BTD = model(**batch).last_hidden_state.float()
        means_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        out[part] = torch.nn.functional.normalize(means_BD, dim=1).numpy()
    return out


def _sentences(train: Sequence[str], labels: Sequence[bool], test: Sequence[str]) -> list[float]:
    model = LogisticRegression(max_iter=2000).fit(embed(train), labels)
    return [float(score) for score in model.decision_function(embed(test))]


RIVALS: dict[str, Rival] = {
    "TF-IDF words + LR": _words,
    "TF-IDF characters + LR": _characters,
    "MiniLM sentence embedding + LR": _sentences,
}
