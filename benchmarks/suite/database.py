"""The PostgreSQL that all contenders share; each gets a database of its own on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from agentflow.store import embedded

SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "wal_level")


@contextlib.contextmanager
def folder_of_its_own(prefix: str = "af-bench-") -> Iterator[Path]:
    """A folder on disk that the database server's user may enter; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Database:
    """A server of our own, with fsync and synchronous_commit on."""

    def __init__(self, folder: Path) -> None:
        self._data_dir = folder / "database"
        self._held = embedded.join(self._data_dir)

    @property
    def pids(self) -> list[int]:
        """The supervisor of the server, whose children are all of its processes."""
        return [int((self._data_dir / "postgres" / "supervisor.lock").read_text())]

    @contextlib.asynccontextmanager
    async def fresh(self, name: str) -> AsyncIterator[str]:
        """The address of a database that exists only within."""
        await self._execute(f'CREATE DATABASE "{name}"')
        try:
            yield urlunsplit(urlsplit(self._held.dsn)._replace(path=f"/{name}"))
        finally:
            await self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def settings(self) -> dict[str, str]:
        """What the server says of itself."""
        connection = await asyncpg.connect(self._held.dsn)
        try:
            return {name: await connection.fetchval(f"SHOW {name}") for name in SETTINGS}
        finally:
            await connection.close()

    async def rest(self) -> None:
        """Write out what former contenders have left to write, so that none pays for another's."""
        await self._execute("CHECKPOINT")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self._held.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def close(self) -> None:
        self._held.close()
        embedded.destroy(self._data_dir)


def named(contender: str, round_: int) -> str:
    """The name of a contender's database in a round."""
    return f"bench_{contender}_{round_}_{os.getpid()}"
