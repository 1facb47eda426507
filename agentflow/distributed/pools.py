"""The coordinator's side of a pool: its workers, which attempts each has, and what waits its turn."""

from __future__ import annotations

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from functools import cache
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agentflow.distributed.placement import WorkerSpec, alone_prefix, alone_workers
from agentflow.distributed.poolworker import PoolWorker
from agentflow.distributed.workers import PoolActor, stopped
from agentflow.engine.workers import Attempt, Failed, Report, describe
from agentflow.errors import StepError
from agentflow.execution.events import Worker

Json = Any

log = logging.getLogger(__name__)

NAMESPACE = "agentflow"
IDLE_S = 10.0
"""A worker that reserves something is let go after this long without an attempt."""
SUSPECT = 2
"""Losses of a step after which its next attempt shares no worker."""
ADOPT_S = 1.0
"""How long a new owner waits for a worker to say what it has of its former one's attempts."""


@cache
def actor_class() -> Any:
    """PoolActor as Ray knows it; made once per process."""
    return ray.remote(PoolActor)


class Pool:
    """The workers of one kind that one coordinator uses. Grows with what waits, up to its specs.

    Where workers are shared, a step that was lost with one twice is tried again in one of its own: the
    third loss ends a step, and nobody may be lost three times for another's fault. The first loss is
    most often nobody's, and the worker that takes its place is there sooner than one for each step.
    """

    def __init__(
        self,
        *,
        coordinator: str,
        incarnation: str,
        performer: str,
        namespace: str,
        report: Callable[[Sequence[Report]], None],
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self.coordinator = coordinator
        self.incarnation = incarnation
        self.report = report
        self.spawn = spawn
        self._performer = performer
        self._namespace = namespace
        self._specs: dict[str, WorkerSpec] = {}
        self._workers: dict[str, PoolWorker] = {}
        self._queue: dict[str, Attempt] = {}
        self._alone: dict[str, Attempt] = {}

    @property
    def shaped(self) -> bool:
        """Whether it is known which workers there may be."""
        return bool(self._specs)

    def start(self) -> None:
        """Start every worker now, rather than with the first attempts; the reserve once another is up."""
        for spec in self._specs.values():
            if not spec.reserve:
                self._add(spec)

    def reshape(self, specs: Sequence[WorkerSpec]) -> None:
        """These workers may be there now; those bound to a node that left the cluster are lost."""
        self._specs = {spec.name: spec for spec in specs}
        for name, worker in tuple(self._workers.items()):
            if name not in self._specs and worker.spec.node_id is not None:
                del self._workers[name]
                worker.lose()
                worker.retire()
        self.pump()

    def add(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts to the least loaded workers; what finds no room waits its turn."""
        for attempt in attempts:
            waiting = self._alone if attempt.losses >= SUSPECT else self._queue
            waiting[attempt.id] = attempt
        self.pump()

    def _add(self, spec: WorkerSpec) -> None:
        if spec.name not in self._workers:
            self._workers[spec.name] = PoolWorker(self, spec)

    def pump(self) -> None:
        """Hand out what waits, one call per worker."""
        if any(worker.up for worker in self._workers.values()):
            for spec in self._specs.values():
                if spec.reserve:
                    self._add(spec)
        shared = next((spec for spec in self._specs.values() if spec.width > 1), None)
        if shared is None:  # every worker has one attempt at a time
            self._queue.update(self._alone)
            self._alone.clear()
        self._hand_out(self._queue, alone=False)
        self._hand_out(self._alone, alone=True)
        if self._queue:
            self._grow(self._queue, self._specs)
        if self._alone and shared is not None:
            specs = alone_workers(shared, self.coordinator)
            self._grow(self._alone, {spec.name: spec for spec in specs})

    def _hand_out(self, waiting: dict[str, Attempt], *, alone: bool) -> None:
        batches: dict[str, list[Attempt]] = defaultdict(list)
        workers = {k: each for k, each in self._workers.items() if each.spec.alone == alone}
        room = {name: worker.room for name, worker in workers.items() if worker.room > 0}
        while waiting and room:
            name = max(room, key=lambda name: (not workers[name].spec.reserve, room[name]))
            batches[name].append(waiting.pop(next(iter(waiting))))
            room[name] -= 1
            if not room[name]:
                del room[name]
        for name, batch in batches.items():
            self._workers[name].send(batch)

    def _grow(self, waiting: dict[str, Attempt], specs: dict[str, WorkerSpec]) -> None:
        starting = sum(name in specs and not each.up for name, each in self._workers.items())
        for name, spec in specs.items():
            if starting * spec.width >= len(waiting):
                return
            if name not in self._workers:
                self._workers[name] = PoolWorker(self, spec)
                starting += 1

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        waiting = [key for key in attempt_ids if self._unsent(key)]
        if waiting:
            self.report([stopped(key) for key in waiting])
        for worker in self._workers.values():
            theirs = [key for key in attempt_ids if key in worker.open]
            if theirs:
                worker.cancel(theirs)

    async def adopt(self, attempts: Sequence[Attempt]) -> list[str]:
        """Ask every worker that exists for these attempts of former owners."""
        for name, spec in self._specs.items():
            if name not in self._workers and await asyncio.to_thread(self._exists, spec):
                self._workers.setdefault(name, PoolWorker(self, spec))
        if any(attempt.losses >= SUSPECT for attempt in attempts):
            await self._find_alone_workers()
        asked = [asyncio.ensure_future(worker.adopt(attempts)) for worker in self._workers.values()]
        if not asked:
            return []
        done, pending = await asyncio.wait(asked, timeout=ADOPT_S)
        for silent in pending:
            silent.cancel()
        return [key for found in done for key in found.result()]

    def _unsent(self, attempt_id: str) -> bool:
        """Whether an attempt waited here; now it does no more."""
        queued = self._queue.pop(attempt_id, None) or self._alone.pop(attempt_id, None)
        return queued is not None

    async def _find_alone_workers(self) -> None:
        """Those of other coordinators: what runs there may be to adopt. Nothing is sent to them."""
        shared = next((spec for spec in self._specs.values() if spec.width > 1), None)
        if shared is None:
            return
        named = await asyncio.to_thread(ray.util.list_named_actors, all_namespaces=True)
        names = {each["name"] for each in named if each["namespace"] == self._namespace}
        for name in names - self._workers.keys():
            if name.startswith(alone_prefix(shared)):
                spec = WorkerSpec(name, shared.options, 0, alone=True)
                self._workers[name] = PoolWorker(self, spec)

    def _exists(self, spec: WorkerSpec) -> bool:
        try:
            ray.get_actor(spec.name, namespace=self._namespace)
        except ValueError:
            return False
        return True

    def leave(self, attempt_ids: Sequence[str]) -> None:
        """These are for another owner; those that wait here have not begun."""
        for attempt_id in attempt_ids:
            self._unsent(attempt_id)
        for worker in self._workers.values():
            worker.leave(attempt_ids)

    def settle(self, attempt_ids: Sequence[str]) -> None:
        for worker in self._workers.values():
            worker.settle(attempt_ids)

    def refuse(self, error: StepError) -> None:
        """End what waits: the workers cannot be opened."""
        waiting = (*self._queue, *self._alone)
        self._queue.clear()
        self._alone.clear()
        if waiting:
            failed = Worker(os.getpid(), pool=next(iter(self._specs), ""))
            self.report([Failed(key, describe(error), (), failed) for key in waiting])

    def rest(self, now: float, *, alone: bool) -> None:
        """Let workers go that nothing was sent to for a while, and what they reserve. ``alone``: only
        those for single attempts."""
        for name, worker in tuple(self._workers.items()):
            if alone and not worker.spec.alone:
                continue
            idle = worker.up and not worker.open and now - worker.idle_since > IDLE_S
            unwanted = not (worker.up or worker.open or self._queue or self._alone)
            if idle or (unwanted and now - worker.idle_since > IDLE_S):
                del self._workers[name]
                worker.retire()

    def close(self) -> None:
        """Let every worker go; they keep what this coordinator left there a while, for another one."""
        for worker in self._workers.values():
            worker.retire()

    def create(self, spec: WorkerSpec) -> Any:
        """The worker's actor, made when it does not exist. Blocks for a few milliseconds."""
        reserving = spec.width <= 1
        options = dict(spec.options)
        if spec.node_id is not None:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(
                spec.node_id, soft=False
            )
        return (
            actor_class()
            .options(
                name=spec.name,
                namespace=self._namespace,
                get_if_exists=True,
                lifetime="detached",
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=5000,
                **options,
            )
            .remote(spec.name, self._performer, reserving, reserving)
        )
