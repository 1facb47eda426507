"""The coordinator's side of a pool: its workers, which attempts each has, and what waits its turn."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import cache
from typing import Any

import psutil
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agentflow.distributed.placement import WorkerSpec
from agentflow.distributed.workers import PoolActor, pack, stopped, unpack
from agentflow.engine.workers import Attempt, Delta, Failed, Report, describe
from agentflow.errors import NodeFailed, StepError, WorkerLost
from agentflow.execution.events import Worker

Json = Any

log = logging.getLogger(__name__)

NAMESPACE = "agentflow"
IDLE_S = 10.0
"""A worker that reserves something is let go after this long without an attempt."""
RETRY_S = 0.1


@cache
def actor_class() -> Any:
    """PoolActor as Ray knows it; made once per process."""
    return ray.remote(PoolActor)


class PoolWorker:
    """One worker of a pool, as one coordinator sees it."""

    def __init__(self, pool: Pool, spec: WorkerSpec) -> None:
        self.spec = spec
        self.up = False
        self.open: dict[str, Attempt] = {}
        self._cancelled: set[str] = set()
        self.idle_since = time.monotonic()
        self.retired = False
        self._pool = pool
        self._handle: Any = None
        self._instance: str | None = None
        self._process: psutil.Process | None = None
        self._acknowledged = 0
        self._stream: Any = None
        self._task = pool.spawn(self._keep())

    @property
    def room(self) -> int:
        """How many more attempts it takes now."""
        return self.spec.width - len(self.open) if self.up and not self.retired else 0

    def send(self, attempts: Sequence[Attempt]) -> None:
        """One call, whatever the number of attempts. Returns at once."""
        self.open.update((attempt.id, attempt) for attempt in attempts)
        self._pool.spawn(self._send(attempts))

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        """Ask that these stop; the call leaves after the one that brings them."""
        self._cancelled.update(attempt_ids)
        self._pool.spawn(self._cancel(attempt_ids))

    def retire(self) -> None:
        """Let the worker go; it ends when no coordinator holds it."""
        self.retired = True
        if self.up:
            self._handle.release.remote(self._pool.coordinator, self._pool.incarnation)
        self._task.cancel()
        if self._stream is not None:
            ray.cancel(self._stream)

    async def _keep(self) -> None:
        """Connect, listen, and connect again, until the worker is gone for good."""
        while not self.retired:
            try:
                self._handle = await asyncio.to_thread(self._pool.create, self.spec)
                if await self._attach():
                    self.up = True
                    self._pool.pump()
                    await self._listen()
            except RayTaskError as error:
                self._pool.refuse(self._opening_failed(error))
                await asyncio.sleep(1.0)
            except RayError as error:
                log.info("worker %s does not answer: %s", self.spec.name, type(error).__name__)
            except ValueError as error:  # its name was taken or given up while we asked for it
                log.info("worker %s: %s", self.spec.name, error)
            self.up = False
            if self._vanished():
                self.lose()
            await asyncio.sleep(RETRY_S)

    async def _attach(self) -> bool:
        """Whether the worker takes our attempts; what another incarnation of it had is lost."""
        try:
            found = await self._handle.attach.remote(self._pool.coordinator, self._pool.incarnation)
        except ray.exceptions.ActorUnavailableError:
            raise
        except RayActorError:
            self.lose()
            raise
        if found["instance"] is None:
            return False
        if found["instance"] != self._instance:
            self.lose()
            self._instance, self._acknowledged = found["instance"], 0
            self._process = _process(found)
        elif self.open:
            self._pool.spawn(self._send(tuple(self.open.values())))
            self._pool.spawn(self._cancel(tuple(self._cancelled)))
        return True

    async def _listen(self) -> None:
        pool = self._pool
        self._stream = self._handle.reports.options(num_returns="streaming").remote(
            pool.coordinator, pool.incarnation, self._acknowledged
        )
        async for ref in self._stream:
            seq, payload = await ref
            del ref
            self._acknowledged = max(self._acknowledged, seq)
            self._arrived(unpack(payload))

    def _arrived(self, reports: Iterable[Report]) -> None:
        """Pass on what is ours and not over: each attempt ends once, whatever is sent twice."""
        fresh: list[Report] = []
        for report in reports:
            if isinstance(report, Delta):
                if report.id in self.open:
                    fresh.append(report)
            elif self.open.pop(report.id, None) is not None:
                fresh.append(report)
                self._cancelled.discard(report.id)
        if not self.open:
            self.idle_since = time.monotonic()
        if fresh:
            self._pool.report(fresh)
            self._pool.pump()

    async def _send(self, attempts: Sequence[Attempt]) -> None:
        """When the call fails, nobody knows whether it arrived: the next attach settles it."""
        try:
            taken = await self._handle.run_batch.remote(
                self._pool.coordinator, self._instance, self._acknowledged, pack(attempts)
            )
        except RayTaskError as error:
            self._end(attempts, NodeFailed(_said(error)))
        except RayError:
            if self.up and self._stream is not None:
                ray.cancel(self._stream)  # the listener attaches anew, and sends again
        else:
            if not taken:
                self._end(attempts, self._lost())

    async def _cancel(self, attempt_ids: Sequence[str]) -> None:
        """When the call is lost with the connection, the next attach repeats it."""
        if attempt_ids:
            self._handle.cancel.remote(list(attempt_ids))

    def lose(self) -> None:
        """The process is gone: every attempt it had ends here, once."""
        self._end(tuple(self.open.values()), self._lost())

    def _end(self, attempts: Sequence[Attempt], error: StepError) -> None:
        pid = self._process.pid if self._process is not None else 0
        worker = Worker(pid, pool=self.spec.name)
        self._arrived([Failed(each.id, describe(error), (), worker) for each in attempts])

    def _lost(self) -> WorkerLost:
        return WorkerLost(f"The worker process of {self.spec.name} died under the step")

    def _opening_failed(self, error: RayTaskError) -> StepError:
        return NodeFailed(f"Worker {self.spec.name} could not open: {_said(error)}")

    def _vanished(self) -> bool:
        """Whether the process is certainly gone: seen at once on our own machine, where Ray needs
        the time of a restart to say so."""
        if self._process is None:
            return False
        try:
            return bool(self._process.status() == psutil.STATUS_ZOMBIE)
        except psutil.NoSuchProcess:
            return True


class Pool:
    """The workers of one kind that one coordinator uses. Grows with what waits, up to its specs."""

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

    def start(self) -> None:
        """Start every worker now, rather than with the first attempts."""
        for spec in self._specs.values():
            if spec.name not in self._workers:
                self._workers[spec.name] = PoolWorker(self, spec)

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
        self._queue.update((attempt.id, attempt) for attempt in attempts)
        self.pump()

    def pump(self) -> None:
        """Hand out what waits, one call per worker."""
        batches: dict[str, list[Attempt]] = defaultdict(list)
        room = {name: worker.room for name, worker in self._workers.items() if worker.room > 0}
        while self._queue and room:
            name = max(room, key=room.__getitem__)
            batches[name].append(self._queue.pop(next(iter(self._queue))))
            room[name] -= 1
            if not room[name]:
                del room[name]
        for name, batch in batches.items():
            self._workers[name].send(batch)
        if self._queue:
            self._grow()

    def _grow(self) -> None:
        starting = sum(not worker.up for worker in self._workers.values())
        for name, spec in self._specs.items():
            if starting * spec.width >= len(self._queue):
                return
            if name not in self._workers:
                self._workers[name] = PoolWorker(self, spec)
                starting += 1

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        waiting = [key for key in attempt_ids if self._queue.pop(key, None) is not None]
        if waiting:
            self.report([stopped(key) for key in waiting])
        for worker in self._workers.values():
            theirs = [key for key in attempt_ids if key in worker.open]
            if theirs:
                worker.cancel(theirs)

    def refuse(self, error: StepError) -> None:
        """End what waits: the workers cannot be opened."""
        waiting, self._queue = tuple(self._queue), {}
        if waiting:
            failed = Worker(os.getpid(), pool=next(iter(self._specs), ""))
            self.report([Failed(key, describe(error), (), failed) for key in waiting])

    def rest(self, now: float) -> None:
        """Let workers go that nothing was sent to for a while, and what they reserve."""
        for name, worker in tuple(self._workers.items()):
            idle = worker.up and not worker.open and now - worker.idle_since > IDLE_S
            unwanted = not worker.up and not worker.open and not self._queue
            if idle or (unwanted and now - worker.idle_since > IDLE_S):
                del self._workers[name]
                worker.retire()

    def close(self) -> None:
        """Let every worker go; they give up what this coordinator left there."""
        for worker in self._workers.values():
            worker.retire()

    def create(self, spec: WorkerSpec) -> Any:
        """The worker's actor, made when it does not exist. Blocks for a few milliseconds."""
        reserving = spec.width == 1
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


def _process(found: dict[str, Json]) -> psutil.Process | None:
    """The worker's process when it runs on this very machine."""
    if found["node_id"] != ray.get_runtime_context().get_node_id():
        return None
    try:
        return psutil.Process(found["pid"])
    except psutil.Error:
        return None


def _said(error: RayTaskError) -> str:
    cause = error.cause if isinstance(error.cause, BaseException) else error
    return f"{type(cause).__name__}: {str(cause)[:500]}"
