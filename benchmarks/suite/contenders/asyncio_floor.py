"""asyncio alone: no engine, nothing kept. What a workload costs when nobody does anything for it."""

from __future__ import annotations

import asyncio
import contextlib
import platform
from collections.abc import AsyncIterator
from typing import Any

from benchmarks.peers import serving

Json = Any


async def no_op() -> None:
    """The body of a step."""


async def chain10() -> None:
    for _ in range(serving.CHAIN_STEPS):
        await asyncio.create_task(no_op())


async def fan(width: int, step_s: float) -> None:
    await asyncio.create_task(no_op())
    await asyncio.gather(*(asyncio.sleep(step_s) if step_s else no_op() for _ in range(width)))
    await asyncio.create_task(no_op())


async def branch(name: str) -> None:
    for position in range(6):
        await asyncio.sleep(serving.branch_seconds(name, position))


async def uneven() -> None:
    await asyncio.gather(*map(branch, serving.UNEVEN_SLOW_AT))
    await asyncio.create_task(no_op())


async def payload() -> None:
    carried = serving.payload_text()

    async def step(text: str, number: int) -> str:
        return f"{number}{text[1:]}"

    for number in range(serving.PAYLOAD_STEPS):
        carried = await asyncio.create_task(step(carried, number))


class Floor:
    """The workloads."""

    async def chain10(self, asked: Json) -> Json:
        done = await serving.in_flight(asked["executions"], asked["in_flight"], chain10)
        return {**done, "steps": serving.CHAIN_STEPS * asked["executions"], "persisted": None}

    async def fan100(self, asked: Json) -> Json:
        done = await serving.in_flight(
            asked["executions"], asked["in_flight"], lambda: fan(serving.FAN_WIDTH, 0.0)
        )
        return {**done, "steps": serving.FAN_STEPS * asked["executions"], "persisted": None}

    async def uneven(self, asked: Json) -> Json:
        done = await serving.in_flight(asked["rounds"], 1, uneven)
        return {**done, "steps": serving.UNEVEN_STEPS * asked["rounds"], "persisted": None}

    async def llm_fan(self, asked: Json) -> Json:
        count, width = asked["executions"], asked["width"]
        done = await serving.in_flight(count, count, lambda: fan(width, asked["step_s"]))
        return {**done, "steps": (width + 2) * count, "persisted": None}

    async def payload(self, asked: Json) -> Json:
        done = await serving.in_flight(asked["executions"], 1, payload)
        return {**done, "steps": serving.PAYLOAD_STEPS * asked["executions"], "persisted": None}

    async def memory(self, asked: Json) -> Json:
        gate = asyncio.Event()
        waiting = [asyncio.create_task(gate.wait()) for _ in range(asked["in_flight"])]
        await asyncio.sleep(0.5)
        gate.set()
        await asyncio.gather(*waiting)
        return {"seconds": 0.5, "latencies_s": [], "steps": len(waiting), "persisted": None}


@contextlib.asynccontextmanager
async def start(_: serving.Arguments) -> AsyncIterator[serving.Contender]:
    floor = Floor()
    names = ("chain10", "fan100", "uneven", "llm_fan", "payload", "memory")
    facts = {
        "system": "asyncio",
        "version": platform.python_version(),
        "setting": "tasks of one event loop",
        "page": "https://docs.python.org/3/library/asyncio.html",
        "persisted_before_next_step": "nothing",
        "pids": [],
    }
    yield serving.Contender(facts, {name: getattr(floor, name) for name in names})


if __name__ == "__main__":
    serving.serve(start)
