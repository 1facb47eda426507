"""AgentFlow, relaxed, with its workers in its own process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from agentflow.engine.workers import InProcessWorkers
from benchmarks.peers import serving
from benchmarks.suite.contenders import engine
from benchmarks.suite.contenders.bodies import open_performer


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    workers = InProcessWorkers(open_performer(engine.settings_of(arguments)))
    system = "agentflow_relaxed"
    async with engine.opened(arguments, "relaxed", workers, system, standby=True) as contender:
        yield contender


if __name__ == "__main__":
    serving.serve(start)
