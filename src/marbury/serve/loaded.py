"""An app that starts only when its guard is loaded: for one of several that share the requests."""

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette

from marbury.serve.service import Service


def when_loaded(app: Starlette) -> None:
    """Let the app's start wait for its guard; it fails if that cannot be loaded."""
    service: Service = app.state.service
    start = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with start(app):
            await service.loaded()
            yield

    app.router.lifespan_context = lifespan
