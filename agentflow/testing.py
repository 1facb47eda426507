"""What tests of workflows need, shipped: a journal in memory that can lose its owner, scripted workers.

Neither is an adapter for production: nothing here lasts.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from agentflow.engine.engine import Engine
from agentflow.engine.workers import Attempt, Done, Failed, OnReports, Report, describe
from agentflow.errors import Conflict, FencedOut, StepError
from agentflow.execution.events import (
    TERMINAL_STEP,
    Event,
    ExecutionResumed,
    ExecutionWaiting,
    ModelCall,
    StepWaiting,
    Worker,
)
from agentflow.execution.journal import (
    Append,
    Claimed,
    Command,
    Outcome,
    Recorded,
    Snapshot,
    Submission,
)
from agentflow.execution.keys import wait_id
from agentflow.nodes.base import NodeSet, StepResult

Json = Any
Answer = Callable[[Attempt], StepResult | Awaitable[StepResult]]
AHEAD_S = 2.0
"""How long before its time an execution that waits is taken up."""


class MemoryStore:
    """What several :class:`MemoryJournal` share: the rows that outlive a coordinator."""

    def __init__(self) -> None:
        self.events: dict[str, list[Event]] = defaultdict(list)
        self.submissions: dict[str, Submission] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.owners: dict[str, int] = {}
        self.commands: dict[int, Command] = {}
        self.waits: dict[tuple[str, str], str] = {}
        """(execution id, wait) -> open, answered or closed."""
        self.resting: dict[str, float | None] = {}
        """Executions that wait -> when they go on by themselves."""
        self.epoch = 0
        self.commits = 0
        self._moved = asyncio.Condition()

    async def until(self, holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Wait until a commit makes ``holds()`` true. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(holds)

    async def commit(self, batch: Sequence[Append]) -> None:
        for append in batch:
            if append.accept is not None:
                self.submissions[append.execution_id] = append.accept
            self.events[append.execution_id] += append.events
            if append.outcome is not None:
                self.outcomes[append.execution_id] = append.outcome
            for command in append.commands:
                self.commands.pop(command, None)
            self._note_waits(append)
        self.commits += 1
        async with self._moved:
            self._moved.notify_all()

    def _note_waits(self, append: Append) -> None:
        key = append.execution_id
        for event in append.events:
            if isinstance(event, StepWaiting):
                self.waits[key, event.wait_id] = "open"
            elif isinstance(event, ExecutionWaiting):
                self.resting[key] = append.wake_at
            elif isinstance(event, ExecutionResumed):
                self.resting.pop(key, None)
        for wait in append.closes:
            if self.waits.get((key, wait)) == "open":
                self.waits[key, wait] = "closed"

    def open_waits(self) -> list[tuple[str, str]]:
        """(execution id, wait) of those that may be answered."""
        return [name for name, how in self.waits.items() if how == "open"]

    def recall(self, submission: Submission, events: Sequence[Event]) -> None:
        """Begin with this journal of an execution, which belongs to nobody."""
        key = submission.execution_id
        self.submissions[key] = submission
        self.events[key] = list(events)
        ended = [event for event in events if isinstance(event, TERMINAL_STEP)]
        closes = tuple(wait_id(event.step, event.generation) for event in ended)
        self._note_waits(
            Append(execution_id=key, tenant="", first_seq=1, events=tuple(events), closes=closes)
        )
        self.resting.pop(key, None)

    def answer(
        self,
        execution_id: str,
        wait: str,
        data: Json = None,
        by: str = "test",
        at: float | None = None,
    ) -> None:
        """Answer a wait, as a caller does; nudge the engine to have it heard at once.

        Raises Conflict when it is not open.
        """
        if self.waits.get((execution_id, wait)) != "open":
            raise Conflict()
        self.waits[execution_id, wait] = "answered"
        number = len(self.waits) + max(self.commands, default=1_000_000)
        self.commands[number] = Command(
            id=number,
            execution_id=execution_id,
            kind="signal",
            payload={"data": data},
            wait=wait,
            by=by,
            at=time.time() if at is None else at,
        )


class MemoryJournal:
    """A journal in memory with the contract's rules: gap-free numbers, one owner, fencing by epoch.

    ``lose_owner_after``: once so many events are committed in all, the next append finds the owner
    fenced out, as after a crash.
    """

    def __init__(self, store: MemoryStore, lose_owner_after: int | None = None) -> None:
        self.store = store
        self.lose_owner_after = lose_owner_after
        self.epoch = 0

    async def enter(self) -> int:
        before, self.store.epoch = self.epoch, self.store.epoch + 1
        self.epoch = self.store.epoch
        for key, owner in self.store.owners.items():
            if before and owner == before:
                self.store.owners[key] = self.epoch
        return self.epoch

    async def append(self, batch: Sequence[Append]) -> None:
        await asyncio.sleep(0)
        self._check_fence(batch)
        expected: dict[str, int] = {}
        for append in batch:
            key = append.execution_id
            if append.accept is not None:
                if key in self.store.submissions:
                    raise Conflict()
                self.store.owners[key] = self.epoch
            elif self.store.owners.get(key) != self.epoch:
                raise FencedOut()
            committed = expected.setdefault(key, len(self.store.events[key]))
            if append.first_seq != committed + 1:
                raise AssertionError(f"seq {append.first_seq} follows {committed}")
            expected[key] += len(append.events)
        await self.store.commit(batch)

    def _check_fence(self, batch: Sequence[Append]) -> None:
        committed = sum(map(len, self.store.events.values()))
        limit = self.lose_owner_after
        if limit is not None and committed + sum(len(append.events) for append in batch) > limit:
            raise FencedOut()

    async def last_seq(self, execution_ids: Sequence[str]) -> dict[str, int]:
        return {key: len(self.store.events[key]) for key in execution_ids}

    async def owned(self, execution_ids: Sequence[str]) -> set[str]:
        return {key for key in execution_ids if self.store.owners.get(key) == self.epoch}

    async def read(
        self, execution_id: str, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        events = self.store.events[execution_id]
        end = len(events) if limit is None else min(len(events), after + limit)
        return [Recorded(seq, events[seq - 1]) for seq in range(after + 1, end + 1)]

    async def snapshot(self, execution_id: str, format: str) -> Snapshot | None:
        found = self.store.snapshots.get(execution_id)
        ahead = found is not None and found.seq > len(self.store.events[execution_id])
        return None if found is None or ahead or found.format != format else found

    async def keep_snapshot(self, snapshot: Snapshot) -> bool:
        if self.store.owners.get(snapshot.execution_id) != self.epoch:
            return False
        self.store.snapshots[snapshot.execution_id] = snapshot
        return True

    async def claim(self, limit: int) -> list[Claimed]:
        orphans = [
            key
            for key in self.store.submissions
            if key not in self.store.outcomes
            and self.store.owners.get(key) != self.epoch
            and self._wakes(key)
        ]
        for key in orphans[:limit]:
            self.store.owners[key] = self.epoch
        return [self._claimed(key) for key in orphans[:limit]]

    def _wakes(self, key: str) -> bool:
        """Whether an execution does not wait, or is to go on."""
        if key not in self.store.resting:
            return True
        wake_at = self.store.resting[key]
        asked = any(command.execution_id == key for command in self.store.commands.values())
        return asked or (wake_at is not None and wake_at <= time.time() + AHEAD_S)

    async def expire(self, waits: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        if any(self.store.owners.get(key) != self.epoch for key, _ in waits):
            raise FencedOut()
        answered = {wait for wait in waits if self.store.waits.get(wait) == "answered"}
        self.store.waits.update((wait, "closed") for wait in waits if wait not in answered)
        return answered

    async def park(self, rests: Sequence[tuple[str, float | None]]) -> None:
        for key, wake_at in rests:
            if self.store.owners.get(key) == self.epoch and key in self.store.resting:
                self.store.owners[key] = 0
                self.store.resting[key] = wake_at

    async def strays(self, known: Sequence[str], limit: int) -> list[Claimed]:
        ours = [key for key, epoch in self.store.owners.items() if epoch == self.epoch]
        open_ones = [key for key in ours if key not in self.store.outcomes and key not in known]
        return [self._claimed(key) for key in open_ones[:limit]]

    def _claimed(self, key: str) -> Claimed:
        submission = self.store.submissions[key]
        return Claimed(
            execution_id=key,
            tenant=submission.tenant,
            content_hash=submission.content_hash,
            spec=submission.spec,
        )

    async def commands(self, execution_ids: Sequence[str]) -> list[Command]:
        return [
            command
            for command in self.store.commands.values()
            if command.execution_id in execution_ids
        ]

    async def release(self) -> None:
        for key, epoch in self.store.owners.items():
            if epoch == self.epoch:
                self.store.owners[key] = 0


class Answered(StepResult, frozen=True, kw_only=True):
    """A scripted answer with the model calls it was billed for."""

    calls: tuple[ModelCall, ...] = ()


class ScriptedWorkers:
    """Workers whose answers come from a function: it returns a StepResult (or awaits one) or raises a
    StepError. ``calls`` lists the attempts that were dispatched, ``batches`` how many came together,
    ``cancelled``, ``adopted`` and ``acknowledged`` what was asked. ``kept``: they outlive their engine,
    as those in other processes do; hand them to a second engine to see it adopt what they have."""

    def __init__(self, answer: Answer, *, kept: bool = False) -> None:
        self.kept = kept
        self.adopted: list[str] = []
        self.acknowledged: list[str] = []
        self._unheard: list[Report] = []
        self.calls: list[Attempt] = []
        self.batches: list[int] = []
        self.cancelled: list[str] = []
        self._answer = answer
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._on_reports: OnReports | None = None

    def open(self, on_reports: OnReports) -> None:
        self._on_reports = on_reports

    def dispatch(self, attempts: Sequence[Attempt]) -> None:
        self.batches.append(len(attempts))
        for attempt in attempts:
            self.calls.append(attempt)
            self._tasks[attempt.id] = asyncio.create_task(self._attempt(attempt))

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        self.cancelled += attempt_ids
        for key in attempt_ids:
            if key in self._tasks:
                self._tasks[key].cancel()

    def leave(self, attempt_ids: Sequence[str]) -> None:
        if not self.kept:
            self.cancel(attempt_ids)

    async def adopt(self, attempts: Sequence[Attempt]) -> frozenset[str]:
        running = {key for key, task in self._tasks.items() if not task.done()}
        ids = {attempt.id for attempt in attempts}
        kept = [report for report in self._unheard if report.id in ids]
        self._unheard = [report for report in self._unheard if report.id not in ids]
        for report in kept:
            asyncio.get_running_loop().call_soon(self.report, report)
        found = ids & (running | {report.id for report in kept})
        self.adopted += sorted(found)
        return frozenset(found)

    def acknowledge(self, attempt_ids: Sequence[str]) -> None:
        self.acknowledged += attempt_ids

    async def close(self) -> None:
        self._on_reports = None
        if self.kept:
            return
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def report(self, report: Report) -> None:
        """Report something out of turn, as a late or repeated result."""
        if self._on_reports is not None:
            self._on_reports((report,))
        elif self.kept:
            self._unheard.append(report)

    async def _attempt(self, attempt: Attempt) -> None:
        worker = Worker(os.getpid(), "here", "scripted")
        try:
            answer = self._answer(attempt)
            result = answer if isinstance(answer, StepResult) else await answer
        except StepError as error:
            self.report(Failed(attempt.id, describe(error), (), worker))
        else:
            calls = result.calls if isinstance(result, Answered) else ()
            self.report(Done(attempt.id, result.result, result.delta, calls, worker))


class FreeLease:
    """A lease that is always held, until :meth:`lose`."""

    def __init__(self) -> None:
        self.held = False
        self._on_lost: Callable[[], None] | None = None

    def start(self, epoch: int, on_lost: Callable[[], None]) -> None:
        self.held, self._on_lost = True, on_lost

    def hold_still(self) -> None:
        self.held = False

    def stop(self) -> None:
        self.held = False

    def lose(self) -> None:
        """Let the lease lapse."""
        self.held = False
        if self._on_lost is not None:
            self._on_lost()


def memory_engine(
    store: MemoryStore,
    workers: ScriptedWorkers,
    nodes: NodeSet,
    *,
    lose_owner_after: int | None = None,
    **options: Any,
) -> Engine:
    """An engine over a journal in memory; start and close it like any other."""
    return Engine(
        options.pop("coordinator_id", "test/0"),
        journal=options.pop("journal", None) or MemoryJournal(store, lose_owner_after),
        lease=options.pop("lease", None) or FreeLease(),
        workers=workers,
        nodes=nodes,
        **options,
    )
