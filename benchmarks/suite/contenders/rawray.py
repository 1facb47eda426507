"""Workflows of calls on Ray, by hand: nothing is kept, so nothing can be gone on with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.peers import driving, serving

Json = Any
Call = Callable[..., Awaitable[Any]]
"""Starts a step with what it is given; awaited, it is what the step gave."""


def step(given: Any = None, change: str = "") -> Any:
    """The body of a step that waits for nothing."""
    return change + given[1:] if change else given


class Calls:
    """``call`` starts a step that returns at once, ``sleep`` one that waits so many seconds."""

    def __init__(self, call: Call, sleep: Call, put: Callable[[Any], Any]) -> None:
        self._call, self._sleep, self._put = call, sleep, put

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        """See ``benchmarks.peers.driving.Peer``."""
        if workflow == "chain10":
            for _ in range(serving.CHAIN_STEPS):
                await self._call()
        elif workflow == "fan":
            await self._fan(given["width"], given["step_s"])
        elif workflow == "uneven":
            await asyncio.gather(*map(self._branch, serving.UNEVEN_SLOW_AT))
            await self._call()
        elif workflow == "payload":
            await self._payload()
        else:
            raise serving.Unsupported(f"no calls of Ray are written for {workflow}")

    async def resume(self, execution: str) -> None:
        raise serving.Unsupported("Ray's calls keep nothing, so there is nothing to go on with")

    async def persisted(self, run: str, expected: int) -> int | None:
        return None

    async def _fan(self, width: int, step_s: float) -> None:
        await self._call()
        steps = (self._sleep(step_s) if step_s else self._call() for _ in range(width))
        await asyncio.gather(*steps)
        await self._call()

    async def _branch(self, name: str) -> None:
        for position in range(6):
            await self._sleep(serving.branch_seconds(name, position))

    async def _payload(self) -> None:
        """References are passed on, so that the text goes from worker to worker."""
        carried = self._put(serving.payload_text())
        for number in range(serving.PAYLOAD_STEPS):
            carried = self._call(carried, str(number))
        await carried


def workloads(calls: Calls) -> dict[str, serving.Workload]:
    """Those of the driver that leave nothing to go on with, and do not wait for each other."""
    every = driving.Driver(calls).workloads()
    return {name: every[name] for name in ("chain10", "fan100", "uneven", "llm_fan", "payload")}


def facts(setting: str, page: str, version: str) -> Json:
    return {
        "version": version,
        "setting": setting,
        "page": page,
        "persisted_before_next_step": "nothing",
        "pids": [],
    }
