"""Ray alone: a call to an actor for each step, nothing kept."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.peers import serving
from benchmarks.suite.contenders import engine, rawray, rays

ACTORS = 2
PAGE = "https://docs.ray.io/en/latest/ray-core/actors/async_api.html"


class Worker:
    """An async actor: calls that wait do not hold each other up."""

    async def step(self, given: Any = None, change: str = "") -> Any:
        return rawray.step(given, change)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    async with rays.started(engine.settings_of(arguments)):
        import ray

        made = ray.remote(Worker).options(num_cpus=0, max_concurrency=1000)
        actors = [made.remote() for _ in range(ACTORS)]
        await asyncio.gather(*(actor.step.remote() for actor in actors))
        turns = itertools.cycle(actors)
        calls = rawray.Calls(
            lambda *given: next(turns).step.remote(*given),
            lambda seconds: next(turns).sleep.remote(seconds),
            ray.put,
        )
        told = rawray.facts(f"calls to {ACTORS} async actors, in turn", PAGE, ray.__version__)
        yield serving.Contender({"system": "ray_actors", **told}, rawray.workloads(calls))


if __name__ == "__main__":
    serving.serve(start)
