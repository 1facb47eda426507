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
            # The coordinator is this very process: what becomes of a killed one beside another is measured
            # by benchmarks.recovery. Steps that wait for each other cannot in several processes.
            for name in ("recovery", "recover", "memory", "growth"):
                del contender.workloads[name]
            yield contender


if __name__ == "__main__":
    serving.serve(start)
