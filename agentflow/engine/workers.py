"""Workers: where attempts run. The contract, the body of an attempt, and the in-process adapter."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from agentflow.engine.deadlines import Deadline, Deadlines
from agentflow.engine.plain import plain
from agentflow.errors import NodeFailed, SourceNotFound, StepError, StepTimeout
from agentflow.execution.events import Blob, Cached, ErrorInfo, ModelCall, Worker
from agentflow.nodes.base import (
    NodeSet,
    OpenSource,
    StepContext,
    StepResult,
    is_inline,
    is_waiting,
)
from agentflow.nodes.blobs import Blobs
from agentflow.plan.plan import Field, PlanNode, PlanSource
from agentflow.sources.base import Source

Json = Any
SPARE_S = 1.0
"""How long past its time an attempt goes on whose coordinator should have stopped it by then."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a step, as it travels to a worker. Holds names of credentials, never values.

    ``id`` names the attempt everywhere; ``epoch`` is the owner's fence; ``timeout_s`` is what is left
    of the step's limit, or of its execution's where that ends first; ``sources`` are those the node may
    use; ``losses`` says how many attempts of the step were lost with their worker or their owner.
    """

    id: str
    tenant: str
    execution_id: str
    step: str
    attempt: int
    generation: int
    epoch: int
    node: PlanNode
    view: dict[str, Json]
    fields: tuple[Field, ...]
    sources: tuple[PlanSource, ...]
    timeout_s: float | None = None
    losses: int = 0


class Delta(msgspec.Struct, frozen=True, tag=True):
    """A piece of a reply; ``offset`` counts characters of the attempt's text before it."""

    id: str
    offset: int
    text: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The attempt has a result. ``blobs``: content that it refers to, which is durable. ``cached``: it
    is an earlier one, for which no ``worker`` did anything."""

    id: str
    result: Json
    delta: dict[str, Json]
    calls: tuple[ModelCall, ...]
    worker: Worker | None
    blobs: tuple[Blob, ...] = ()
    cached: Cached | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The attempt ended without a result; no ``worker`` where none did anything for it."""

    id: str
    error: ErrorInfo
    calls: tuple[ModelCall, ...]
    worker: Worker | None


Report = Delta | Done | Failed
OnReports = Callable[[Sequence[Report]], None]


