"""What LiteLLM's proxy and NeMo Guardrails cost beside Marbury: started, measured in turn with it, ended.

    python benchmarks/rival_proxies.py --litellm VENV --nemo VENV [--limit-s 300] [--run RUN]

Each VENV is a virtual environment of its own (`pip install 'litellm[proxy]'`, `pip install 'nemoguardrails[server]'`);
one that is not given is left out. All of them listen on loopback in front of the endpoint of `benchmarks/proxy.py`,
whose columns these are. Whatever guards looks for a word that nobody says, so what is measured is the serving alone:

- `null`: Marbury with a scorer that finds nothing; with `--run` also `classifiers`, its own
- `litellm`: without a guardrail
- `litellm + filter`: with its own content filter, one blocked word
- `litellm + marbury`: with its generic guardrail API, which asks a second `null` as docs/serve.md shows; the CPU of
  that one is not counted
- `nemo`: its regex rails, streaming as it does by default (a text leaves before its chunk is judged)

The long stream shows whether a token costs more the longer the reply. Rounds are as many as fit into the time, three at
most; one is always made, so a slow machine may need longer.
"""

import argparse
import asyncio
import os
import secrets
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
from proxy import Point, Way, measured, median, server, table, title, warm
from rich.console import Console
from rich.table import Table

PLAN = ((1, 200, 0), (16, 200, 0), (1, 200, 10), (16, 200, 10), (1, 1600, 0))  # streams, tokens, ms a token
ROUNDS = 3

LITELLM = """
model_list:
  - model_name: m
    litellm_params: {model: openai/m, api_base: UPSTREAM, api_key: none}
"""
FILTER = """
guardrails:
  - guardrail_name: word
    litellm_params:
      guardrail: litellm_content_filter
      mode: [pre_call, post_call]
      default_on: true
      blocked_words: [{keyword: quillstone, action: BLOCK}]
"""
MARBURY = """
guardrails:
  - guardrail_name: marbury
    litellm_params: {guardrail: generic_guardrail_api, mode: [pre_call, post_call], api_base: GUARD, default_on: true}
"""
NEMO = """
models:
  - {type: main, engine: openai, model: m, parameters: {base_url: UPSTREAM}}
rails:
  config:
    regex_detection:
      input: {patterns: [quillstone], case_insensitive: true}
      output: {patterns: [quillstone], case_insensitive: true}
  input: {flows: [regex check input]}
  output: {flows: [regex check output], streaming: {enabled: true}}
"""
# Its own command listens on every address.
NEMO_SERVER = """
import sys, uvicorn
from nemoguardrails.server import api
api.app.rails_config_path = sys.argv[1]
api.set_default_config_id("word")
uvicorn.run(api.app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
"""


class Started(NamedTuple):
    """Another's server: how to reach it and where it writes what it has to say."""

    way: Way
    log: Path


@contextmanager
def started(command: list[str], folder: Path, key: str) -> Iterator[Started]:
    """A server that is told its port last, until it is ended with all its children."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "DO_NOT_TRACK": "1", "NEMO_GUARDRAILS_NO_USAGE_STATS": "1"}
    env = os.environ | quiet | {"LITELLM_MASTER_KEY": key, "OPENAI_API_KEY": "none", "PYTHONPATH": ""}
    log = folder / f"{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*command, str(port)], cwd=folder, env=env, stdout=out, stderr=subprocess.STDOUT)
    family = psutil.Process(process.pid)
    try:
        yield Started(Way(f"http://127.0.0.1:{port}/v1", family, key), log)
    finally:
        for one in (*family.children(recursive=True), family):
            one.terminate()
        process.wait(20)


def litellm(venv: Path, folder: Path, config: str) -> list[str]:
    """The command of a LiteLLM proxy with such a configuration."""
    file = folder / "litellm.yaml"
    file.write_text(config, encoding="utf-8")
    return [str(venv / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port"]


def nemo(venv: Path, folder: Path, config: str) -> list[str]:
    """The command of a NeMo Guardrails server with such a configuration."""
    (folder / "word").mkdir()
    (folder / "word" / "config.yml").write_text(config, encoding="utf-8")
    return [str(venv / "bin" / "python"), "-c", NEMO_SERVER, str(folder)]


def rivals(options: argparse.Namespace, upstream: str, guard: str, running: ExitStack) -> dict[str, Started]:
    """All that were asked for, starting."""
    kinds = {
        "litellm": (litellm, options.litellm, LITELLM),
        "litellm + filter": (litellm, options.litellm, LITELLM + FILTER),
        "litellm + marbury": (litellm, options.litellm, LITELLM + MARBURY),
        "nemo": (nemo, options.nemo, NEMO),
    }
    key, all_started = f"sk-{secrets.token_hex(24)}", dict[str, Started]()
    for name, (command_of, venv, config) in kinds.items():
        if venv:
            folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
            filled = config.replace("UPSTREAM", f'"{upstream}"').replace("GUARD", f'"{guard}"')
            command = command_of(venv.absolute(), folder, filled)
            all_started[name] = running.enter_context(started(command, folder, key))
    return all_started


def growth(short: dict[str, list[Point]], long: dict[str, list[Point]]) -> Table:
    """What a token of a long reply costs over one of a short reply."""
    shown = Table("", "CPU ms a token, short", "long", "long / short", title="one stream, as fast as it goes")
    for name in short:
        before, after = median(short[name]).cpu_ms, median(long[name]).cpu_ms
        if before and after:
            shown.add_row(name, f"{before:.3f}", f"{after:.3f}", f"{after / before:.2f}")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--litellm", type=Path, metavar="VENV", help="with litellm[proxy]")
    parser.add_argument("--nemo", type=Path, metavar="VENV", help="with nemoguardrails[server]")
    parser.add_argument("--run", type=Path, help="a run folder with classifiers, to measure those too")
    parser.add_argument("--limit-s", type=float, default=300.0, help="about how long all of it may take")
    options = parser.parse_args()
    console, began = Console(width=120), time.perf_counter()
    with ExitStack() as running:
        upstream = running.enter_context(server("endpoint")).url
        guard = running.enter_context(server("null", upstream)).url.removesuffix("/v1")
        others = rivals(options, upstream, guard, running)
        ways = {"direct": Way(upstream)}
        for kind in ("pass-through", "null", *(["classifiers"] if options.run else [])):
            run = options.run if kind == "classifiers" else None
            ways[kind] = running.enter_context(server(kind, upstream, run))
        ways |= {name: one.way for name, one in others.items()}
        for name, way in ways.items():
            try:
                asyncio.run(warm(way))
            except SystemExit as error:
                said = others[name].log.read_text(encoding="utf-8", errors="replace") if name in others else ""
                raise SystemExit(f"{name}: {error}\n{said[-3000:]}") from None
        results = []
        for number, (streams, tokens, delay_ms) in enumerate(PLAN):
            left = options.limit_s - (time.perf_counter() - began)
            points = measured(ways, streams, tokens, delay_ms, ROUNDS, left / (len(PLAN) - number))
            console.print(table(title(streams, tokens, delay_ms, points), points))
            results.append(points)
        console.print(growth(results[0], results[-1]))


if __name__ == "__main__":
    main()
