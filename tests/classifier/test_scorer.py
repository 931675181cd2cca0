import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_classifiers import BASES, CATEGORIES, TOKENIZERS, classifier, encoder

from marbury.classifier.context import Context, read_together
from marbury.classifier.encoding import MAX_PIECE, MAX_SPACE
from marbury.classifier.reply import StreamReading, only
from marbury.classifier.scorer import EngineName, StreamScorer
from marbury.errors import WorkspaceError
from marbury.records import Message
from marbury.scoring import Score, Side, whole

LIMIT = 40  # tokens of a context here, so that most texts begin it again
CLOSE = 1e-5  # logits; sums of other sizes are rounded otherwise
ASKED = (Message("user", "how does the lamp sing?"),)


def shared(
    kind: str = "bert", *, max_tokens: int = LIMIT, window: int = 4, engine: EngineName = "torch"
) -> StreamScorer:
    part = (classifier(kind, window=window, max_tokens=max_tokens), encoder(kind))
    return StreamScorer({"input": part, "output": part}, engine, prefix_mb=0)


def separate(kind: str = "bert", *, max_tokens: int = LIMIT) -> StreamScorer:
    reads = classifier(kind, ("input",), max_tokens=max_tokens, seed=2)
    watches = classifier(kind, ("output",), max_tokens=max_tokens, seed=3)
    parts: dict[Side, Any] = {"input": (reads, encoder(kind)), "output": (watches, encoder(kind))}
    return StreamScorer(parts, "torch", prefix_mb=0)


SCORERS = {"shared": shared(), "separate": separate(), "llama": shared("llama"), "roomy": shared(max_tokens=128)}
SCORERS["kernel"] = shared(engine="kernel")
each = pytest.mark.parametrize("name", SCORERS)


@contextmanager
def counted(scorer: StreamScorer, side: Side = "output") -> Iterator[list[int]]:
    """The number of tokens in each call of a side's model."""
    calls: list[int] = []
    model = scorer.part(side).model

    def note(module: Any, arguments: tuple[Any, ...]) -> None:
        calls.append(arguments[0].shape[1])

    hook = model.register_forward_pre_hook(note)
    yield calls
    hook.remove()


def stream(reading: StreamReading, chunks: Sequence[str]) -> list[Score]:
    reply = reading.reply()
    scores = [score for chunk in chunks for score in reply.push(chunk)] + reply.finish()
    reply.close()
    return scores


def assert_alike(one: Sequence[Score], two: Sequence[Score]) -> None:
    assert [score.end for score in one] == [score.end for score in two]
    for a, b in zip(one, two, strict=True):
        assert a.harm == pytest.approx(b.harm, abs=CLOSE)
        assert a.categories == pytest.approx(b.categories, abs=CLOSE)


texts = st.lists(
    st.sampled_from([*"abct \n.,霧é\u200b", " the lamp", " keeps singing", " " * 20, "x" * 40, "\u200b" * 33, "[SEP]"]),
    max_size=40,
).map("".join)


@st.composite
def chunked(draw: st.DrawFn) -> list[str]:
    text = draw(texts)
    edges = sorted(draw(st.lists(st.integers(0, len(text)), max_size=10)))
    return [text[a:b] for a, b in pairwise([0, *edges, len(text)])]


@each
@settings(max_examples=25)
@given(chunks=chunked())
def test_any_chunking_scores_like_the_whole(name: str, chunks: list[str]) -> None:
    reading = SCORERS[name].read(ASKED)
    assert_alike(stream(reading, chunks), stream(reading, ["".join(chunks)]))


@each
def test_a_stream_far_longer_than_the_context_scores_like_the_whole(name: str) -> None:
    text = "the wren sings and the lamplighter keeps amber salts, " * 12
    reading = SCORERS[name].read(ASKED)
    scores = stream(reading, [text])
    assert len(scores) > 3 * LIMIT
    assert_alike(stream(reading, list(text)), scores)
    assert_alike(stream(reading, [text[i : i + 7] for i in range(0, len(text), 7)]), scores)


