"""The coordinator's side of one worker: which attempts it has, what it reports, and whether it lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import psutil
import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from agentflow.distributed.placement import WorkerSpec
from agentflow.distributed.workers import ORPHAN_S, Taken, Told, pack, unpack
from agentflow.engine.workers import Attempt, Delta, Done, Failed, Report, describe
from agentflow.errors import NodeFailed, StepError, WorkerLost
from agentflow.execution.events import Worker

if TYPE_CHECKING:
    from agentflow.distributed.pools import Pool

Json = Any

log = logging.getLogger(__name__)

RETRY_S = 0.1


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
        self._unsettled: dict[int, set[str]] = {}
        self._seq_of: dict[str, int] = {}
        self._left: set[str] = set()
        self._attached = asyncio.Event()
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

    def leave(self, attempt_ids: Sequence[str]) -> None:
        """These are for another owner: what is reported of them here is not acknowledged, for as long as
        their worker keeps them for one."""
        mine = [key for key in attempt_ids if key in self.open or key in self._seq_of]
        for attempt_id in mine:
            self.open.pop(attempt_id, None)
            self._left.add(attempt_id)
        if mine:
            asyncio.get_running_loop().call_later(ORPHAN_S, self._forgo, mine)

    def _forgo(self, attempt_ids: Sequence[str]) -> None:
        """It is too late for another owner: what comes behind them must not wait for ever."""
        left = self._left.intersection(attempt_ids)
        self._left -= left
        self._cancelled -= left
        for unsettled in self._unsettled.values():
            unsettled -= left
        self.settle(tuple(left))

    async def adopt(self, attempts: Sequence[Attempt]) -> list[str]:
        """Which of these attempts of former owners are here; their reports come to us from now on."""
        await self._attached.wait()
        ids = [attempt.id for attempt in attempts]
        self.open.update((attempt.id, attempt) for attempt in attempts)
        self._left.difference_update(ids)
        found: list[str] = []
        try:
            found = await self._handle.adopt.remote(self._pool.coordinator, ids)
        except RayError as error:
            log.info("worker %s gave up nothing: %s", self.spec.name, type(error).__name__)
        finally:
            for attempt_id in set(ids) - set(found):
                self.open.pop(attempt_id, None)
        return found

    def settle(self, attempt_ids: Sequence[str]) -> None:
        """What was reported of these attempts is durable: batches of which all is may be forgotten."""
        for attempt_id in attempt_ids:
            if self._seq_of.pop(attempt_id, None) is not None:
                for unsettled in self._unsettled.values():  # several, if it was asked for again
                    unsettled.discard(attempt_id)
        for seq in sorted(self._unsettled):
            if self._unsettled[seq]:
                return
            del self._unsettled[seq]
            self._acknowledged = seq

    def retire(self) -> None:
        """Let the worker go; it ends when no coordinator holds it."""
        self.retired = True
        if self.up:
            pool = self._pool
            self._handle.release.remote(pool.coordinator, pool.incarnation, self._acknowledged)
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
                    self._attached.set()
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
            self._attached.clear()
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
            self._unsettled.clear()
            self._seq_of.clear()
            self._left.clear()
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
            reports = unpack(payload)
            self._note(seq, reports)
            self._arrived(reports)

    def _note(self, seq: int, reports: Iterable[Told]) -> None:
        """Remember which attempts a batch tells the end of: it is acknowledged once that is durable."""
        known = self.open.keys() | self._left
        ended = {r.id for r in reports if isinstance(r, Done | Failed) and r.id in known}
        if seq > self._acknowledged and seq not in self._unsettled:
            self._unsettled[seq] = ended
            self._seq_of.update(dict.fromkeys(ended, seq))
            self.settle(())

    def _arrived(self, reports: Iterable[Told]) -> None:
        """Pass on what is ours and not over: each attempt ends once, whatever is sent twice."""
        fresh: list[Report] = []
        taken: list[Attempt] = []
        for report in reports:
            if isinstance(report, Delta):
                if report.id in self.open:
                    fresh.append(report)
            elif isinstance(report, Taken):
                if report.id in self.open:
                    taken.append(self.open[report.id])
            elif self.open.pop(report.id, None) is not None:
                fresh.append(report)
                self._cancelled.discard(report.id)
        if not self.open:
            self.idle_since = time.monotonic()
        if fresh:
            self._pool.report(fresh)
            self._pool.pump()
        if taken:
            text = "Another coordinator took the step over while it ran"
            self._end(taken, WorkerLost(text))

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
            self._handle.cancel.remote(self._pool.coordinator, list(attempt_ids))

    def lose(self) -> None:
        """The process is gone, or given up: every attempt it had ends here, once. One that lives after
        all is asked to stop them, for they are made again elsewhere."""
        if self.open:
            self._pool.spawn(self._cancel(tuple(self.open)))
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
