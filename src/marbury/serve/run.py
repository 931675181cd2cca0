"""Runs the proxy until it is told to stop."""

import logging
import sys

import uvicorn
from starlette.applications import Starlette

from marbury.serve.service import Service
from marbury.serve.settings import ServeSettings

log = logging.getLogger("marbury.serve")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
DRAIN_S = 30  # how long replies that are under way may take to end after a stop signal


def run(app: Starlette, settings: ServeSettings) -> None:
    """Serve the app; returns after a stop signal, when the replies under way have ended.

    Raises:
        Exception: the guard could not be loaded; what was raised there.
    """
    journal_to_stdout()
    if settings.key_env and not settings.keys and settings.host not in _LOOPBACK:
        log.warning("whoever reaches %s:%d spends the key in %s", settings.host, settings.port, settings.key_env)
    service: Service = app.state.service
    server = uvicorn.Server(config(app, settings))

    def leave() -> None:
        server.should_exit = True

    service.on_failure = leave
    server.run()
    if service.failure is not None:
        raise service.failure


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
        timeout_graceful_shutdown=DRAIN_S,
    )


def journal_to_stdout() -> None:
    """Write the journal's lines to standard output, unless logging was set up otherwise."""
    if not log.handlers and not logging.getLogger().handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)
