"""AgentFlow, strict, with its workers in actors of Ray."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from benchmarks.peers import serving
from benchmarks.suite.contenders import engine, rays

PERFORMER = "benchmarks.suite.contenders.bodies:open_performer"


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    async with rays.started(engine.settings_of(arguments)):
        from agentflow.distributed.dispatch import RayWorkers

        workers = RayWorkers("af/coordinator/bench", PERFORMER)
        async with engine.opened(arguments, "strict", workers, "agentflow_ray") as contender:
            del contender.workloads[
                "memory"
            ]  # its steps would wait for each other in other processes
            yield contender


if __name__ == "__main__":
    engine.serve(start)
