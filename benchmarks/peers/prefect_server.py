"""Prefect: flows in this process, their states on its server, results in files."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.peers.driving import RECOVERY, Driver, until_true
from benchmarks.peers.environments import HOME
from benchmarks.peers.servers import ServerFailed, server
from benchmarks.peers.serving import Arguments, Contender, Json, Unsupported, serve

MOST_FLOWS = {True: 10, False: 200}
"""At once, over SQLite or not."""
SETTING = (
    "async flows and tasks of one process, a server of its own over {database} (scheduler, late runs, "
    "analytics and UI off, logs not sent to it); persist_result=True, cache policy INPUTS + TASK_SOURCE"
)
PAGE = "https://docs.prefect.io/v3/advanced/results"
COUNT = """
    SELECT count(*) FROM task_run t JOIN flow_run f ON t.flow_run_id = f.id
    WHERE f.name LIKE '{run}%' AND t.state_type = 'COMPLETED'
"""
COUNT_RECOVERED = """
    SELECT coalesce(max(each_run.steps), 0) FROM (
        SELECT count(*) AS steps FROM task_run t JOIN flow_run f ON t.flow_run_id = f.id
        WHERE f.name LIKE '{run}%' AND t.state_type = 'COMPLETED' GROUP BY f.id
    ) AS each_run
"""
"""The second flow run has all of them: those of the first are completed there from their results."""
EXTENSION = "SELECT count(*) FROM pg_available_extensions"
SETTLED_S = 60.0
Count = Callable[[str], Awaitable[int]]


class InProcess:
    """Flows, called. They can be imported only when the settings are in the environment."""

    def __init__(self, count: Count, most_flows: int) -> None:
        self._count, self._most_flows = count, most_flows
        self._flows = importlib.import_module("benchmarks.peers.prefect_flows")

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        if workflow == "gate" and given["until"] > self._most_flows:
            raise Unsupported(
                f"More than {self._most_flows} flow runs at once end in refusals (503) of its server "
                "over this database, or in timeouts of its client."
            )
        await getattr(self._flows, workflow)(execution, **given)

    async def resume(self, execution: str) -> None:
        """Calling the flow again with the same parameters: finished tasks are taken from their results."""
        await self.execute("recovery", execution, {})

    async def persisted(self, run: str, expected: int) -> int:
        """Tasks that the server has as completed; it learns of them by events, some time later."""
        statement = (COUNT_RECOVERED if run == RECOVERY else COUNT).format(run=run)
        seen = 0

        async def all_there() -> bool:
            nonlocal seen
            seen = await self._count(statement)
            return seen >= expected

        with contextlib.suppress(TimeoutError):
            await until_true(all_there, within_s=SETTLED_S, pause_s=0.2)
        return seen


async def empty_database() -> Path:
    """A database of SQLite with Prefect's tables and nothing in them, made once: that takes 20 s."""
    made = HOME / "prefect" / f"empty-{version('prefect')}.db"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=made.parent) as folder:
            file = Path(folder) / "prefect.db"
            upgrade = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"),
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **settings(Path(folder), f"sqlite+aiosqlite:///{file}")},
            )
            if await upgrade.wait():
                raise ServerFailed("Prefect could not make its tables; what it said is above.")
            file.rename(made)
    return made


@asynccontextmanager
async def database(arguments: Arguments) -> AsyncIterator[tuple[str, str, Count]]:
    """Where the server keeps its states: what that is, its address, and how to count there.

    It is PostgreSQL where that has the extension that Prefect needs, and otherwise Prefect's default.
    """
    connection = await asyncpg.connect(arguments.dsn)
    try:
        if await connection.fetchval(f"{EXTENSION} WHERE name = 'pg_trgm'"):
            address = arguments.dsn.replace("postgresql://", "postgresql+asyncpg://", 1)
            yield "PostgreSQL", address, connection.fetchval
            return
    finally:
        await connection.close()
    file = arguments.folder / "prefect.db"
    if not file.exists():
        shutil.copyfile(await empty_database(), file)

    async def count(statement: str) -> int:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as kept:
            return kept.execute(statement).fetchone()[0]

    yield (
        "its default, SQLite, since this PostgreSQL lacks pg_trgm",
        f"sqlite+aiosqlite:///{file}",
        count,
    )


def settings(folder: Path, address: str) -> dict[str, str]:
    return {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_DATABASE_CONNECTION_URL": address,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": "false",
        "PREFECT_SERVER_SERVICES_LATE_RUNS_ENABLED": "false",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "BENCH_PREFECT_FOLDER": str(folder),
    }


@asynccontextmanager
async def start(arguments: Arguments) -> AsyncIterator[Contender]:
    folder = arguments.folder

    def command(ports: Any) -> list[str]:
        listen = ["--host", "127.0.0.1", "--port", str(ports["api"])]
        return [sys.executable, "-m", "prefect", "server", "start", *listen]

    async with database(arguments) as (kind, address, count):
        os.environ.update(settings(folder, address))
        async with server("server", folder, ("api",), command) as running:
            os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{running.ports['api']}/api"
            most_flows = MOST_FLOWS[address.startswith("sqlite")]
            facts = {
                "system": "Prefect",
                "version": version("prefect"),
                "setting": SETTING.format(database=kind),
                "page": PAGE,
                "persisted_before_next_step": (
                    "the task's result in a file, not synced; its state reaches the server's database later"
                ),
                "pids": [running.pid],
            }
            yield Contender(facts, Driver(InProcess(count, most_flows)).workloads())


if __name__ == "__main__":
    serve(start)
