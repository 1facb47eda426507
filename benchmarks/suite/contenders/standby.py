"""Another engine on the contender's database: it goes on with what the contender was killed in."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path

import asyncpg
import uvloop

from agentflow.engine.workers import InProcessWorkers
from agentflow.flow import open_coordinator
from benchmarks.peers import serving
from benchmarks.suite.contenders import engine
from benchmarks.suite.contenders.bodies import open_performer

PAUSE_S = 0.2


async def stand_by(arguments: serving.Arguments) -> None:
    """Until the process that started this one is gone, and nothing is left to do."""
    parent = os.getppid()
    settings = engine.settings_of(arguments)
    workers = InProcessWorkers(open_performer(settings))
    opened = await open_coordinator(settings, f"standby/{os.getpid()}", workers)
    connection = await asyncpg.connect(arguments.dsn)
    print("ready", flush=True)
    while os.getppid() == parent or await connection.fetchval(engine.OPEN):  # noqa: ASYNC110
        await asyncio.sleep(PAUSE_S)
    await connection.close()
    await opened.drain()
    await opened.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--dsn", required=True)
    given = parser.parse_args()
    uvloop.run(stand_by(serving.Arguments(given.folder, given.dsn)))


if __name__ == "__main__":
    main()
