"""Ray alone: a task for each step, nothing kept."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator

from benchmarks.peers import serving
from benchmarks.suite.contenders import engine, rawray, rays

PAGE = "https://docs.ray.io/en/latest/ray-core/tasks.html"


def sleep(seconds: float) -> None:
    """A task holds its worker while it waits."""
    time.sleep(seconds)


@contextlib.asynccontextmanager
async def start(arguments: serving.Arguments) -> AsyncIterator[serving.Contender]:
    async with rays.started(engine.settings_of(arguments)):
        import ray

        step = ray.remote(rawray.step)
        waiting = ray.remote(num_cpus=0.001)(sleep)
        await step.remote()
        told = rawray.facts("tasks of Ray's default", PAGE, ray.__version__)
        workloads = rawray.workloads(rawray.Calls(step.remote, waiting.remote, ray.put))
        workloads["llm_fan"] = no_fan
        yield serving.Contender({"system": "ray_tasks", **told}, workloads)


async def no_fan(_: serving.Json) -> serving.Json:
    raise serving.Unsupported("1 000 tasks that wait would be 1 000 processes")


if __name__ == "__main__":
    serving.serve(start)
