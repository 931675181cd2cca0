"""`marbury keys`, with a file and with both databases."""

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from marbury.audit.keyring import add_key, read_all_keys, revoke_key
from marbury.audit.stage import open_audit
from marbury.cli import app
from marbury.errors import SettingsError
from marbury.serve.keys import hash_of
from marbury.serve.settings import ServeSettings
from marbury.workspace import Workspace


@pytest.fixture(params=["keys", "database"])
def kept(request: pytest.FixtureRequest, url: str) -> ServeSettings:
    return ServeSettings(audit=url, keys=request.param)


def test_a_key_is_made_known_by_its_hash_and_revoked(ws: Workspace, kept: ServeSettings) -> None:
    key, other = add_key(ws, kept, "reader"), add_key(ws, kept, "writer")
    assert key != other and key.startswith("marbury-") and len(key) > 40
    assert read_all_keys(ws, kept) == {"reader": hash_of(key), "writer": hash_of(other)}
    with pytest.raises(SettingsError, match="there is a key of the name reader"):
        add_key(ws, kept, "reader")
    revoke_key(ws, kept, "reader")
    assert read_all_keys(ws, kept) == {"writer": hash_of(other)}
    with pytest.raises(SettingsError, match="there is no key of the name reader"):
        revoke_key(ws, kept, "reader")
    with pytest.raises(SettingsError, match="cannot name a key"):
        add_key(ws, kept, "two words")


def test_the_file_is_for_its_owner_alone_and_holds_no_key(ws: Workspace) -> None:
    settings = ServeSettings(keys="keys")
    key = add_key(ws, settings, "reader")
    path = ws.root / "keys"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and key not in path.read_text()
    ring = open_audit(ws, ServeSettings(audit="", keys="keys")).door.ring
    assert ring is not None and ring.owner(key) == "reader" and ring.owner(key + "x") is None


def test_no_keys_and_no_file_are_named(ws: Workspace) -> None:
    with pytest.raises(SettingsError, match='set keys = "keys"'):
        read_all_keys(ws, ServeSettings())
    with pytest.raises(SettingsError, match=r"no such file: `marbury keys add"):
        open_audit(ws, ServeSettings(audit="", keys="keys"))


def run(root: Path, *words: str) -> Result:
    (root / "constitution.md").write_text("# Tales\n")
    (root / "marbury.toml").write_text(f"[serve]\nkeys = {json.dumps('keys')}\n")
    return CliRunner().invoke(app, ["keys", *words])


def test_the_verb(tmp_path: Path) -> None:
    made = run(tmp_path, "add", str(tmp_path), "reader")
    key = made.stdout.strip()
    assert made.exit_code == 0 and "shown this once" in made.stderr
    assert hash_of(key) in (tmp_path / "keys").read_text()
    listed = run(tmp_path, "list", str(tmp_path))
    assert listed.stdout.strip() == f"reader  sha256:{hash_of(key)[:12]}"
    assert run(tmp_path, "revoke", str(tmp_path), "reader").exit_code == 0
    assert run(tmp_path, "list", str(tmp_path)).stdout == ""
    assert run(tmp_path, "revoke", str(tmp_path), "reader").exit_code == 1
    for wrong in (["show", str(tmp_path)], ["add", str(tmp_path)], ["list", str(tmp_path), "reader"]):
        assert run(tmp_path, *wrong).exit_code == 2