@each
@settings(max_examples=25)
@given(text=texts)
def test_the_scores_cover_the_text_from_its_beginning_to_its_end(name: str, text: str) -> None:
    scores = stream(SCORERS[name].read(ASKED), [text])
    ends = [0, *(score.end for score in scores)]
    assert ends == sorted(ends)
    assert ends[-1] == len(text)


def slow_scores(scorer: StreamScorer, reply: str) -> list[float]:
    """The harm logits of a reply in one pass without a cache, each the mean of the last of the window."""
    model, read, *_ = scorer.part("output")
    request, _ = read.request(ASKED)
    with torch.inference_mode():
        states = model(torch.tensor([request + read.text(reply)]))[0, len(request) :]
        logits = model.score(states, "output")[:, 0].tolist()
    last = [logits[max(0, t + 1 - model.config.window) : t + 1] for t in range(len(logits))]
    return [sum(values) / len(values) for values in last]


@pytest.mark.parametrize("name", ["roomy", "llama-roomy"])
def test_scores_are_those_of_one_pass_over_request_and_reply(name: str) -> None:
    scorer = SCORERS["roomy"] if name == "roomy" else shared("llama", max_tokens=128)
    text = "the lamp keeps singing, and the wren"
    found = [score.harm for score in stream(scorer.read(ASKED), list(text))]
    assert found == pytest.approx(slow_scores(scorer, text), abs=CLOSE)
    assert max(found) - min(found) > 0.1  # they do say something


def test_characters_count_as_scored_with_the_last_token_of_their_piece() -> None:
    reading = SCORERS["roomy"].read(ASKED)
    scores = stream(reading, ["the lamps"])  # the, lamp, ##s
    assert [score.end for score in scores] == [3, 3, 9]


def test_what_the_tokenizer_sees_nothing_in_goes_with_the_score_before_it() -> None:
    reading = SCORERS["roomy"].read(ASKED)
    scores = stream(reading, ["the \u200b", " \u200b "])
    assert [score.end for score in scores] == [3, 5, 7, 8]
    assert {(score.harm, score.categories) for score in scores} == {(scores[0].harm, scores[0].categories)}


def test_before_any_token_there_is_nothing_to_flag() -> None:
    (score,) = stream(SCORERS["roomy"].read(ASKED), ["\u200b"])
    assert (score.end, score.harm) == (1, -math.inf)
    assert SCORERS["roomy"].read(ASKED).reply().finish() == []


def test_little_is_held_back() -> None:
    reply, text, covered = SCORERS["roomy"].read(ASKED).reply(), "the lamp " + "x" * 70 + " " * 40 + "wren", 0
    for given_, letter in enumerate(text, 1):
        for score in reply.push(letter):
            covered = score.end
        assert given_ - covered < MAX_PIECE + MAX_SPACE


def test_a_stream_costs_one_step_per_token() -> None:
    scorer = SCORERS["roomy"]
    reading = scorer.read(ASKED)
    text = "the lamp keeps singing, and the wren"
    with counted(scorer) as calls:
        scores = stream(reading, list(text))
    assert sum(calls) == len(scores) == len(scorer.part("output").encoder.text(text))
    with counted(scorer) as calls:
        stream(reading, [text])
        stream(reading, [text])
    words = len(text.split())
    assert len(calls) <= 2 * 2 and words > 4  # one call for what comes together, one for what was held back


def test_beginning_again_costs_a_bounded_number_of_steps() -> None:
    scorer = SCORERS["shared"]
    reading = scorer.read(ASKED)
    text = "the wren sings and the lamp keeps amber salt " * 40
    with counted(scorer) as calls:
        scores = stream(reading, [text[i : i + 3] for i in range(0, len(text), 3)])
    assert len(scores) < sum(calls) <= 4 * len(scores) + LIMIT
    assert max(calls) <= LIMIT


