"""Fixtures for all tests: a real PostgreSQL, a fresh migrated database per test, data folders."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.journal import Submission
from agentflow.ids import new_id
from agentflow.store import embedded, migrate
from agentflow.store.pool import open_pool

_TEMPLATE = "migrated"


def pytest_configure() -> None:
    """A shell that runs us in the background makes us, and what we start, deaf to Ctrl-C; the tests of
    Ctrl-C need processes that hear it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def new_folder(base: str = "/tmp") -> Path:
    """A folder that the database server's user may enter; pytest's own may not be entered by it."""
    folder = Path(tempfile.mkdtemp(prefix="af-test-", dir=base))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    return folder


def _memory() -> str | None:
    """A file system in memory that is large enough: it spares the disk a thousand small commits."""
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return None
    roomy = status.f_bavail * status.f_frsize > 2_000_000_000
    return "/dev/shm" if roomy and not status.f_flag & os.ST_NOEXEC else None


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A data folder of the test's own, not there yet; its server is ended after the test."""
    folder = new_folder(_memory() or "/tmp")
    yield folder / "data"
    embedded.destroy(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[embedded.EmbeddedPostgres]:
    """The embedded server that all tests share; they get databases of their own on it."""
    folder = new_folder(_memory() or "/tmp")
    held = embedded.join(folder)
    yield held
    held.close()
    embedded.destroy(folder)
    shutil.rmtree(folder)


def database(dsn: str, name: str) -> str:
    """The address of another database on the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


@pytest.fixture(scope="session")
async def template(server: embedded.EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody is connected to."""
    await _execute(server.dsn, f"CREATE DATABASE {_TEMPLATE}")
    await asyncio.to_thread(migrate.upgrade, database(server.dsn, _TEMPLATE))
    return _TEMPLATE


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture
async def dsn(server: embedded.EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """The address of a fresh, migrated database."""
    name = f"test_{uuid.uuid4().hex}"
    await _execute(server.dsn, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield database(server.dsn, name)
    await _execute(server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def empty_dsn(server: embedded.EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a fresh database without any table."""
    name = f"test_{uuid.uuid4().hex}"
    await _execute(server.dsn, f"CREATE DATABASE {name}")
    yield database(server.dsn, name)
    await _execute(server.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool on the test's own database."""
    opened = await open_pool(dsn, max_size=8)
    yield opened
    await asyncio.wait_for(opened.close(), 10)


@pytest.fixture
def new_submission() -> Callable[..., Submission]:
    """Makes submissions of the default tenant, each with an id of its own."""

    def make(**changes: Any) -> Submission:
        values: dict[str, Any] = {
            "execution_id": new_id("exec"),
            "tenant": DEFAULT_TENANT,
            "content_hash": "sha256:0",
            "spec": {"nodes": [], "name": "sample"},
            "initial_state": {"user_input": "hello"},
            "workflow_name": "sample",
        }
        return Submission(**{**values, **changes})

    return make
