"""How every request ends, whatever fails: with an answer while there can be one, and a row that says why."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from marbury.errors import GuardError, MarburyError
from marbury.serve.failures import BROKEN, TOO_LONG, Failure, failure_of
from marbury.serve.journal import Entry

log = logging.getLogger("marbury.serve")


async def finish(
    work: Awaitable[None], entry: Entry, max_seconds: float, fail: Callable[[Failure], Awaitable[None]]
) -> None:
    """Do the work of a request within its time; `fail` tells the client what went wrong."""
    try:
        async with asyncio.timeout(max_seconds):
            await work
    except TimeoutError:
        entry.error = f"longer than max_seconds = {max_seconds:g}"
        await fail(TOO_LONG)
    except MarburyError as error:
        entry.error = str(error)
        entry.judging_failed = isinstance(error, GuardError)
        await fail(failure_of(error))
    except asyncio.CancelledError:
        entry.outcome = "disconnected"
        raise
    except Exception:  # a mistake of ours closes like any other failure
        log.exception("request %s", entry.id)
        entry.error = "a mistake in the proxy: see the log"
        await fail(BROKEN)