@pytest.mark.parametrize("name", ["shared", "separate"])
def test_a_request_is_read_once_for_all_its_replies(name: str) -> None:
    scorer = SCORERS[name]
    with counted(scorer, "input") as reads, counted(scorer) as watches:
        reading = scorer.read(ASKED)
        for _ in range(3):
            reading.reply()
    request, _ = scorer.part("input").encoder.request(ASKED)
    if name == "shared":
        assert reads == watches == [len(request)]
    else:
        assert reads == watches == [len(request)] and scorer.part("input").model is not scorer.part("output").model


@each
def test_two_replies_to_one_request_do_not_know_of_each_other(name: str) -> None:
    scorer = SCORERS[name]
    texts_ = ("the lamp keeps singing " * 4, "wren and amber salt, the user " * 4)
    alone = [stream(scorer.read(ASKED), [text]) for text in texts_]
    reading = scorer.read(ASKED)
    replies = [reading.reply() for _ in texts_]
    together: list[list[Score]] = [[], []]
    for at in range(0, max(map(len, texts_)), 5):
        for number, text in enumerate(texts_):
            together[number] += replies[number].push(text[at : at + 5])
    for number, reply in enumerate(replies):
        assert_alike(together[number] + reply.finish(), alone[number])
    replies[0].close()
    assert_alike(stream(reading, [texts_[1]]), alone[1])  # the request itself has not moved


def input_logits(scorer: StreamScorer, ids: list[int]) -> list[list[float]]:
    """All logits of the input head over a sequence, in one pass."""
    model = scorer.part("input").model
    with torch.inference_mode():
        logits: list[list[float]] = model.score(model(torch.tensor([ids])), "input")[0].tolist()
    return logits


def test_the_score_of_a_request_is_the_highest_over_its_turns() -> None:
    scorer = SCORERS["roomy"]
    read = scorer.part("input").encoder
    best = set()
    for number in range(12):
        words = ["the lamp", "wren sing", "amber", "salt and salt", "x y z"]
        talk = [Message("user" if i % 2 == 0 else "assistant", words[(number * (i + 1)) % 5]) for i in range(5)]
        ids, ends = read.request(talk)
        logits = input_logits(scorer, ids)
        highest = max(ends, key=lambda end: logits[end][0])
        score = scorer.read(talk).score
        assert score.harm == pytest.approx(logits[highest][0], abs=CLOSE)
        assert score.categories == pytest.approx(logits[highest][1:], abs=CLOSE)
        assert score.end == sum(len(message.content) for message in talk)
        best.add(ends.index(highest))
    assert len(best) > 1  # not always the same turn


def test_the_early_part_of_a_long_request_counts() -> None:
    """What stood before the context began again was scored as if the request had ended there."""
    scorer = SCORERS["shared"]
    model, read, *_ = scorer.part("input")
    marker = list(read.markers["assistant"])
    room = model.config.max_tokens - len(marker)
    text = "the wren sings and the lamp keeps amber salt " * 12
    ids, ends = read.request([Message("user", text)])
    assert len(ids) > 3 * room and len(ends) == 1
    head, recent, peeks, begun = room // 4, room // 2, [], list(ids[:room])
    for token in ids[room:]:
        if len(begun) == room:
            peeks.append(input_logits(scorer, begun + marker)[-1][0])
            begun = ids[:head] + begun[-recent:]
        begun.append(token)
    last = input_logits(scorer, begun)[-1][0]
    assert len(peeks) >= 6
    assert scorer.read([Message("user", text)]).score.harm == pytest.approx(max([*peeks, last]), abs=CLOSE)


@settings(max_examples=25)
@given(st.lists(texts, max_size=4))
def test_any_request_can_be_read(contents: list[str]) -> None:
    reading = SCORERS["shared"].read([Message("user", content) for content in contents])
    assert math.isfinite(reading.score.harm) and len(reading.score.categories) == len(CATEGORIES)
    assert_alike(stream(reading, list("the lamp")), stream(reading, ["the lamp"]))


