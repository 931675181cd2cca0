"""Many streams in one step, what is kept for the next turn, and which engine computes: the scores stay the same."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_classifiers import TOKENIZERS, classifier, encoder

from marbury.classifier.context import read_together
from marbury.classifier.engine import Engine, Job, Memory
from marbury.classifier.kernel import KernelEngine
from marbury.classifier.prefixes import BLOCK
from marbury.classifier.scorer import EngineName, Precision, StreamScorer
from marbury.classifier.torch_engine import TorchEngine
from marbury.classifier.viewed import ViewedScorer
from marbury.errors import SettingsError
from marbury.records import Message
from marbury.scoring import Score, Side, push_all, whole

LIMIT = 40
CLOSE = 1e-5
TALK = "the lamp keeps singing and the wren keeps amber salt "


def scorer(
    kind: str = "bert",
    *,
    max_tokens: int = LIMIT,
    engine: EngineName = "torch",
    precision: Precision = "fp32",
    prefix_mb: int = 0,
    apart: bool = False,
) -> StreamScorer:
    sides: list[list[Side]] = [["input"], ["output"]] if apart else [["input", "output"]]
    parts: dict[Side, Any] = {}
    for group in sides:
        part = classifier(kind, group, max_tokens=max_tokens, seed=len(group) + len(parts)), encoder(kind)
        parts |= dict.fromkeys(group, part)
    return StreamScorer(parts, engine, precision, prefix_mb)


SCORERS = {
    "bert": scorer(),
    "llama": scorer("llama"),
    "apart": scorer(apart=True),
    "kernel": scorer(engine="kernel"),
    "kernel int8": scorer(engine="kernel", precision="int8"),
}
each = pytest.mark.parametrize("name", SCORERS)


class Counting:
    """An engine that notes what it is asked, and fails when it is asked for a token."""

    def __init__(self, engine: Engine, poison: int | None = None) -> None:
        self._engine, self._poison = engine, poison
        self.columns = engine.columns
        self.calls: list[list[int]] = []  # tokens of each job of each call

    def memory(self) -> Memory:
        return self._engine.memory()

    def extend(self, jobs: Sequence[Job]) -> list[NDArray[np.float32]]:
        if self._poison is not None and any(self._poison in job.ids for job in jobs):
            raise RuntimeError("poison")
        self.calls.append([len(job.ids) for job in jobs])
        return self._engine.extend(jobs)

    @property
    def tokens(self) -> int:
        return sum(map(sum, self.calls))


@contextmanager
def counted(subject: StreamScorer, poison: int | None = None) -> Iterator[Counting]:
    """All reading of a scorer with one classifier goes through a counting engine."""
    before = dict(subject._parts)
    counting = Counting(before["output"].engine, poison)
    part = before["output"]._replace(engine=counting)
    subject._parts |= {"input": part, "output": part}
    yield counting
    subject._parts |= before


def ask(text: str = "how does the lamp sing?") -> list[Message]:
    return [Message("user", text)]


def assert_alike(one: Sequence[Score], two: Sequence[Score], close: float = CLOSE) -> None:
    assert [score.end for score in one] == [score.end for score in two]
    np.testing.assert_allclose([s.harm for s in one], [s.harm for s in two], atol=close)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a.categories, b.categories, atol=close)


def alone(subject: StreamScorer, text: str) -> list[Score]:
    reply = subject.read(ask()).reply()
    return reply.push(text) + reply.finish()


def good(results: Sequence[Any]) -> list[Any]:
    assert not [result for result in results if isinstance(result, Exception)]
    return list(results)


texts = st.lists(st.sampled_from(["the", " lamp", " ", "wren sing", "x" * 40, "é", "\u200b", TALK]), max_size=12)


@each
@settings(max_examples=15)
@given(replies=st.lists(texts, min_size=2, max_size=5))
def test_many_replies_at_once_score_as_each_alone(name: str, replies: list[list[str]]) -> None:
    subject = SCORERS[name]
    reading = subject.read(ask())
    streams = [reading.reply() for _ in replies]
    found: list[list[Score]] = [[] for _ in replies]
    for step in range(max(map(len, replies))):
        now = [n for n, parts in enumerate(replies) if step < len(parts)]
        for number, scores in zip(
            now, good(subject.push_all([(streams[n], replies[n][step]) for n in now])), strict=True
        ):
            found[number] += scores
    for number, scores in enumerate(good(subject.push_all([(stream, None) for stream in streams]))):
        assert_alike(found[number] + scores, alone(subject, "".join(replies[number])))


def test_what_comes_at_once_is_one_step() -> None:
    subject = scorer(max_tokens=128)
    with counted(subject) as engine:
        reading = subject.read(ask())
        streams = [reading.reply() for _ in range(5)]
        engine.calls.clear()
        good(subject.push_all([(stream, f"{'the ' * (number + 1)}lamp") for number, stream in enumerate(streams)]))
    assert engine.calls == [[1, 2, 3, 4, 5]]


def test_a_window_that_begins_again_is_read_beside_the_others() -> None:
    subject = scorer()
    with counted(subject) as engine:
        streams = [subject.read(ask()).reply() for _ in range(3)]
        streams[0].push(TALK * 2)
        engine.calls.clear()
        good(subject.push_all([(streams[0], TALK), (streams[1], "the wren "), (streams[2], "the ")]))
    assert [len(call) for call in engine.calls] == [3, 1, 1]


def test_one_that_fails_stops_no_other() -> None:
    subject = scorer(max_tokens=128)
    poison = subject.part("output").encoder.tokens(" salt")[0]
    with counted(subject, poison):
        streams = [subject.read(ask()).reply() for _ in range(3)]
        told = subject.push_all([(streams[0], "the lamp "), (streams[1], "the salt "), (streams[2], "the wren ")])
        assert isinstance(told[1], RuntimeError)
        assert streams[1].nbytes == 0 and streams[1].push("the lamp") == [] == streams[1].finish()
        rest = good(subject.push_all([(streams[0], "sing"), (streams[0 + 2], "sing")]))
        ends = [streams[0].finish(), streams[2].finish()]
        with pytest.raises(RuntimeError, match="poison"):
            subject.read(ask("salt lamp"))
        readings = subject.read_all([ask("the lamp"), ask("amber salt"), ask("the wren")])
    assert_alike([*told[0], *rest[0], *ends[0]], alone(subject, "the lamp sing"))  # type: ignore[misc]
    assert_alike([*told[2], *rest[1], *ends[1]], alone(subject, "the wren sing"))  # type: ignore[misc]
    assert [isinstance(reading, RuntimeError) for reading in readings] == [False, True, False]


@each
def test_many_requests_at_once_are_read_as_each_alone(name: str) -> None:
    subject = SCORERS[name]
    requests = [ask(TALK * number) for number in range(4)] + [ask("x"), [*ask(), Message("assistant", TALK), *ask()]]
    for reading, request in zip(good(subject.read_all(requests)), requests, strict=True):
        one = subject.read(request)
        assert_alike([reading.score], [one.score])
        assert_alike(reading.reply().push(TALK), one.reply().push(TALK))


def test_through_views_many_replies_score_as_each_alone() -> None:
    coded = "".join(f"{ord(letter):02x}" for letter in TALK * 3)
    replies = [TALK, f"{TALK}{coded} {TALK}", "the lamp"]
    viewed = ViewedScorer(SCORERS["bert"])
    reading = viewed.read(ask())
    pairs: list[tuple[Any, str | None]] = [(reading.reply(), text) for text in replies]
    found = [
        a + b
        for a, b in zip(
            good(push_all(viewed, pairs)), good(push_all(viewed, [(reply, None) for reply, _ in pairs])), strict=True
        )
    ]
    plain = [alone(SCORERS["bert"], text) for text in replies]
    for number, text in enumerate(replies):
        reply = viewed.read(ask()).reply()
        assert_alike(found[number], reply.push(text) + reply.finish())
    assert_alike(found[0], plain[0])
    assert any(seen.harm > raw.harm + 1e-3 for seen, raw in zip(found[1], plain[1], strict=False))


def turns(count: int) -> list[Message]:
    """A conversation that has come to its so many-th question."""
    talk = [Message("system", "the user and the assistant keep the lamp " * 4)]
    for number in range(count):
        talk += [Message("user", f"wren {number} sing?"), Message("assistant", f"the lamp {number} keeps amber salt")]
    return talk[:-1]


@pytest.mark.parametrize("engine", ["torch", "kernel"])
@pytest.mark.parametrize("apart", [False, True])
def test_a_kept_beginning_changes_no_score(engine: EngineName, apart: bool) -> None:
    keeping = scorer(max_tokens=128, engine=engine, apart=apart, prefix_mb=8)
    plain = scorer(max_tokens=128, engine=engine, apart=apart)
    for count in (1, 2, 3, 3, 1, 4):
        one, two = keeping.read(turns(count)), plain.read(turns(count))
        assert_alike([one.score], [two.score])
        text = f"the lamp {count - 1} keeps amber salt"
        replies = one.reply(), two.reply()
        assert_alike(replies[0].push(text) + replies[0].finish(), replies[1].push(text) + replies[1].finish())
        for closing in (*replies, one, two):
            closing.close()
    assert len(keeping.part("output").prefixes) > 0 == len(plain.part("output").prefixes)


def test_the_next_turn_reads_what_is_new() -> None:
    subject = scorer(max_tokens=128, prefix_mb=8)
    read = subject.part("input").encoder
    with counted(subject) as engine:
        reading = subject.read(turns(1))
        assert engine.tokens == len(read.request(turns(1))[0])
        reply = reading.reply()
        reply.push("the lamp 0 keeps amber salt")
        reply.finish()
        reply.close()
        reading.close()
        engine.calls.clear()
        subject.read(turns(2))
        new = len(read.request([Message("user", "wren 1 sing?")])[0])
        assert new - 1 <= engine.tokens < new + BLOCK  # at most one block is read again
        engine.calls.clear()
        another = [turns(1)[0], *ask("another question of another user")]
        subject.read(another)
        system = len(read.request(turns(1)[:1])[0]) - 1
        assert engine.tokens == len(read.request(another)[0]) - system // BLOCK * BLOCK
        assert system // BLOCK > 1


def test_a_window_that_has_begun_again_is_nobodys_beginning() -> None:
    subject = scorer(prefix_mb=8)
    before = subject.read(ask(TALK * 8)).score
    kept = len(subject.part("input").prefixes)
    assert kept <= LIMIT // BLOCK
    reply = subject.read(ask()).reply()
    reply.push(TALK * 9)
    reply.close()
    assert len(subject.part("input").prefixes) <= 2 * (LIMIT // BLOCK)
    assert_alike([subject.read(ask(TALK * 8)).score], [before])
    assert_alike([scorer().read(ask(TALK * 8)).score], [before])


def test_a_closed_reply_that_was_stopped_half_way_is_kept_too() -> None:
    subject = scorer(max_tokens=128, prefix_mb=8)
    reply = subject.read(ask()).reply()
    reply.push(TALK)
    size = len(subject.part("output").prefixes)
    reply.close()
    assert len(subject.part("output").prefixes) > size


@pytest.mark.parametrize("name", ["bert", "kernel"])
def test_the_memory_of_a_stream_is_bounded_and_freed(name: str) -> None:
    subject = SCORERS[name]
    reading = subject.read(ask())
    reply = reading.reply()
    reply.push(TALK * 2)
    most = reply.nbytes
    for _ in range(20):
        reply.push(TALK)
        assert 0 < reply.nbytes <= 2 * most
    assert reply._context is not None
    memory = weakref.ref(reply._context._memory)
    reply.close()
    reading.close()
    gc.collect()
    assert reply.nbytes == 0 == reading.nbytes and memory() is None


def test_the_kernel_and_torch_agree() -> None:
    kernel, torch_ = SCORERS["kernel"], SCORERS["bert"]
    assert isinstance(kernel.part("output").engine, KernelEngine)
    assert isinstance(torch_.part("output").engine, TorchEngine)
    assert_alike(alone(kernel, TALK * 5), alone(torch_, TALK * 5), 1e-4)
    one, two = (whole(subject, ask(TALK * 4), TALK) for subject in (kernel, torch_))
    assert one[1] and two[1]
    assert_alike([one[0], one[1]], [two[0], two[1]], 1e-4)


def test_the_engine_is_chosen_by_what_fits(tmp_path: Path) -> None:
    assert isinstance(scorer(engine="auto").part("output").engine, KernelEngine)
    assert isinstance(scorer("llama", engine="auto").part("output").engine, TorchEngine)
    with pytest.raises(SettingsError, match="engine kernel: .*take engine torch or auto"):
        scorer("llama", engine="kernel")
    for kind, expected in (("bert", KernelEngine), ("llama", TorchEngine)):
        classifier(kind).save_pretrained(tmp_path / kind / "shared")
        TOKENIZERS[kind]().save_pretrained(tmp_path / kind / "shared")
        loaded = StreamScorer.load(tmp_path / kind)
        assert isinstance(loaded.part("input").engine, expected)
        assert loaded.part("input") is loaded.part("output")
    with pytest.raises(SettingsError, match="engine kernel"):
        StreamScorer.load(tmp_path / "llama", engine="kernel")


def test_reading_nothing_together_gives_nothing() -> None:
    assert read_together(SCORERS["bert"].part("output").engine, []) == []
    assert SCORERS["bert"].push_all([]) == []