class Workers(Protocol):
    """Where attempts run. Reports arrive on the engine's event loop, in batches, in any order.

    Every dispatched attempt is reported exactly once as Done or Failed, also when its worker dies
    (Failed with WorkerLost) or it is cancelled.
    """

    def open(self, on_reports: OnReports) -> None:
        """Name the receiver of reports; called once, before the first dispatch."""
        ...

    def dispatch(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts off: one call per pool. Returns at once."""
        ...

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        """Ask that these attempts stop; best effort, idempotent."""
        ...

    def leave(self, attempt_ids: Sequence[str]) -> None:
        """These are no longer ours: where another owner can reach them they go on, and their reports are
        kept for it; where none can they stop."""
        ...

    async def adopt(self, attempts: Sequence[Attempt]) -> frozenset[str]:
        """Take over attempts of a former owner that still run, or whose report was kept: from now on
        they are reported here. The ids of those; the others are lost. Whoever else still waits for one
        of them is told that it is lost to him: should he be the owner after all, he tries again."""
        ...

    def acknowledge(self, attempt_ids: Sequence[str]) -> None:
        """What was reported of these attempts is durable: it need not be kept for another owner."""
        ...

    async def close(self) -> None:
        """Stop receiving. Attempts in this process are cancelled; those elsewhere go on, and are kept a
        while for whoever adopts them."""
        ...


class Performer:
    """Runs attempts in a worker process: finds the node's code, opens its sources, does the work.

    The body of every attempt, whatever carried it here. Never raises: whatever a node's code does
    becomes a Done or a Failed, and so does cancelling the task, which is how an attempt is stopped.
    """

    def __init__(
        self,
        nodes: NodeSet,
        open_source: OpenSource,
        close: Callable[[], Awaitable[None]],
        blobs: Blobs | None = None,
    ) -> None:
        self._nodes = nodes
        self._open_source = open_source
        self._close = close
        self._blobs = blobs
        self._deadlines = Deadlines()

    async def perform(
        self, attempt: Attempt, on_text: Callable[[str], None], pool: str = "", host: str = ""
    ) -> Done | Failed:
        """Do one attempt; ``on_text`` hears the pieces of a reply as they come."""
        began = time.monotonic()
        context = self._context(attempt, on_text)
        limit = _Limit(self._deadlines)
        try:
            result = self._begin(attempt, context, limit)
            if not isinstance(result, StepResult):
                result = await result
            result = _as_json(attempt, result)
        except asyncio.CancelledError:
            failure = _cancelled(attempt, limit)
        except StepError as error:
            failure = describe(error)
        except Exception as error:  # noqa: BLE001 - it ends the attempt, not the worker
            failure = describe(
                NodeFailed(f"Node {attempt.node.id!r} raised {type(error).__name__}: {error}")
            )
        else:
            worker = _worker(began, pool, host)
            calls, blobs = tuple(context.calls), tuple(context.blobs)
            return Done(attempt.id, result.result, result.delta, calls, worker, blobs)
        finally:
            limit.lift()
        return Failed(attempt.id, failure, tuple(context.calls), _worker(began, pool, host))

    def _begin(
        self, attempt: Attempt, context: StepContext, limit: _Limit
    ) -> StepResult | Awaitable[StepResult]:
        """The result of a node that needs no time, or what is to be awaited for it."""
        node = self._nodes.of_type(attempt.node.type)
        if is_inline(node, attempt.node.placement):
            return node.run_inline(context)
        if is_waiting(node):
            raise NodeFailed(f"Nodes of type {attempt.node.type!r} wait on no worker")
        limit.set(attempt.timeout_s)
        return node.run(context)

    async def _source(self, attempt: Attempt, source_id: str) -> Source:
        for source in attempt.sources:
            if source.id == source_id:
                return await self._open_source(source, attempt.tenant)
        raise SourceNotFound(f"Node {attempt.node.id!r} has no source {source_id!r}")

    def _context(self, attempt: Attempt, on_text: Callable[[str], None]) -> StepContext:
        return StepContext(
            node=attempt.node,
            view=attempt.view,
            fields={field.name: field for field in attempt.fields},
            tenant=attempt.tenant,
            execution_id=attempt.execution_id,
            step=attempt.step,
            attempt=attempt.attempt,
            generation=attempt.generation,
            epoch=attempt.epoch,
            open_source=partial(self._source, attempt),
            emit=on_text,
            keep=self._blobs,
        )

    async def close(self) -> None:
        """Close every open source, and the place of blobs."""
        await self._close()
        if self._blobs is not None:
            await self._blobs.close()


class _Limit:
    """Cancels the task it is made in once an attempt is well past its time. For every attempt there is one,
    so it is no more than a timer."""

    __slots__ = ("_deadline", "_deadlines", "passed")

    def __init__(self, deadlines: Deadlines) -> None:
        self.passed = False
        self._deadlines = deadlines
        self._deadline: Deadline | None = None

    def set(self, timeout_s: float | None) -> None:
        if timeout_s is not None:
            task = asyncio.current_task()
            self._deadline = self._deadlines.later(timeout_s + SPARE_S, self._pass, task)

    def _pass(self, task: asyncio.Task[Done | Failed] | None) -> None:
        if task is not None:
            self.passed = task.cancel()

    def lift(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()


def _cancelled(attempt: Attempt, limit: _Limit) -> ErrorInfo:
    """Why an attempt was cancelled."""
    if not limit.passed:
        return ErrorInfo("Cancelled", "The attempt was cancelled")
    text = f"Node {attempt.node.id!r} had {attempt.timeout_s:g} s left, and nobody stopped it"
    return describe(StepTimeout(text))


def describe(error: StepError) -> ErrorInfo:
    """A step error as data."""
    return ErrorInfo(
        type=error.type,
        message=error.message,
        retryable=error.retryable,
        uncounted=error.uncounted,
        after=error.after,
    )


def _as_json(attempt: Attempt, result: StepResult) -> StepResult:
    """The result as the journal will give it back; what is not JSON is refused where it was made."""
    try:
        value, delta = plain([result.result, result.delta])
    except ValueError as error:
        raise NodeFailed(
            f"Node {attempt.node.id!r} gave a result that is not JSON: {error}"
        ) from error
    return StepResult(result=value, delta=delta)


def _worker(began: float, pool: str, host: str) -> Worker:
    return Worker(os.getpid(), host, pool, round(time.monotonic() - began, 6))


class _Texts:
    """The pieces of an attempt's reply, on their way to who watches."""

    __slots__ = ("_attempt", "_offset", "_report")

    def __init__(self, attempt: str, report: Callable[[Report], None]) -> None:
        self._attempt = attempt
        self._report = report
        self._offset = 0

    def add(self, text: str) -> None:
        self._report(Delta(self._attempt, self._offset, text))
        self._offset += len(text)


class InProcessWorkers:
    """Workers as tasks of this process's event loop: for ``--local`` and for tests."""

    def __init__(self, performer: Performer) -> None:
        self._performer = performer
        self._tasks: dict[str, asyncio.Task[Done | Failed]] = {}
        self._on_reports: OnReports | None = None

    def open(self, on_reports: OnReports) -> None:
        self._on_reports = on_reports

    def dispatch(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            texts = _Texts(attempt.id, self._report)
            work = self._performer.perform(attempt, texts.add, "local", "local")
            task = asyncio.create_task(work, name=attempt.id)
            self._tasks[attempt.id] = task
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Done | Failed]) -> None:
        self._tasks.pop(task.get_name(), None)
        if task.cancelled():  # before it began: the performer had no say
            error = ErrorInfo("Cancelled", "The attempt was cancelled")
            worker = Worker(os.getpid(), "local", "local")
            self._report(Failed(task.get_name(), error, (), worker))
        else:
            self._report(task.result())

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        for attempt_id in attempt_ids:
            task = self._tasks.get(attempt_id)
            if task is not None:
                task.cancel()

    def leave(self, attempt_ids: Sequence[str]) -> None:
        self.cancel(attempt_ids)  # no other process can reach them

    async def adopt(self, attempts: Sequence[Attempt]) -> frozenset[str]:
        return frozenset(attempt.id for attempt in attempts if attempt.id in self._tasks)

    def acknowledge(self, attempt_ids: Sequence[str]) -> None:
        """Nothing is kept: whoever takes over cannot reach this process."""

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        self._on_reports = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._performer.close()

    def _report(self, report: Report) -> None:
        if self._on_reports is not None:
            self._on_reports((report,))