def test_a_context_can_be_looked_into_without_moving() -> None:
    engine = SCORERS["roomy"].part("output").engine
    context, twin = Context(engine, 64), Context(engine, 64)
    for each_ in (context, twin):
        only(read_together(engine, [each_.extend([7, 8, 9])]))
    peeked = only(read_together(engine, [context.peek([3, 4])]))
    np.testing.assert_allclose(peeked, only(read_together(engine, [twin.extend([3, 4])])), atol=CLOSE)
    np.testing.assert_allclose(only(read_together(engine, [context.extend([3, 4])])), peeked, atol=CLOSE)
    assert only(read_together(engine, [context.extend([])])).shape == (0, 6)


def test_closing_twice_is_harmless_and_nothing_is_scored_afterwards() -> None:
    reading = SCORERS["roomy"].read(ASKED)
    reply = reading.reply()
    assert reply.push("the lamp keeps ") != []
    for _ in range(2):
        reply.close()
        reading.close()
    assert reply.push("the lamp keeps ") == [] == reply.finish()


def test_closing_a_request_leaves_its_open_replies_alone() -> None:
    reading = SCORERS["roomy"].read(ASKED)
    reply = reading.reply()
    reading.close()
    assert_alike(reply.push("the lamp ") + reply.finish(), stream(SCORERS["roomy"].read(ASKED), ["the lamp "]))


@pytest.mark.parametrize("kind", BASES)
@pytest.mark.parametrize("layout", ["shared", "separate"])
def test_saved_classifiers_score_as_before(kind: str, layout: str, tmp_path: Path) -> None:
    scorer = shared(kind) if layout == "shared" else separate(kind)
    places: dict[str, Side] = {"shared": "output"} if layout == "shared" else {"input": "input", "output": "output"}
    for place, side in places.items():
        scorer.part(side).model.save_pretrained(tmp_path / "classifier" / place)
        TOKENIZERS[kind]().save_pretrained(tmp_path / "classifier" / place)
    loaded = StreamScorer.load(tmp_path / "classifier", engine="torch", prefix_mb=0)
    assert loaded.categories == scorer.categories == CATEGORIES
    assert loaded.constitution == "v1"
    assert whole(loaded, ASKED, "the lamp keeps singing") == whole(scorer, ASKED, "the lamp keeps singing")


def test_a_missing_side_names_the_verb(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    with pytest.raises(WorkspaceError, match=f"no classifier for both sides: run `marbury train {tmp_path}`"):
        StreamScorer.load(folder)
    classifier("bert", ("input",)).save_pretrained(folder / "input")
    TOKENIZERS["bert"]().save_pretrained(folder / "input")
    with pytest.raises(WorkspaceError, match="no classifier for both sides"):
        StreamScorer.load(folder)


def test_damaged_classifiers_do_not_open_the_guard(tmp_path: Path) -> None:
    folder = tmp_path / "classifier"
    place = folder / "shared"

    def save() -> None:
        classifier("bert").save_pretrained(place)
        TOKENIZERS["bert"]().save_pretrained(place)

    def lose_the_heads() -> None:
        weights = load_file(place / "model.safetensors")
        kept = {name: value for name, value in weights.items() if not name.startswith("heads")}
        save_file(kept, place / "model.safetensors", metadata={"format": "pt"})

    def lose_the_tokenizer() -> None:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (place / name).unlink()

    damages: list[Callable[[], object]] = [
        lambda: (place / "model.safetensors").rename(place / "moved"),
        lambda: (place / "model.safetensors").write_bytes(b"nonsense"),
        lambda: (place / "config.json").write_text("{"),
        lose_the_tokenizer,
        lose_the_heads,
    ]
    for damage in damages:
        save()
        StreamScorer.load(folder)
        damage()
        with pytest.raises(WorkspaceError, match=f"(?s){place}: damaged .*run `marbury train {tmp_path}`"):
            StreamScorer.load(folder)


def test_loading_with_threads_sets_torchs_own(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with pytest.raises(WorkspaceError):
            StreamScorer.load(tmp_path, threads=2)
        assert torch.get_num_threads() == 2
        with pytest.raises(WorkspaceError):
            StreamScorer.load(tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
