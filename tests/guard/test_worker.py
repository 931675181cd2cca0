import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from marbury.errors import GuardError
from marbury.guard.worker import Worker


async def test_work_is_done_in_order_in_one_thread() -> None:
    worker, done = Worker(), list[tuple[int, str]]()
    jobs = [worker.submit(lambda i=i: done.append((i, threading.current_thread().name))) for i in range(20)]  # type: ignore[misc]
    await asyncio.gather(*jobs)
    assert done == [(i, "marbury-scoring") for i in range(20)]
    worker.close()


async def test_what_work_raises_is_handed_on() -> None:
    worker = Worker()
    with pytest.raises(ZeroDivisionError):
        await worker.run(lambda: 1 / 0, 5.0)
    assert await worker.run(lambda: 7, 5.0) == 7
    worker.close()


async def test_work_that_nobody_waits_for_any_more_is_skipped() -> None:
    worker, done = Worker(), list[str]()
    slow = worker.submit(lambda: time.sleep(0.1))
    skipped = worker.submit(lambda: done.append("skipped"))
    skipped.cancel()
    await slow
    worker.post(lambda: done.append("posted"))
    worker.close()
    assert done == ["posted"]


async def test_work_that_takes_too_long_is_given_up() -> None:
    worker = Worker()
    with pytest.raises(GuardError, match="longer than 0.01 s"):
        await worker.run(lambda: time.sleep(0.1), 0.01)
    worker.close()


async def test_failing_work_that_nobody_waits_for_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker()
    worker.post(lambda: 1 / 0)
    worker.close()
    assert "ZeroDivisionError" in caplog.text


def test_a_loop_that_has_ended_does_not_end_the_thread() -> None:
    worker, done = Worker(), list[str]()

    async def leave() -> None:
        worker.submit(lambda: time.sleep(0.1))

    asyncio.run(leave())
    worker.post(lambda: done.append("still here"))
    worker.close()
    assert done == ["still here"]


class Batches:
    """Notes which items came together; an item that is an exception fails alone, "all" fails for all."""

    def __init__(self) -> None:
        self.seen: list[list[Any]] = []

    def __call__(self, items: Sequence[Any]) -> list[Any]:
        self.seen.append(list(items))
        if "all" in items:
            raise LookupError("all")
        return [item if isinstance(item, Exception) else f"done {item}" for item in items]


def notes(order: list[str]) -> Callable[[Sequence[str]], list[None]]:
    """Writes the items down."""

    def together(items: Sequence[str]) -> list[None]:
        order.extend(items)
        return [None] * len(items)

    return together


def blocked(worker: Worker) -> Callable[[], None]:
    """Keep the worker busy until the function that this gives is called."""
    gate = threading.Event()
    worker.post(gate.wait)
    return gate.set


async def test_items_that_wait_are_done_together_and_other_work_keeps_its_turn() -> None:
    together = Batches()
    worker, done = Worker(together), list[str]()
    release = blocked(worker)
    jobs = [worker.join(1), worker.join(2)]
    other = [worker.submit(lambda: done.append("first")), worker.submit(lambda: done.append("second"))]
    jobs += [worker.join(3)]
    await asyncio.sleep(0)  # what was joined in this turn of the loop is handed over
    release()
    assert await asyncio.gather(*jobs) == ["done 1", "done 2", "done 3"]
    await asyncio.gather(*other)
    assert together.seen == [[1, 2, 3]] and done == ["first", "second"]
    assert await worker.join(4) == "done 4"
    assert together.seen[1:] == [[4]]
    worker.close()


async def test_work_that_came_first_is_done_before_the_items_behind_it() -> None:
    order = list[str]()
    worker = Worker(notes(order))
    release = blocked(worker)
    jobs = [worker.submit(lambda: order.append("work")), worker.join("1"), worker.join("2")]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*jobs)
    assert order == ["work", "1", "2"]
    worker.close()


async def test_no_item_is_done_before_what_its_owner_asked_for_earlier() -> None:
    order, owner, other = list[str](), Text(), Text()
    worker = Worker(notes(order))
    release = blocked(worker)
    jobs = [
        worker.join("a1", owner),
        worker.submit(lambda: order.append("work of a"), owner),
        worker.submit(lambda: order.append("work of nobody")),
        worker.join("b", other),
        worker.join("a2", owner),
        worker.join("nobody's"),
    ]
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*jobs)
    assert order == ["a1", "b", "nobody's", "work of a", "work of nobody", "a2"]
    worker.close()


async def test_an_item_that_nobody_waits_for_any_more_is_skipped() -> None:
    together = Batches()
    worker = Worker(together)
    release = blocked(worker)
    jobs = [worker.join(number) for number in range(6)]
    for number in (0, 3):
        jobs[number].cancel()
    await asyncio.sleep(0)
    release()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert together.seen == [[1, 2, 4, 5]]
    worker.close()


async def test_one_item_can_fail_alone_and_a_failure_of_the_whole_holds_for_all() -> None:
    worker = Worker(Batches())
    release = blocked(worker)
    jobs = [worker.join(item) for item in ("a", ValueError("mine"), "c")]
    await asyncio.sleep(0)
    release()
    told = await asyncio.gather(*jobs, return_exceptions=True)
    assert told[::2] == ["done a", "done c"] and isinstance(told[1], ValueError)
    release = blocked(worker)
    jobs = [worker.join(item) for item in ("a", "all")]
    await asyncio.sleep(0)
    release()
    told = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(error) for error in told] == [LookupError, LookupError]
    assert await worker.join("still here") == "done still here"
    worker.close()


async def test_a_wrong_number_of_results_fails_closed() -> None:
    worker = Worker(lambda items: [])
    with pytest.raises(GuardError, match="0 results for 1 jobs"):
        await worker.join("a")
    worker.close()


async def test_what_is_queued_is_done_together_before_the_end() -> None:
    together = Batches()
    worker = Worker(together)
    release = blocked(worker)
    jobs = [worker.join(1), worker.join(2)]
    asyncio.get_running_loop().call_later(0.05, release)
    await asyncio.to_thread(worker.close)
    assert await asyncio.gather(*jobs) == ["done 1", "done 2"]


class Text:
    """Something that can be seen to be gone."""


async def test_an_idle_thread_keeps_nothing_alive() -> None:
    worker = Worker(lambda items: [None for _ in items])
    text, other = Text(), Text()
    gone = [weakref.ref(text), weakref.ref(other)]
    await asyncio.gather(worker.join(text), worker.submit(lambda text=other: None))  # type: ignore[misc]
    await worker.submit(lambda: None)
    del text, other
    await asyncio.sleep(0.05)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]
    worker.close()
