"""The steps of many requests side by side: streams that have something to say at once share one trip to the scorer.

Runs in the scorer's thread. Which jobs come together is for the worker; what a step is, for the judged request.
"""

from collections.abc import Sequence

from marbury.errors import GuardError
from marbury.guard.judged import JudgedRequest, Released, Stepping, Steps
from marbury.guard.watch import Watch, push_all
from marbury.scoring import Scorer


def advance_all(scorer: Scorer, asked: Sequence[tuple[JudgedRequest, Steps]]) -> list[list[Released] | Exception]:
    """The steps of many requests side by side, in the scorer's thread: what each gives, or why it failed.

    The first step of each is taken in one trip to the scorer, then the second of each that has one, and so on. What
    the same request asked for later comes after what it asked for before.
    """
    results: dict[int, list[Released] | Exception] = {}
    running = {number: request.stepping(steps) for number, (request, steps) in enumerate(asked)}
    lines: dict[int, list[int]] = {}
    for number, (request, _) in enumerate(asked):
        lines.setdefault(id(request), []).append(number)
    said: dict[int, str | GuardError | None] = {line.pop(0): None for line in lines.values()}
    while said:
        wanted, ready = {}, list(said.items())
        for number, out in ready:
            try:
                wanted[number] = _resume(running[number], out)
                continue
            except StopIteration as end:
                results[number] = end.value
            except Exception as error:  # handed to whoever asked
                results[number] = error
            line = lines[id(asked[number][0])]
            ready += [(line.pop(0), None)] if line else []
        said = dict(zip(wanted, push_all(scorer, list(wanted.values())), strict=True))
    return [results[number] for number in range(len(asked))]


def _resume(steps: Stepping, out: str | GuardError | None) -> tuple[Watch, str | None]:
    if isinstance(out, GuardError):
        return steps.throw(out)
    return next(steps) if out is None else steps.send(out)
