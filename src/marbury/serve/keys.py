"""API keys of the proxy's own: who has which, known by their hashes alone.

A ring does not know where its keys are kept: a file that is read again when it changes (here), or a database that
fills the ring from outside (`audit`). Where they cannot be read nobody comes in.
"""

import hashlib
import hmac
import logging
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from marbury.errors import SettingsError

log = logging.getLogger("marbury.serve")
Keys = Mapping[str, str]  # name -> sha256 of the key, in hex
PREFIX = "marbury-"
NAME = re.compile(r"[\w.@-]{1,64}", re.ASCII)
_HASH = re.compile(r"[0-9a-f]{64}")


def new_key() -> str:
    """A key that nobody guesses: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(key: str) -> str:
    """What is kept of a key. It is long and random, so that a plain sha256 cannot be searched."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def checked_name(name: str) -> str:
    """The name, if it can be one.

    Raises:
        SettingsError: it is none.
    """
    if not NAME.fullmatch(name):
        raise SettingsError(f"{name!r} cannot name a key: up to 64 letters, digits, points, dashes, underscores, @")
    return name


def parse(text: str, where: str) -> dict[str, str]:
    """The keys in a file's lines of `name:sha256`; empty lines and those that begin with `#` are nothing.

    Raises:
        SettingsError: a line is none; it is named by its number and never shown.
    """
    keys: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, digest = (part.strip() for part in line.partition(":"))
        if not NAME.fullmatch(name) or not _HASH.fullmatch(digest):
            raise SettingsError(f"{where}, line {number}: not NAME:SHA256: write it with `marbury keys add RUN NAME`")
        if name in keys:
            raise SettingsError(f"{where}, line {number}: a second key of the name {name}: remove one of them")
        keys[name] = digest
    return keys


def lines(keys: Keys) -> str:
    """The keys as a file's lines."""
    return "".join(f"{name}:{digest}\n" for name, digest in keys.items())


def read_file(path: Path) -> dict[str, str]:
    """The keys of a file; none where there is no file.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: the keys cannot be read ({type(error).__name__}): correct the file") from error


class KeyRing:
    """The keys that are valid now. `keys` is None while they cannot be read."""

    def __init__(self, keys: Keys | None = None, refresh: Callable[[], Keys | None] | None = None) -> None:
        self.keys = keys
        self._refresh = refresh

    def owner(self, key: str) -> str | None:
        """Whose key it is. Takes the same time whichever of them it is, and whether it is one."""
        if self._refresh is not None:
            self.keys = self._refresh()
        given, found = hash_of(key), None
        for name, digest in (self.keys or {}).items():
            if hmac.compare_digest(given, digest):
                found = name
        return found


def file_ring(path: Path) -> KeyRing:
    """A ring of a file's keys; a change of the file counts from the next request on.

    Raises:
        SettingsError: the file is not there, or cannot be read.
    """
    if not path.exists():
        raise SettingsError(
            f"[serve] keys names {path}, and there is no such file: `marbury keys add RUN NAME` makes it"
        )
    known: dict[str, Keys | None] = {"keys": read_file(path)}
    seen = [_stamp(path)]

    def refresh() -> Keys | None:
        now = _stamp(path)
        if now != seen[0]:
            seen[0] = now
            try:
                known["keys"] = read_file(path) if now else None
            except SettingsError as error:
                known["keys"] = None
                log.error("%s; until then nobody comes in", error)
        return known["keys"]

    return KeyRing(known["keys"], refresh)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size
