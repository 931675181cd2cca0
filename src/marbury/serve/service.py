"""What all requests share: the judge once it is loaded, the upstream, the journal and the metrics."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from marbury.guard import Judge
from marbury.serve.journal import Entry, Journal
from marbury.serve.metrics import Metrics
from marbury.serve.policies import Policies
from marbury.serve.settings import ServeSettings
from marbury.serve.upstream import Upstream

log = logging.getLogger("marbury.serve")


class Service:
    """Loads the guards in a thread while the server already answers that it is not ready."""

    def __init__(self, policies: Policies, settings: ServeSettings, journal: Journal) -> None:
        self.settings = settings
        self.drill = ""  # the word that is stopped in place of what a classifier would
        self.upstream = Upstream(settings)
        self.metrics = Metrics()
        self.policies = policies
        self.failure: Exception | None = None  # why the guard could not be loaded
        self.on_failure: Callable[[], None] | None = None
        self.draining = False  # it was told to end: what is under way may end, and `/readyz` sends others away
        self.active = 0  # requests under way
        self._journal = journal
        self._tasks: set[asyncio.Task[None]] = set()
        self._loading: asyncio.Task[None] | None = None

    @property
    def judge(self) -> Judge | None:
        """The guard that decides; there once it has scored its first exchange."""
        return self.policies.judge

    async def start(self) -> None:
        """Open the upstream and begin to load the guards."""
        await self.upstream.open()
        self._loading = asyncio.create_task(self._load())

    async def stop(self) -> None:
        """Write what is still to be written, then close everything."""
        if self._loading is not None:
            self._loading.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self.upstream.close()
        await asyncio.to_thread(self.policies.close)

    def later(self, work: Coroutine[Any, Any, None]) -> None:
        """Do work that no client waits for; `stop` waits for it."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def record(self, entry: Entry, judge: Judge | None) -> None:
        """Put a request that has ended into the journal and the metrics."""
        modes = (judge.input_mode, judge.output_mode) if judge else (self.settings.input, self.settings.output)
        self.metrics.count(entry, *modes)
        entry.drill = self.drill or None
        self._journal(entry)

    async def _load(self) -> None:
        try:
            await self.policies.load()
        except Exception as error:  # whatever it is, the server must not look as if it were still loading
            self.failure = error
            log.error("the guard could not be loaded: %s", error)
            if self.on_failure is not None:
                self.on_failure()
            return
        await self.policies.keep_fresh()
