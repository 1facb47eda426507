"""What this machine can do at best: commits and batched rows of the database, task switches, the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.peers import serving

Json = Any
TABLE = """
CREATE TABLE IF NOT EXISTS rows (execution_id uuid, seq bigint, kind text, payload bytea, at timestamptz,
                                 PRIMARY KEY (execution_id, seq))"""
INSERT = """
INSERT INTO rows SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bytea[], $5::timestamptz[])"""
PAYLOAD = os.urandom(150).hex().encode()
"""About what an event of the journal weighs."""
CONNECTIONS = 2
"""As many as the journal writes on."""


class Limits:
    """Measured through asyncpg, as the engine writes."""

    def __init__(self, connections: list[asyncpg.Connection], folder: Path) -> None:
        self._connections, self._folder = connections, folder

    async def commits(self, asked: Json) -> Json:
        """Commits of a single row by one client, one after the other."""
        taken: list[float] = []
        began = time.perf_counter()
        while time.perf_counter() - began < asked["seconds"]:
            each = time.perf_counter()
            await self._insert(self._connections[0], 1)
            taken.append(time.perf_counter() - each)
        rate = len(taken) / (time.perf_counter() - began)
        figures = {"commits_per_s": rate, "commit_ms": 1e3 * statistics.median(taken)}
        return _told(figures, len(taken))

    async def rows(self, asked: Json) -> Json:
        """Rows in commits of so many, on as many connections as the engine writes on."""
        began = time.perf_counter()
        end_at = began + asked["seconds"]

        async def write(connection: asyncpg.Connection) -> int:
            written = 0
            while time.perf_counter() < end_at:
                await self._insert(connection, asked["batch"])
                written += asked["batch"]
            return written

        written = sum(await asyncio.gather(*map(write, self._connections)))
        return _told({"rows_per_s": written / (time.perf_counter() - began)}, written)

    async def switches(self, asked: Json) -> Json:
        """How often two tasks can hand over to each other."""
        count, end_at = 0, time.perf_counter() + asked["seconds"]

        async def turn() -> None:
            nonlocal count
            while time.perf_counter() < end_at:
                await asyncio.sleep(0)
                count += 1

        began = time.perf_counter()
        await asyncio.gather(turn(), turn())
        return _told({"switches_per_s": count / (time.perf_counter() - began)}, count)

    async def disk(self, asked: Json) -> Json:
        """Writing the bytes of one payload execution, each step's in a file of its own with fsync."""
        content = os.urandom(serving.PAYLOAD_BYTES)
        taken = []
        for _ in range(asked["rounds"]):
            began = time.perf_counter()
            for step in range(serving.PAYLOAD_STEPS):
                await asyncio.to_thread(_write, self._folder / f"payload-{step}", content)
            taken.append(time.perf_counter() - began)
        return _told({"payload_ms": 1e3 * statistics.median(taken)}, len(taken))

    async def _insert(self, connection: asyncpg.Connection, count: int) -> None:
        key, now = uuid.uuid4(), datetime.now(UTC)
        columns = (
            [key] * count,
            list(range(count)),
            ["step.completed"] * count,
            [PAYLOAD] * count,
            [now] * count,
        )
        await connection.execute(INSERT, *columns)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _told(figures: Json, steps: int) -> Json:
    return {
        "seconds": 0.0,
        "latencies_s": [],
        "steps": steps,
        "persisted": None,
        "figures": figures,
    }


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    connections = [await asyncpg.connect(arguments.dsn) for _ in range(CONNECTIONS)]
    await connections[0].execute(TABLE)
    limits = Limits(connections, arguments.folder)
    facts = {
        "system": "limits",
        "version": platform.python_version(),
        "setting": f"asyncpg {asyncpg.__version__}, {CONNECTIONS} connections",
        "page": "https://magicstack.github.io/asyncpg/",
        "persisted_before_next_step": "a commit each",
        "pids": [],
    }
    names = ("commits", "rows", "switches", "disk")
    try:
        yield serving.Contender(facts, {name: getattr(limits, name) for name in names})
    finally:
        for connection in connections:
            await connection.close()


if __name__ == "__main__":
    serving.serve(start)
