import asyncio
import threading
import time

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
