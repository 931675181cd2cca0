"""A small Ray of its own with two replicas of a drill's proxy; ends when its standard input does."""

import sys
from functools import partial

import ray
from ray import serve

from marbury.pipeline import drill_app
from marbury.serve import ServeSettings
from marbury.serve.scale import on_ray


def main(upstream: str, port: int) -> None:
    settings = ServeSettings(upstream=upstream, drain_s=2)
    ray.init(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(on_ray(partial(drill_app, "quillstone", settings), settings, cpus=0.5), name="guard")
    print("ready", flush=True)
    sys.stdin.read()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
