"""Making, listing and revoking keys, in a file or in the database: what `marbury keys` does."""

import time

from sqlalchemy.exc import IntegrityError

from marbury.audit import store
from marbury.audit.stage import DATABASE, reading
from marbury.errors import SettingsError
from marbury.serve import ServeSettings
from marbury.serve.keys import Keys, checked_name, hash_of, lines, new_key, read_file
from marbury.workspace import Workspace, write_atomic


def read_all_keys(ws: Workspace, settings: ServeSettings) -> Keys:
    """The keys that the settings name.

    Raises:
        SettingsError: they name none, or they cannot be read.
    """
    _need_keys(ws, settings)
    if settings.keys == DATABASE:
        with reading(ws, settings) as engine:
            return store.read_keys(engine)
    return read_file(ws.root / settings.keys)


def add_key(ws: Workspace, settings: ServeSettings, name: str) -> str:
    """Make a key, keep its hash, and give the key: nobody can show it again.

    Raises:
        SettingsError: there is one of that name.
    """
    key, known = new_key(), read_all_keys(ws, settings)
    if checked_name(name) in known:
        raise SettingsError(
            f"there is a key of the name {name}: choose another, or `marbury keys revoke {ws.root} {name}`"
        )
    if settings.keys == DATABASE:
        try:
            with reading(ws, settings) as engine:
                store.add_key(engine, name, hash_of(key), time.time())
        except IntegrityError as error:
            raise SettingsError(f"there is a key of the name {name} since just now: choose another") from error
    else:
        _write_keys(ws, settings, {**known, name: hash_of(key)})
    return key


def revoke_key(ws: Workspace, settings: ServeSettings, name: str) -> None:
    """Forget a key: who shows it does not come in again.

    Raises:
        SettingsError: there is none of that name.
    """
    known = read_all_keys(ws, settings)
    if name not in known:
        raise SettingsError(f"there is no key of the name {name}: `marbury keys list {ws.root}` shows them")
    if settings.keys == DATABASE:
        with reading(ws, settings) as engine:
            store.remove_key(engine, name)
    else:
        _write_keys(ws, settings, {other: digest for other, digest in known.items() if other != name})


def _write_keys(ws: Workspace, settings: ServeSettings, keys: Keys) -> None:
    path = ws.root / settings.keys
    write_atomic(path, lines(keys).encode())
    path.chmod(0o600)


def _need_keys(ws: Workspace, settings: ServeSettings) -> None:
    if not settings.keys:
        raise SettingsError(f'{ws.settings} names no keys: set keys = "keys" (a file) or "database" below [serve]')
