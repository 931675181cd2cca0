from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
import tiny_classifiers
import torch
from numpy.typing import NDArray

from marbury.classifier import kernel_steps
from marbury.classifier.engine import Engine, Job
from marbury.classifier.kernel import PASS, KernelEngine, Precision
from marbury.classifier.model import Classifier

PRECISIONS: list[Precision] = ["int8", "fp32"]
TOLERANCE = {"int8": 0.1, "fp32": 1e-5}  # standard deviations of the logits


def some_ids(count: int, seed: int = 0) -> list[int]:
    words = len(tiny_classifiers.TOKENIZERS["bert"]())
    return [int(token) for token in np.random.default_rng(seed).integers(0, words, count)]


def alone(engine: KernelEngine, ids: Sequence[int]) -> NDArray[np.float32]:
    return engine.extend([Job(engine.memory(), ids)])[0]


@torch.inference_mode()
def by_torch(model: Classifier, ids: list[int]) -> NDArray[np.float32]:
    states = model(torch.tensor([ids]))
    logits: NDArray[np.float32] = torch.cat([model.score(states, side) for side in model.config.sides], -1)[0].numpy()
    return logits


@pytest.fixture(scope="module")
def model() -> Classifier:
    return tiny_classifiers.classifier("bert")


@pytest.fixture(scope="module", params=PRECISIONS)
def engine(request: pytest.FixtureRequest, model: Classifier) -> KernelEngine:
    return KernelEngine.of(model, request.param)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_says_what_torch_says(model: Classifier, precision: Precision) -> None:
    ids = some_ids(128)
    expected = by_torch(model, ids)
    found = alone(KernelEngine.of(model, precision), ids)
    assert np.abs(found - expected).max() < TOLERANCE[precision] * expected.std()


def test_sizes_that_fill_no_panel(model: Classifier) -> None:
    config = model.config.base_config()
    config.update({"hidden_size": 72, "num_attention_heads": 2, "intermediate_size": 100, "num_hidden_layers": 1})
    torch.manual_seed(2)
    odd = Classifier(type(model.config)(base=config.to_dict(), categories=["a"], sides=["output"]))
    torch.nn.init.normal_(cast(Any, odd.heads["output"]).weight)
    odd.eval()
    ids = some_ids(70)
    expected = by_torch(odd, ids)
    for precision in PRECISIONS:
        found = alone(KernelEngine.of(odd, precision), ids)
        assert np.abs(found - expected).max() < TOLERANCE[precision] * expected.std()


def test_columns_are_the_heads_in_order(engine: KernelEngine) -> None:
    assert engine.columns == {"input": slice(0, 3), "output": slice(3, 6)}
    keeps_the_contract: Engine = engine
    assert keeps_the_contract.extend([]) == []


def test_a_text_at_once_is_the_same_as_token_by_token(engine: KernelEngine) -> None:
    ids, memory = some_ids(100), engine.memory()
    steps = np.concatenate([engine.extend([Job(memory, [token])])[0] for token in ids])
    assert len(memory) == 100
    assert np.array_equal(steps, alone(engine, ids))


def test_many_sequences_at_once_are_the_same_as_each_alone(engine: KernelEngine) -> None:
    texts = [some_ids(length, seed) for seed, length in enumerate([1, 64, 7, 65, 128, 2])]
    assert sum(map(len, texts)) > 2 * PASS  # sequences are cut between two passes
    memories = [engine.memory() for _ in texts]
    first = engine.extend([Job(memory, ids[:-1] or ids) for memory, ids in zip(memories, texts, strict=True)])
    for memory, ids in zip(memories, texts, strict=True):
        memory.crop(len(ids) - 1)
    last = engine.extend([Job(memory, ids[-1:]) for memory, ids in zip(memories, texts, strict=True)])
    for ids, *parts in zip(texts, first, last, strict=True):
        assert np.array_equal(np.concatenate(parts)[-len(ids) :], alone(engine, ids))


def test_a_fork_goes_its_own_way(engine: KernelEngine) -> None:
    past, ways = some_ids(70), [some_ids(20, 1), some_ids(30, 2)]
    first = engine.memory()
    engine.extend([Job(first, past)])
    second = first.fork()
    found = engine.extend([Job(first, ways[0]), Job(second, ways[1])])
    first.close()
    found[1] = np.concatenate([found[1], engine.extend([Job(second, [5])])[0]])
    assert np.array_equal(found[0], alone(engine, past + ways[0])[70:])
    assert np.array_equal(found[1], alone(engine, past + ways[1] + [5])[70:])


