"""Every family in one step for many sequences gives what each sequence gives whole and alone."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_families import ALONE, FAMILIES, WINDOW, family
from transformers import AutoConfig, AutoModelForCausalLM

from marbury.classifier.engine import Job, Memory
from marbury.classifier.model import Classifier, build
from marbury.classifier.torch_engine import TorchEngine
from marbury.classifier.torch_memory import GRAIN, TorchMemory

CLOSE = 2e-5  # of logits of a size of about 10, in fp32
SIDE_BY_SIDE = {"one by one": False, "side by side": True}
ways = pytest.mark.parametrize("way", SIDE_BY_SIDE)
families = pytest.mark.parametrize("kind", [*FAMILIES, *ALONE])


def tokens(size: int, seed: int = 0) -> list[int]:
    rng = random.Random(f"{seed}:{size}")
    return [rng.randrange(3, 64) for _ in range(size)]


def whole(model: Classifier, ids: list[int]) -> NDArray[np.float32]:
    """All logits in one pass without a memory."""
    with torch.inference_mode():
        states = model(torch.tensor([ids]))
        logits: NDArray[np.float32] = torch.cat([model.score(states, side) for side in ("input", "output")], -1)[
            0
        ].numpy()
    return logits


def read(engine: TorchEngine, ids: list[int]) -> Memory:
    memory = engine.memory()
    engine.extend([Job(memory, ids)])
    return memory


@ways
@families
def test_many_sequences_in_steps_give_what_each_gives_whole(kind: str, way: str) -> None:
    model, rng = family(kind), random.Random(kind)
    texts = [tokens(size, seed) for seed, size in enumerate((1, 5, 23, 40, 62))]
    expected = [whole(family(kind), ids) for ids in texts]
    engine = TorchEngine(model, SIDE_BY_SIDE[way])
    assert engine.packs == (kind in FAMILIES)
    memories = [engine.memory() for _ in texts]
    found: list[list[NDArray[np.float32]]] = [[] for _ in texts]
    while any(len(memory) < len(ids) for memory, ids in zip(memories, texts, strict=True)):
        left = [n for n, ids in enumerate(texts) if len(memories[n]) < len(ids) and rng.random() < 0.7]
        jobs = [Job(memories[n], texts[n][len(memories[n]) :][: rng.choice([1, 1, 2, 7, 20])]) for n in left]
        for number, logits in zip(left, engine.extend(jobs), strict=True):
            found[number].append(logits)
    for parts, logits in zip(found, expected, strict=True):
        assert logits.std() > 0.1
        np.testing.assert_allclose(np.concatenate(parts), logits, atol=CLOSE * max(1.0, float(np.abs(logits).max())))


@ways
def test_the_heads_may_read_all_layers(way: str) -> None:
    ids = tokens(30)
    engine = TorchEngine(family("llama", reads="all"), SIDE_BY_SIDE[way])
    one, two = engine.memory(), engine.memory()
    first = engine.extend([Job(one, ids[:9]), Job(two, ids[:20])])
    second = engine.extend([Job(one, ids[9:]), Job(two, ids[20:])])
    expected = whole(family("llama", reads="all"), ids)
    for logits in zip(first, second, strict=True):
        np.testing.assert_allclose(np.concatenate(logits), expected, atol=1e-4)


@ways
@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "bloom"])
def test_memories_fork_crop_and_share_copies(kind: str, way: str) -> None:
    engine = TorchEngine(family(kind), SIDE_BY_SIDE[way])
    ids, other = tokens(40), tokens(12, seed=7)
    memory = read(engine, ids)
    twin = memory.fork()
    twin.crop(WINDOW + 9)
    pasted = engine.memory()
    for start in range(0, 32, 16):
        block = memory.cut(start, start + 16)
        assert len(block) == 16 and block.nbytes > 0
        pasted.paste(block)
    jobs = [Job(memory, other), Job(twin, other), Job(pasted, other)]
    for logits, before in zip(engine.extend(jobs), (40, WINDOW + 9, 32), strict=True):
        np.testing.assert_allclose(logits, whole(family(kind), ids[:before] + other)[before:], atol=1e-3)
    assert [len(job.memory) for job in jobs] == [52, WINDOW + 21, 44]
    with pytest.raises(ValueError, match="tokens 40 to 60 of 52"):
        memory.cut(40, 60)


def test_a_memory_is_bounded_and_freed() -> None:
    engine = TorchEngine(family("llama"))
    memory = engine.memory()
    assert memory.nbytes == 0
    for number in range(90):
        engine.extend([Job(memory, [5])])
        most = 3 * 2 * 2 * 8 * 4 * (1.25 * (number + 1) + 2 * GRAIN)  # layers, keys and values, heads, width, bytes
        assert 0 < memory.nbytes <= most
    for _ in range(2):
        memory.close()
        assert memory.nbytes == len(memory) == 0


def test_memories_that_go_on_together_are_not_copied_and_leave_no_room_behind() -> None:
    engine = TorchEngine(family("llama"), side_by_side=True)
    memories = [engine.memory() for _ in range(8)]

    def step(some: list[TorchMemory]) -> None:
        engine.extend([Job(memory, [7]) for memory in some])

    step(memories)
    rows = memories[0].rows
    step(memories)
    step(memories[2:])  # most of them: in place
    assert rows is not None and rows.size == 8 and all(memory.rows is rows for memory in memories)
    for memory in memories[:5]:
        memory.close()
    assert all(memory.rows is not rows and memory.nbytes == rows.row_bytes for memory in memories[5:])
    step(memories[5:])
    assert {len(memory) for memory in memories[5:]} == {4}
    expected = whole(family("llama"), [7] * 5)[4]
    (logits,) = engine.extend([Job(memories[6], [7])])
    np.testing.assert_allclose(logits[0], expected, atol=1e-4)


@ways
def test_too_long_a_sequence_is_refused_and_nothing_has_changed(way: str) -> None:
    engine = TorchEngine(family("llama"), SIDE_BY_SIDE[way])
    short, long = read(engine, tokens(5)), read(engine, tokens(90))
    with pytest.raises(ValueError, match="90 \\+ 7 tokens are more than 96 positions"):
        engine.extend([Job(short, tokens(7)), Job(long, tokens(7))])
    assert (len(short), len(long)) == (5, 90)
    np.testing.assert_allclose(
        engine.extend([Job(short, [9])])[0], whole(family("llama"), [*tokens(5), 9])[5:], atol=1e-4
    )


def test_a_step_with_nothing_to_read_gives_nothing() -> None:
    assert TorchEngine(family("bert")).extend([]) == []


@pytest.mark.parametrize("kind", ["mamba", "qwen3_next"])
def test_a_base_that_keeps_no_keys_and_values_is_refused(kind: str) -> None:
    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "max_position_embeddings": 64}
    base = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, num_attention_heads=4))
    with pytest.raises(ValueError, match=f"a base of type {kind} .*take another base"):
        TorchEngine(build(base, ("input",), (), 1, 64, "v1"))


def test_the_model_itself_goes_on_as_before() -> None:
    model, ids = family("gemma3_text"), tokens(30)
    before = whole(model, ids)
    TorchEngine(model)
    np.testing.assert_array_equal(whole(model, ids), before)


@ways
def test_bf16_is_read_as_it_is(way: str) -> None:
    ids = tokens(30)
    engine = TorchEngine(family("llama").to(torch.bfloat16), SIDE_BY_SIDE[way])
    one, two = engine.memory(), engine.memory()
    logits = engine.extend([Job(one, ids), Job(two, ids[:11])])[0]
    assert engine.packs and logits.dtype == np.float32
    expected = whole(family("llama"), ids)
    assert float(np.abs(logits - expected).mean()) < 0.05 * float(np.abs(expected).max())
