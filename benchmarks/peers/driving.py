"""The workloads as every peer gets them: one client, the same for all. Standard library only.

An adapter says how its peer executes a workflow and what it has written down; how many executions there are,
how many at once, what is timed and what is expected is decided here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any, Protocol
from uuid import uuid4

from benchmarks.peers.serving import (
    CHAIN_STEPS,
    FAN_STEPS,
    FAN_WIDTH,
    PAYLOAD_STEPS,
    RECOVERY_STEPS,
    UNEVEN_STEPS,
    Json,
    Workload,
    in_flight,
)

RECOVERY = "recovery-execution"
"""The id of the execution that is interrupted and taken up again by the next process."""


class Peer(Protocol):
    """A peer that is up."""

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        """One execution from its beginning to its end. ``workflow``: chain10, fan (``width``, ``step_s``),
        uneven, payload, recovery or gate (``until``: that many wait for each other)."""
        ...

    async def resume(self, execution: str) -> None:
        """Returns when an execution that a former process began has ended."""
        ...

    async def persisted(self, run: str, expected: int) -> int | None:
        """How many steps the peer's own store has of the executions whose ids begin with ``run``; a peer
        that writes late may wait until there are as many as expected. None: it keeps nothing durable."""
        ...


class Driver:
    """The workloads over one peer."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def workloads(self) -> dict[str, Workload]:
        return {
            "chain10": self.chain10,
            "fan100": self.fan100,
            "uneven": self.uneven,
            "llm_fan": self.llm_fan,
            "payload": self.payload,
            "recovery": self.recovery,
            "recover": self.recover,
            "memory": self.memory,
        }

    async def chain10(self, asked: Json) -> Json:
        return await self._run("chain10", asked["executions"], asked["in_flight"], CHAIN_STEPS)

    async def fan100(self, asked: Json) -> Json:
        given = {"width": FAN_WIDTH, "step_s": 0.0}
        return await self._run("fan", asked["executions"], asked["in_flight"], FAN_STEPS, given)

    async def uneven(self, asked: Json) -> Json:
        return await self._run("uneven", asked["rounds"], 1, UNEVEN_STEPS)

    async def llm_fan(self, asked: Json) -> Json:
        count, width = asked["executions"], asked["width"]
        given = {"width": width, "step_s": asked["step_s"]}
        return await self._run("fan", count, count, width + 2, given)

    async def payload(self, asked: Json) -> Json:
        return await self._run("payload", asked["executions"], 1, PAYLOAD_STEPS)

    async def memory(self, asked: Json) -> Json:
        count = asked["in_flight"]
        return await self._run("gate", count, count, 1, {"until": count})

    async def recovery(self, asked: Json) -> Json:
        """One execution, which the runner interrupts by killing this process."""
        await self._peer.execute("recovery", RECOVERY, {})
        return await self._recovered()

    async def recover(self, asked: Json) -> Json:
        """Asked of the process after that one."""
        began = time.perf_counter()
        await self._peer.resume(RECOVERY)
        return {"seconds": time.perf_counter() - began, **await self._recovered()}

    async def _recovered(self) -> Json:
        persisted = await self._peer.persisted(RECOVERY, RECOVERY_STEPS)
        return {"latencies_s": [], "steps": RECOVERY_STEPS, "persisted": persisted}

    async def _run(
        self, workflow: str, executions: int, at_once: int, steps: int, given: Json | None = None
    ) -> Json:
        run = f"{workflow}-{uuid4().hex[:12]}"
        numbers = itertools.count()

        async def execute() -> None:
            await self._peer.execute(workflow, f"{run}-{next(numbers)}", given or {})

        timed = await in_flight(executions, at_once, execute)
        persisted = await self._peer.persisted(run, steps * executions)
        return {**timed, "steps": steps * executions, "persisted": persisted}


class Gate:
    """Opens when so many wait at it, and stays open a moment, so that what they take can be seen."""

    HOLD_S = 0.5

    def __init__(self) -> None:
        self._waiting = 0
        self._open = asyncio.Event()

    async def wait(self, until: int, hold_s: float = HOLD_S) -> None:
        self._waiting += 1
        if self._waiting < until:
            await self._open.wait()
            return
        await asyncio.sleep(hold_s)
        opened, self._open, self._waiting = self._open, asyncio.Event(), 0
        opened.set()


async def until_true(
    look: Callable[[], Any], within_s: float = 600.0, pause_s: float = 0.02
) -> Any:
    """The first true answer of ``look``, for what announces nothing.

    Raises:
        TimeoutError: there was none in time.
    """
    async with asyncio.timeout(within_s):
        while True:
            if found := await look():
                return found
            await asyncio.sleep(pause_s)
