"""The proxy as a deployment of Ray Serve (extra `scale`): the same app in each replica, on as many machines as Ray has.

A request is one call to one replica, so a stream cannot move: its guard, its upstream call and its state are there
until it ends, and a replica that dies takes its own streams with it. Ray is imported when it is used.
"""

import logging
from typing import TYPE_CHECKING

from starlette.applications import Starlette

from marbury.errors import SettingsError
from marbury.serve.loaded import when_loaded
from marbury.serve.run import warn_of_key, write_journal
from marbury.serve.settings import ServeSettings
from marbury.serve.worker import MakeApp

if TYPE_CHECKING:
    from ray.serve import Application

log = logging.getLogger("marbury.serve")


def on_ray(make: MakeApp, settings: ServeSettings, *, replicas: int = 2, cpus: float = 1.0) -> "Application":
    """What `ray.serve.run` takes: `make` is called in each replica, which gets requests once its guard is loaded.

    `cpus`: what Ray reserves for a replica. A replica that has `max_streams` requests gets no more; as many again wait
    at Ray's proxy, and the next are answered 503 there.

    Raises:
        SettingsError: the extra `scale` is not installed.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise SettingsError("Ray Serve is not installed: pip install 'marbury[scale]'") from error
    warn_of_key(settings)

    def build() -> Starlette:
        write_journal()
        app = make()
        when_loaded(app)
        return app

    deployment = serve.deployment(
        serve.ingress(build)(),
        name="marbury",
        num_replicas=replicas,
        max_ongoing_requests=settings.max_streams,
        max_queued_requests=settings.max_streams,
        graceful_shutdown_timeout_s=settings.drain_s,
        ray_actor_options={"num_cpus": cpus},
    )
    return deployment.bind()
