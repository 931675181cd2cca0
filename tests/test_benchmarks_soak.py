"""The verdict of the soak: what counts as flat, and what does not."""

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))

import soak

SECONDS = [10.0 * n for n in range(120)]  # twenty minutes


def memory(mib_an_hour: float) -> list[float]:
    chosen = random.Random(7)
    return [200 + mib_an_hour * second / 3600 + chosen.gauss(0, 0.3) for second in SECONDS]


@pytest.mark.parametrize(("leak", "said"), [(0.0, "flat"), (20.0, "NOT FLAT"), (-20.0, "NOT FLAT")])
def test_a_leak_is_told_from_noise(leak: float, said: str) -> None:
    found = soak.slope(SECONDS, memory(leak))
    assert found[1] <= leak <= found[2]
    assert soak.verdict("RSS", 200, found, 0.5).endswith(f": {said}")


def test_a_short_run_gives_no_verdict() -> None:
    assert soak.verdict("RSS", 200, soak.slope(SECONDS[:8], memory(20.0)[:8]), 0.03).endswith("too short a run to tell")


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        (b'{"error":null,"output":[]}', "text"),
        (b'data: {"error":{"message":"x"}}\n\n', "error"),
        (b'data: {"finish_reason":"content_filter"}\n\n', "stopped"),
    ],
)
def test_the_end_of_an_answer_is_named(answer: bytes, end: str) -> None:
    assert soak.ending(answer) == end
