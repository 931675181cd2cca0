"""Runs the proxy until it is told to stop."""

import logging
import math
import sys
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from marbury.serve.service import Service
from marbury.serve.settings import ServeSettings

log = logging.getLogger("marbury.serve")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def run(app: Starlette, settings: ServeSettings) -> None:
    """Serve the app; returns after a stop signal, when the replies under way have ended.

    Raises:
        Exception: the guard could not be loaded; what was raised there.
    """
    journal_to_stdout()
    if settings.key_env and settings.host not in _LOOPBACK:
        log.warning("whoever reaches %s:%d spends the key in %s", settings.host, settings.port, settings.key_env)
    service: Service = app.state.service
    server = Draining(config(app, settings))
    server.service = service

    def leave() -> None:
        server.should_exit = True

    service.on_failure = leave
    server.run()
    if service.failure is not None:
        raise service.failure


class Draining(uvicorn.Server):
    """A server that says so when it was told to end."""

    service: Service | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A stop signal: `/readyz` says 503 from here on, and what is under way may end."""
        if self.service is not None:
            self.service.draining = True
            log.warning("told to end: up to %d requests may end", self.service.active)
        super().handle_exit(sig, frame)


def config(app: Starlette, settings: ServeSettings) -> uvicorn.Config:
    """How uvicorn runs the app: no access log beside the journal, no websockets, nothing told about itself."""
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        server_header=False,
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=math.ceil(settings.drain_s),
    )


def journal_to_stdout() -> None:
    """Write the journal's lines to standard output, unless logging was set up otherwise."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
