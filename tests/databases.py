"""Fixtures with both databases of the audit: what holds for one is to hold for the other."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, cluster
from sqlalchemy import Engine, text

from marbury.audit.database import database_url, open_engine
from marbury.audit.schema import ensure
from marbury.serve.settings import ServeSettings
from marbury.workspace import Workspace


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """One server for all tests; each empties it before."""
    with cluster() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty database: its URL as one writes it in marbury.toml."""
    if request.param == "sqlite":
        return "sqlite:///audit/audit.db"
    running: Cluster = request.getfixturevalue("postgres")
    emptied(running)
    return running.url


def emptied(running: Cluster) -> None:
    engine = open_engine(database_url(running.url, Path()))
    with engine.begin() as connection:
        connection.execute(text("drop schema public cascade"))
        connection.execute(text("create schema public"))
    engine.dispose()


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


@pytest.fixture
def settings(url: str) -> ServeSettings:
    return ServeSettings(audit=url)


@pytest.fixture
def engine(ws: Workspace, url: str) -> Iterator[Engine]:
    """The database with its tables."""
    with contextlib.closing(_Opened(open_engine(database_url(url, ws.root)))) as opened:
        ensure(opened.engine)
        yield opened.engine


class _Opened:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.close = engine.dispose
