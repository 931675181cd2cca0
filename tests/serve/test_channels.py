"""Every row of the table, through a running proxy: what must be judged, refused or left out."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import channels
import pytest
from channels import HARMLESS, REPLIES, REQUESTS, Reply, Request
from rig import TRIGGER, Proxy, http, proxy

from marbury.serve.protocols.endpoints import ENDPOINTS

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def running() -> Iterator[Proxy]:
    with proxy([]) as one:
        yield one


def name(row: Request | Reply) -> str:
    return f"{row.endpoint} {row.channel}"


async def post(running: Proxy, endpoint: str, body: object) -> tuple[int, bytes, str]:
    """Status, body and outcome of one request."""
    before = len(running.journal)
    status, _, said = await http("POST", running.url + endpoint, json=body)
    return status, said, running.rows(before + 1)[before].outcome


@pytest.mark.parametrize("row", REQUESTS, ids=name)
async def test_no_channel_of_a_request_is_unread(running: Proxy, row: Request) -> None:
    asked = len(running.upstream.asked)
    status, said, outcome = await post(running, row.endpoint, row.body)
    assert len(running.upstream.asked) == asked
    if row.guarded == "judged":
        assert (status, outcome) == (200, "output_blocked" if "a reply's" in row.channel else "input_blocked")
    else:
        assert (row.guarded, status, outcome) == ("refused", 400, "refused")
        error = json.loads(said)["error"]
        assert row.field in (error.get("param") or error["message"])


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("row", REPLIES, ids=name)
async def test_no_channel_of_a_reply_is_unread(running: Proxy, row: Reply, stream: bool) -> None:
    upstream = running.upstream
    streams = stream and row.status == 200
    upstream.pieces, upstream.status = row.streamed if stream else [row.whole], row.status
    upstream.kind = "text/event-stream" if streams else "application/json"
    status, said, outcome = await post(
        running, row.endpoint, {"model": "m", **HARMLESS[row.endpoint], "stream": stream}
    )
    assert TRIGGER.encode() not in said and b"orbidd" not in said
    if row.status != 200:
        assert (row.guarded, status, outcome) == ("judged", row.status, "upstream_error")
    else:
        expected = {"judged": "output_blocked", "left out": "passed", "breaks off": "upstream_error"}
        assert outcome == expected[row.guarded]
        assert (outcome == "passed") == (b"green" in said or "redacted" in row.channel or b'"hm"' in said)


def test_every_endpoint_that_is_served_has_rows() -> None:
    served = {f"/v1{endpoint.path}" for endpoint in ENDPOINTS}
    assert served <= {row.endpoint for row in REQUESTS} and served <= {row.endpoint for row in REPLIES}


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("channels_docs", ROOT / "scripts" / "channels_docs.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_fresh() -> None:
    module = script()
    assert module.PAGE.read_text() == module.page(), "run `make docs`"


def test_a_stale_page_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = script()
    monkeypatch.setattr(module, "PAGE", tmp_path / "channels.md")
    monkeypatch.setattr("sys.argv", ["channels_docs.py"])
    assert module.main() == 0
    monkeypatch.setattr("sys.argv", ["channels_docs.py", "--check"])
    assert module.main() == 0
    monkeypatch.setattr(channels, "REPLIES", REPLIES[:-1])
    assert module.main() == 1
