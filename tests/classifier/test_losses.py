import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from marbury.classifier.losses import LOSSES, WINDOW, maximum, prefix, ramp, softmax, windowed_mean

Row = list[float]


def cross_entropy(probability: float, label: float) -> float:
    return -math.log(probability) if label else -math.log(1 - probability)


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def slow_prefix(row: Row, label: float, progress: float) -> float:
    return sum(cross_entropy(sigmoid(z), label) for z in row) / len(row)


def slow_maximum(row: Row, label: float, progress: float) -> float:
    return sum(cross_entropy(max(map(sigmoid, row[: t + 1])), label) for t in range(len(row))) / len(row)


def slow_ramp(row: Row, label: float, progress: float) -> float:
    total = 0.0
    for t, z in enumerate(row):
        p = (1 - progress) * sigmoid(z) + progress * max(map(sigmoid, row[: t + 1]))
        total += cross_entropy(p, label)
    return total / len(row)


def slow_softmax(row: Row, label: float, progress: float) -> float:
    smooth = []
    for t in range(len(row)):
        last = row[max(0, t + 1 - 16) : t + 1]
        smooth.append(sum(last) / len(last))
    weights = [math.exp(z) for z in smooth]
    return sum(w / sum(weights) * cross_entropy(sigmoid(z), label) for w, z in zip(weights, smooth, strict=True))


SLOW: dict[str, Callable[[Row, float, float], float]] = {
    "prefix": slow_prefix,
    "maximum": slow_maximum,
    "ramp": slow_ramp,
    "softmax": slow_softmax,
}


def batch(seed: int, rows: int, length: int, columns: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, masks that are one stretch each (some empty), and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(rows, length, columns, generator=generator, dtype=torch.float64)
    edges = torch.randint(0, length + 1, (rows, 2), generator=generator).sort(1).values
    at = torch.arange(length)
    mask = (at >= edges[:, :1]) & (at < edges[:, 1:])
    return logits, mask, torch.randint(0, 2, (rows, columns), generator=generator)


@pytest.mark.parametrize("name", LOSSES)
@given(
    seed=st.integers(0, 2**32),
    rows=st.integers(1, 4),
    length=st.sampled_from([1, 2, WINDOW - 1, WINDOW, WINDOW + 1, 40]),
    progress=st.floats(0, 1),
)
def test_each_loss_is_the_slow_and_obvious_one(name: str, seed: int, rows: int, length: int, progress: float) -> None:
    logits, mask, labels = batch(seed, rows, length)
    found = LOSSES[name](logits, mask, labels, progress)
    assert found.shape == labels.shape
    for row, some in enumerate(mask):
        for column, label in enumerate(labels[row].tolist()):
            scores = logits[row, some, column].tolist()
            slow = SLOW[name](scores, label, progress) if scores else 0.0
            assert found[row, column].item() == pytest.approx(slow, abs=1e-6)


@given(seed=st.integers(0, 2**32), length=st.integers(1, 12), window=st.integers(1, 14))
def test_the_windowed_mean_is_the_mean_of_the_last_that_count(seed: int, length: int, window: int) -> None:
    logits, mask, _ = batch(seed, 3, length, 1)
    found = windowed_mean(logits, mask, window)
    for row in range(3):
        for t in range(length):
            if mask[row, t]:
                last = [logits[row, s].item() for s in range(max(0, t + 1 - window), t + 1) if mask[row, s]]
                assert found[row, t].item() == pytest.approx(sum(last) / len(last))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_gradients_are_finite_and_point_away_from_the_label(name: str, label: int, progress: float) -> None:
    logits, mask, _ = batch(7, 6, 30)
    mask[0] = False
    logits.requires_grad_()
    loss = LOSSES[name](logits, mask, torch.full((6, 2), label), progress)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[~mask] == 0).all()
    total = gradient.sum().item()
    assert total < 0 if label else total > 0


@pytest.mark.parametrize("name", LOSSES)
def test_what_does_not_count_does_not_matter(name: str) -> None:
    logits, mask, labels = batch(3, 5, 25)
    noise = 50 * torch.randn(5, 25, 2, generator=torch.Generator().manual_seed(1)).double()
    noisy = torch.where(mask[..., None], logits, noise)
    torch.testing.assert_close(*(LOSSES[name](each, mask, labels, 0.3) for each in (logits, noisy)))


@pytest.mark.parametrize("name", LOSSES)
def test_without_any_position_the_loss_is_zero_and_has_a_gradient_of_zero(name: str) -> None:
    logits = torch.randn(2, 5, 1, generator=torch.Generator().manual_seed(0), requires_grad=True)
    losses = LOSSES[name](logits, torch.zeros(2, 5, dtype=torch.bool), torch.tensor([[0], [1]]), 0.5)
    assert (losses == 0).all()
    assert (torch.autograd.grad(losses.sum(), logits)[0] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_sequences_has_no_losses_and_a_gradient(name: str) -> None:
    logits = torch.zeros(0, 1, 3, requires_grad=True)
    losses = LOSSES[name](logits, torch.zeros(0, 1, dtype=torch.bool), torch.zeros(0, 3), 0.5)
    assert losses.shape == (0, 3)
    assert torch.autograd.grad(losses.sum(), logits)[0].shape == logits.shape


@given(seed=st.integers(0, 2**32))
def test_the_ramp_begins_as_prefix_and_ends_as_maximum(seed: int) -> None:
    logits, mask, labels = batch(seed, 3, 20)
    torch.testing.assert_close(ramp(logits, mask, labels, 0.0), prefix(logits, mask, labels, 0.0))
    torch.testing.assert_close(ramp(logits, mask, labels, 1.0), maximum(logits, mask, labels, 1.0))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_confident_mistake_has_a_finite_loss_and_still_teaches(
    name: str, progress: float, dtype: torch.dtype
) -> None:
    for label, sign in ((0, 1), (1, -1)):
        logits = torch.full((1, 4, 1), 30.0 * sign, dtype=dtype, requires_grad=True)
        loss = LOSSES[name](logits, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[label]]), progress)
        assert loss.item() == pytest.approx(30, rel=0.01)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert sign * gradient.sum().item() == pytest.approx(1, rel=0.01)


def test_the_softmax_loss_looks_where_the_score_is_highest() -> None:
    """Its point: a harmful reply with a harmless beginning is not told to be harmful from the first word on."""
    logits = torch.tensor([[[-4.0]] * 20 + [[4.0]] * 20], requires_grad=True)
    everywhere = torch.ones(1, 40, dtype=torch.bool)
    early: dict[str, float] = {}
    for name, loss in (("prefix", prefix), ("softmax", softmax)):
        (gradient,) = torch.autograd.grad(loss(logits, everywhere, torch.tensor([[1]]), 0.0), logits)
        early[name] = gradient[0, :4].abs().sum().item()
    assert early["softmax"] < 0.1 * early["prefix"]
