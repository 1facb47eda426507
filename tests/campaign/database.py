"""A PostgreSQL of the campaign: a server of its own, reached by the system through a proxy of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from agentflow.store import embedded
from tests.campaign.proxy import Proxy

POLL_S = 0.02


class Database:
    """One server below a folder. It notes when each transaction was committed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dsn = ""
        self.proxy = Proxy(0)
        self._embedded: embedded.EmbeddedPostgres | None = None

    @property
    def through(self) -> str:
        """Its address by way of the proxy."""
        parts = urlsplit(self.dsn)
        place = parts.netloc.rpartition(":")[0] + f":{self.proxy.port}"
        return urlunsplit(parts._replace(netloc=place))

    async def open(self) -> None:
        self._embedded = await asyncio.to_thread(embedded.join, self.folder)
        self.dsn = self._embedded.dsn
        await self.execute("ALTER SYSTEM SET track_commit_timestamp = on")
        os.kill(self.postmaster(), signal.SIGINT)
        await self.until_up(lambda: True)
        self.proxy.target = urlsplit(self.dsn).port or 0
        await self.proxy.start()

    async def close(self) -> None:
        """The server ends when nobody holds it any more; then :meth:`remove` it."""
        await self.proxy.close()
        if self._embedded is not None:
            await asyncio.to_thread(self._embedded.close)

    async def remove(self) -> None:
        await asyncio.to_thread(embedded.destroy, self.folder)

    async def execute(self, statements: str) -> None:
        """Past the proxy."""
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statements)
        finally:
            await connection.close()

    async def until(self, statement: str, *values: object, limit_s: float = 60.0) -> None:
        """Wait until a query, asked past the proxy, gives true. Raises TimeoutError."""
        connection = await asyncpg.connect(self.dsn)
        try:
            async with asyncio.timeout(limit_s):
                while not await connection.fetchval(statement, *values):
                    await asyncio.sleep(POLL_S)
        finally:
            await connection.close()

    async def until_up(self, good: Callable[[], bool], limit_s: float = 60.0) -> None:
        """Wait until the server answers, asked past the proxy."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                connection = await asyncpg.connect(self.dsn, timeout=5)
                on = await connection.fetchval("SHOW track_commit_timestamp")
                await connection.close()
                if on == "on" and good():
                    return
            except (OSError, asyncpg.PostgresError):
                pass  # it starts
            if time.monotonic() > deadline:
                raise TimeoutError("The database does not come back")
            await asyncio.sleep(0.1)

    def postmaster(self) -> int:
        return int((self.folder / "postgres/data/postmaster.pid").read_text().split()[0])

    def log(self) -> str:
        home = self.folder / "postgres"
        parts = [home / "log.1", home / "log"]
        return "".join(part.read_text(errors="replace") for part in parts if part.exists())
