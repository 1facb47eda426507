"""Workers on Ray: what a coordinator's engine dispatches to. One call per pool worker and tick."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from typing import Any

import ray

from agentflow.distributed.placement import (
    ONE_CPU,
    NodeOffer,
    cpu_workers,
    io_workers,
    offers,
    pool_workers,
    refusal,
)
from agentflow.distributed.pools import NAMESPACE, Pool
from agentflow.engine.workers import Attempt, OnReports, Report
from agentflow.errors import ResourceExceeded
from agentflow.plan.plan import Resources

log = logging.getLogger(__name__)

Key = str | Resources
IO, CPU = "io", "cpu"
TEND_S = 2.0
"""How often the cluster's nodes are looked at again, and idle workers let go."""


class RayWorkers:
    """The :class:`~agentflow.engine.workers.Workers` of one coordinator actor.

    Pools are shared by all coordinators of a Ray namespace. An attempt waits while the workers it
    needs are busy; one that no node could ever take fails with ResourceExceeded.
    """

    def __init__(self, coordinator_id: str, performer: str, namespace: str = NAMESPACE) -> None:
        self._coordinator = coordinator_id
        self._incarnation = uuid.uuid4().hex
        self._performer = performer
        self._namespace = namespace
        self._on_reports: OnReports | None = None
        self._nodes: tuple[NodeOffer, ...] = ()
        self._pools: dict[Key, Pool] = {}
        self._tick: list[Attempt] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, on_reports: OnReports) -> None:
        self._on_reports = on_reports
        self._pools[IO] = self._pool()
        self._spawn(self._tend())

    def dispatch(self, attempts: Sequence[Attempt]) -> None:
        if not self._tick:
            asyncio.get_running_loop().call_soon(self._leave)
        self._tick += attempts

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        self._leave()
        for pool in tuple(self._pools.values()):
            pool.cancel(attempt_ids)

    def leave(self, attempt_ids: Sequence[str]) -> None:
        self._leave()
        for pool in self._pools.values():
            pool.leave(attempt_ids)

    async def adopt(self, attempts: Sequence[Attempt]) -> frozenset[str]:
        by_pool: dict[Key, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            by_pool[_key(attempt)].append(attempt)
        found = await asyncio.gather(*(self._adopt(key, batch) for key, batch in by_pool.items()))
        return frozenset(attempt_id for adopted in found for attempt_id in adopted)

    async def _adopt(self, key: Key, batch: list[Attempt]) -> list[str]:
        if key not in self._pools:
            self._pools[key] = self._pool()
        if not self._pools[key].shaped:
            await self._shape_new(key)
        pool = self._pools.get(key)
        return await pool.adopt(batch) if pool is not None else []

    def acknowledge(self, attempt_ids: Sequence[str]) -> None:
        for pool in self._pools.values():
            pool.settle(attempt_ids)

    async def close(self) -> None:
        self._on_reports = None
        for pool in self._pools.values():
            pool.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _leave(self) -> None:
        """Everything that one tick made ready leaves together."""
        attempts, self._tick = self._tick, []
        by_pool: dict[Key, list[Attempt]] = defaultdict(list)
        for attempt in attempts:
            by_pool[_key(attempt)].append(attempt)
        for key, batch in by_pool.items():
            if key not in self._pools:
                self._pools[key] = self._pool()
                self._spawn(self._shape_new(key))
            self._pools[key].add(batch)

    def _pool(self) -> Pool:
        return Pool(
            coordinator=self._coordinator,
            incarnation=self._incarnation,
            performer=self._performer,
            namespace=self._namespace,
            report=self._report,
            spawn=self._spawn,
        )

    async def _shape_new(self, key: Key) -> None:
        self._nodes = await _nodes()
        self._shape(key)

    def _shape(self, key: Key) -> None:
        """Give a pool the workers that the cluster's nodes allow, or end what waits for it."""
        if key == IO:
            self._pools[IO].reshape(io_workers(self._nodes))
            self._pools[IO].start()
            return
        resources = key if isinstance(key, Resources) else ONE_CPU
        refused = refusal(self._nodes, resources)
        if refused is not None:
            self._pools.pop(key).refuse(ResourceExceeded(refused))
        elif isinstance(key, Resources):
            self._pools[key].reshape(pool_workers(self._nodes, key))
        else:
            self._pools[key].reshape(cpu_workers(self._nodes))

    async def _tend(self) -> None:
        """Start the io workers, then keep the pools in step with the cluster."""
        self._nodes = await _nodes()
        self._shape(IO)
        while True:
            await asyncio.sleep(TEND_S)
            found = await _nodes()
            if found != self._nodes:
                self._nodes = found
                for key in tuple(self._pools):
                    self._shape(key)
            for key, pool in self._pools.items():
                pool.rest(time.monotonic(), alone=key == IO)

    def _report(self, reports: Sequence[Report]) -> None:
        if self._on_reports is not None:
            self._on_reports(reports)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of %s ended", self._coordinator, exc_info=task.exception())


def _key(attempt: Attempt) -> Key:
    node = attempt.node
    if node.placement == "pool" and node.resources is not None:
        return node.resources
    return IO if node.placement == IO else CPU


async def _nodes() -> tuple[NodeOffer, ...]:
    return offers(await asyncio.to_thread(ray.nodes))