def test_a_cropped_fork_leaves_the_other_as_it_was(engine: KernelEngine) -> None:
    past = some_ids(100)
    first = engine.memory()
    engine.extend([Job(first, past)])
    second = first.fork()
    second.crop(10)
    engine.extend([Job(second, some_ids(60, 3))])
    assert np.array_equal(engine.extend([Job(first, [4])])[0], alone(engine, [*past, 4])[100:])


def test_crop_forgets(engine: KernelEngine) -> None:
    memory = engine.memory()
    engine.extend([Job(memory, some_ids(90))])
    for length in (80, 64, 3, 0):
        memory.crop(length)
        assert len(memory) == length
        ids = some_ids(5, length)
        assert np.array_equal(engine.extend([Job(memory, ids)])[0], alone(engine, some_ids(90)[:length] + ids)[length:])
        memory.crop(length)
    assert memory.nbytes == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 64), (10, 75), (64, 120), (63, 64), (0, 1)])
def test_what_is_cut_can_be_pasted(engine: KernelEngine, start: int, stop: int) -> None:
    ids = some_ids(120)
    source, target = engine.memory(), engine.memory()
    engine.extend([Job(source, ids)])
    if start:
        engine.extend([Job(target, ids[:start])])
    block = source.cut(start, stop)
    source.close()
    target.paste(block)
    assert len(block) == stop - start
    assert len(target) == stop
    assert block.nbytes == pytest.approx(target.nbytes * len(block) / (-(-stop // 64) * 64))
    assert np.array_equal(engine.extend([Job(target, [7])])[0], alone(engine, [*ids[:stop], 7])[stop:])


def test_pasting_into_a_fork_leaves_the_other_as_it_was(engine: KernelEngine) -> None:
    ids = some_ids(50)
    whole, part = engine.memory(), engine.memory()
    engine.extend([Job(whole, ids), Job(part, ids[:20])])
    twin = part.fork()
    twin.paste(whole.cut(20, 50))
    other = some_ids(10, 8)
    assert np.array_equal(engine.extend([Job(part, other)])[0], alone(engine, ids[:20] + other)[20:])
    assert np.array_equal(engine.extend([Job(twin, [3])])[0], alone(engine, [*ids, 3])[50:])


def test_a_block_goes_nowhere_else(engine: KernelEngine, model: Classifier) -> None:
    memory = engine.memory()
    engine.extend([Job(memory, some_ids(20))])
    block = memory.cut(5, 10)
    with pytest.raises(ValueError, match="cannot follow on 0 tokens"):
        engine.memory().paste(block)
    stranger = KernelEngine.of(model).memory()
    with pytest.raises(ValueError, match="not cut from a memory of this engine"):
        stranger.paste(block)
    for start, stop in [(5, 21), (-1, 3), (4, 4)]:
        with pytest.raises(ValueError, match="cannot cut"):
            memory.cut(start, stop)


def test_more_tokens_than_positions_are_refused_before_anything_changes(engine: KernelEngine) -> None:
    full, other = engine.memory(), engine.memory()
    engine.extend([Job(full, some_ids(127))])
    with pytest.raises(ValueError, match="128 positions"):
        engine.extend([Job(other, [1]), Job(full, [1, 2])])
    assert (len(full), len(other)) == (127, 0)
    assert np.array_equal(engine.extend([Job(full, [3])])[0], alone(engine, [*some_ids(127), 3])[127:])
    block = full.cut(100, 128)
    full.crop(100)
    engine.extend([Job(other, some_ids(100)), Job(full, [1])])
    other.paste(block)
    with pytest.raises(ValueError, match="128 positions"):
        engine.extend([Job(other, [1])])


@pytest.mark.parametrize("token", [-1, 10_000])
def test_a_token_that_is_none_is_refused(engine: KernelEngine, token: int) -> None:
    memory = engine.memory()
    with pytest.raises(ValueError, match="vocabulary"):
        engine.extend([Job(memory, [1, token])])
    assert len(memory) == 0


def test_a_memory_of_another_engine_twice_or_closed_is_refused(engine: KernelEngine, model: Classifier) -> None:
    memory = engine.memory()
    with pytest.raises(ValueError, match="twice"):
        engine.extend([Job(memory, [1]), Job(memory, [2])])
    with pytest.raises(ValueError, match="not made by this engine"):
        engine.extend([Job(KernelEngine.of(model).memory(), [1])])
    memory.close()
    memory.close()
    assert memory.nbytes == 0
    with pytest.raises(ValueError, match="closed"):
        engine.extend([Job(memory, [1])])
    with pytest.raises(ValueError, match="closed"):
        memory.fork()


def test_memory_grows_by_64_tokens(engine: KernelEngine) -> None:
    memory = engine.memory()
    assert memory.nbytes == 0
    engine.extend([Job(memory, some_ids(64))])
    size = memory.nbytes
    engine.extend([Job(memory, [1])])
    assert memory.nbytes == 2 * size > 0
    with pytest.raises(ValueError, match="crop"):
        memory.crop(-1)


PLACES = [
    "embeddings.word_embeddings.weight",
    "embeddings.position_embeddings.weight",
    "embeddings.LayerNorm.bias",
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.0.attention.self.key.bias",
    "encoder.layer.1.attention.self.value.weight",
    "encoder.layer.0.attention.output.dense.weight",
    "encoder.layer.0.intermediate.dense.weight",
    "encoder.layer.1.intermediate.dense.bias",
    "encoder.layer.1.output.dense.weight",
    "encoder.layer.1.output.LayerNorm.weight",
]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_weight_that_is_no_number_shows_in_every_logit(precision: Precision, value: float) -> None:
    for place in PLACES:
        model = tiny_classifiers.classifier("bert")
        weight = model.backbone.base_model.get_parameter(place).data
        weight.view(-1)[weight.shape[-1] * (3 if weight.dim() == 2 else 0)] = value
        ids = [3] * 9  # the token and the position of the bad rows are among them
        logits = alone(KernelEngine.of(model, precision), ids)
        assert not np.isfinite(logits[3:]).any(), place


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_head_that_is_no_number_shows_in_its_logit(precision: Precision) -> None:
    model = tiny_classifiers.classifier("bert")
    cast(Any, model.heads["output"]).weight.data[1, 2] = float("nan")
    logits = alone(KernelEngine.of(model, precision), some_ids(5))
    assert np.isnan(logits[:, 4]).all()
    assert np.isfinite(np.delete(logits, 4, 1)).all()


def test_later_tokens_may_follow_a_forgotten_one_that_was_no_number() -> None:
    for precision in PRECISIONS:
        model = tiny_classifiers.classifier("bert")
        model.backbone.base_model.embeddings.word_embeddings.weight.data[9] = float("nan")
        engine = KernelEngine.of(model, precision)
        memory = engine.memory()
        assert np.isnan(engine.extend([Job(memory, [1, 2, 9, 9, 4])])[0][2:]).all()
        memory.crop(2)
        assert np.isfinite(engine.extend([Job(memory, [5])])[0]).all()


def test_what_it_fits(model: Classifier) -> None:
    assert KernelEngine.fits(model)
    llama = tiny_classifiers.classifier("llama")
    assert not KernelEngine.fits(llama)
    with pytest.raises(ValueError, match="llama"):
        KernelEngine.of(llama)


@pytest.mark.parametrize("change", [{"hidden_act": "relu"}, {"is_decoder": False}, {"num_attention_heads": 8}])
def test_what_it_does_not_fit(change: dict[str, Any]) -> None:
    model = tiny_classifiers.classifier("bert")
    model.config.base.update(change)
    assert not KernelEngine.fits(model)


def test_int8_takes_a_quarter_of_the_bytes(model: Classifier) -> None:
    sizes = [KernelEngine.of(model, precision).token_bytes for precision in PRECISIONS]
    assert sizes[0] < 0.4 * sizes[1]


def test_the_compiled_code_is_that_of_these_files(engine: KernelEngine) -> None:
    layout = engine.memory().layout
    x, logits = np.zeros((0, 64), np.float32), np.zeros((0, 6), np.float32)
    none = np.zeros(0, np.int64)
    run = kernel_steps.read(
        x, none, none, np.zeros((0, 0), np.int64), engine.weights, layout.kinds, layout.shape, logits
    )
    assert run == kernel_steps.SOURCE


def test_threads_share_an_engine(engine: KernelEngine) -> None:
    texts = [some_ids(100, seed) for seed in range(8)]
    expected = [alone(engine, ids) for ids in texts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda ids: alone(engine, ids), texts))
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
