"""The engine: one coordinator's work. Accepts executions, drives them, journals them, recovers others'.

Knows contracts only: the journal, the workers, the nodes. Runs the same inside a Ray actor and inside
the process of ``agentflow run --local``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

from agentflow.engine.commands import CANCEL, RETRY, accepted, asked_by, by_execution
from agentflow.engine.durability import LOST
from agentflow.engine.lease import Lease
from agentflow.engine.outbox import Outbox
from agentflow.engine.owned import Owned
from agentflow.engine.plans import Plans
from agentflow.engine.scheduler import Scheduler
from agentflow.engine.stream import StreamItem, follow
from agentflow.engine.workers import Report, Workers
from agentflow.engine.writer import Writer
from agentflow.errors import AgentFlowError, Conflict, FencedOut, NotSupported, StoreUnavailable
from agentflow.execution.events import ErrorInfo
from agentflow.execution.fold import fold
from agentflow.execution.happenings import Concluded
from agentflow.execution.journal import Claimed, Command, Journal, Submission
from agentflow.execution.listener import Listener
from agentflow.execution.state import ExecutionState
from agentflow.nodes.base import NodeSet
from agentflow.plan.plan import Plan

Json = Any

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Hints are hints: how often the journal itself is asked for orphans and commands."""
CLAIM_LIMIT, DRAIN_S = 100, 2.0
SMALL_SPEC = 50
"""Nodes of a spec that is compiled on the loop itself (some milliseconds)."""


class Engine:
    """One coordinator. Every method is called on its event loop."""

    def __init__(
        self,
        coordinator_id: str,
        *,
        journal: Journal,
        lease: Lease,
        workers: Workers,
        nodes: NodeSet,
        listeners: Sequence[Listener] = (),
        on_close: Callable[[], Awaitable[None]] | None = None,
        accept_s: float = 5.0,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.id = coordinator_id
        self._journal = journal
        self._lease = lease
        self._workers = workers
        self._on_close = on_close
        self._plans = Plans()
        self._writer = Writer(journal, self._flush, self._regain)
        self._outbox = Outbox(workers, self._on_reports, lambda: lease.held and self._sure)
        self._scheduler = Scheduler(
            nodes=nodes,
            writer=self._writer,
            send=self._outbox.put,
            abandon=self._outbox.abandon,
            leave=self._outbox.leave,
            acknowledge=workers.acknowledge,
            refused=self._on_refused,
            may_lead=lambda: self.available,
            listeners=listeners,
            accept_s=accept_s,
            clock=clock,
            chance=chance,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._nudged = asyncio.Event()
        self._regaining = asyncio.Lock()
        self._accepting = False
        self._closing = False
        self._astray = False
        self._sure = True
        self._hopeless: set[str] = set()
        self._refused: dict[str, AgentFlowError] = {}

    async def start(self) -> None:
        """Enter with a new epoch, then heartbeat, claim orphans and listen for commands."""
        self._loop = asyncio.get_running_loop()
        self._workers.open(self._on_reports)
        self._writer.start()
        await self._enter()
        self._tasks = [
            asyncio.create_task(self._keep(self._claim_orphans), name=f"{self.id} claims"),
            asyncio.create_task(self._keep(self._obey_commands), name=f"{self.id} commands"),
        ]

    @property
    def active(self) -> int:
        """Executions that this coordinator drives now."""
        return sum(not owned.state.over for owned in self._scheduler.owned.values())

    @property
    def available(self) -> bool:
        """Whether a submission would be taken now."""
        return self._accepting and self._writer.available and self._lease.held

    async def accept(self, submission: Submission) -> None:
        """Commit an execution and set it going; returns when it is durable.

        Raises StoreUnavailable (nothing was accepted), Conflict (the id exists), NotSupported.
        """
        if not self.available:
            raise StoreUnavailable()
        plan = await self._plan(submission)
        former = self._scheduler.owned.get(submission.execution_id)
        if former is not None and (former.withdrawn or not former.committed):
            raise StoreUnavailable()
        if former is not None:
            raise Conflict(f"Execution {submission.execution_id} exists already")
        if plan.unsupported:
            raise NotSupported("; ".join(plan.unsupported))
        state = ExecutionState(plan, submission.execution_id)
        owned = Owned(state, submission.tenant)
        await self._scheduler.begin(
            owned, accepted(submission, self._scheduler.clock()), submission
        )

    async def _plan(self, asked: Submission | Claimed) -> Plan:
        """The plan of an execution; a large one is compiled beside the loop. Raises SpecInvalid."""
        if len(asked.spec.get("nodes") or ()) > SMALL_SPEC:
            return await asyncio.to_thread(self._plans.of, asked.content_hash, asked.spec)
        return self._plans.of(asked.content_hash, asked.spec)

    def watch(self, execution_id: str, after: int) -> AsyncIterator[Sequence[StreamItem]]:
        """Durable events past ``after``, then live ones with token deltas.

        Ends after the terminal event, or when the execution is not (or no longer) ours.
        """
        owned = self._scheduler.owned.get(execution_id)
        return follow(self._journal, execution_id, after, owned.stream if owned else None)

    def nudge(self, execution_id: str) -> None:
        """A command may wait for one of our executions: look now rather than within a second."""
        self._nudged.set()

    async def drain(self) -> None:
        """Hand everything over: accept and claim nothing more, release executions without a strike."""
        self._closing, self._accepting = True, False
        self._scheduler.drain()
        await self._stop_tasks()
        if self._lease.held:
            await asyncio.to_thread(self._lease.stop)
            for ending in (self._writer.flush, self._journal.release):
                with contextlib.suppress(StoreUnavailable, TimeoutError):  # then the lease runs out
                    async with asyncio.timeout(DRAIN_S / 2):
                        await ending()
        self._scheduler.drop_all()

    async def close(self) -> None:
        """Stop at once what :meth:`drain` has not ended."""
        self._closing, self._accepting = True, False
        await self._stop_tasks()
        self._scheduler.drop_all()
        await self._writer.close()
        self._outbox.close()
        await self._workers.close()
        await asyncio.to_thread(self._lease.stop)
        if self._on_close is not None:
            await self._on_close()

    async def _enter(self) -> None:
        await asyncio.to_thread(self._lease.stop)
        epoch = await self._journal.enter()
        self._scheduler.epoch = epoch
        self._lease.start(epoch, self._on_lost)
        self._accepting = not self._closing

    def _on_lost(self) -> None:
        """In the keeper's thread: the lease is gone."""
        self._from_thread(self._fall)

    def on_buried(self, coordinators: list[str]) -> None:
        """In the keeper's thread: other coordinators are dead, so there is something to claim."""
        self._from_thread(self._nudged.set)

    def _from_thread(self, call: Callable[[], None]) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def _fall(self) -> None:
        if self._accepting:
            self._accepting = False
            regain = asyncio.create_task(self._regain(), name=f"{self.id} enters again")
            self._tasks.append(regain)

    async def _regain(self) -> None:
        """After a lapse, or a refused write: enter with a new epoch as soon as the database answers,
        keep what still names us, drop the rest."""
        seen = self._scheduler.epoch
        async with self._regaining:
            self._sure = self._sure and self._scheduler.epoch != seen
            while not self._sure and not self._closing:
                self._accepting = False
                try:
                    await self._enter()
                    await self._keep_what_is_ours()
                    self._sure = True
                    self._outbox.flush()
                    self._scheduler.catch_up()
                except StoreUnavailable:
                    await asyncio.sleep(POLL_S / 4)
                except Exception:  # without a lease the coordinator can do nothing: try for ever
                    log.exception("entering_failed", extra={"coordinator": self.id})
                    await asyncio.sleep(POLL_S)

    async def _keep_what_is_ours(self) -> None:
        self._astray = True
        for each in self._scheduler.owned.values():
            each.doubted = not each.committed
        committed = [key for key, owned in self._scheduler.owned.items() if owned.committed]
        ours = await self._journal.owned(committed)
        for key in committed:
            owned = self._scheduler.owned.get(key)
            if key not in ours and owned is not None:
                self._outbox.leave(list(owned.attempts))
                if owned.ended or not owned.state.over:
                    self._scheduler.drop(owned)

    async def _stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do this work for ever, whatever becomes of one round of it."""
        while True:
            try:
                if self._accepting:
                    await work()
            except StoreUnavailable:
                log.warning("database_away", extra={"coordinator": self.id})
            except Exception:  # one bad round must not end the coordinator
                log.exception("coordinator_round_failed", extra={"coordinator": self.id})
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._nudged.wait()
            await asyncio.sleep(0)
            self._nudged.clear()

    async def _claim_orphans(self) -> None:
        try:
            while orphans := await self._orphans():
                await self._take_over_all(orphans)
        except BaseException:  # nobody knows what was claimed
            self._astray = True
            raise

    async def _orphans(self) -> Sequence[Claimed]:
        """Executions that are to be taken over; first those that are ours but that nobody drives,
        where something went wrong between the claim and its take-over."""
        if self._astray:
            self._astray = (
                False  # before it is asked: what goes astray meanwhile is looked for again
            )
            driven = self._scheduler.owned
            found = await self._journal.strays([*driven, *self._hopeless], CLAIM_LIMIT)
            if strays := [stray for stray in found if stray.execution_id not in driven]:
                self._astray = True
                return strays
        return await self._journal.claim(CLAIM_LIMIT)

    async def _take_over_all(self, orphans: Sequence[Claimed]) -> None:
        waiting = by_execution(
            await self._journal.commands([orphan.execution_id for orphan in orphans])
        )
        folded: list[tuple[Owned, Sequence[Command]]] = []
        for orphan in orphans:
            asked: Sequence[Command] = waiting.get(orphan.execution_id, ())
            with self._hopeless_if_it_fails(orphan.execution_id):
                owned = await self._fold(orphan, asked)
                if owned is not None:
                    folded.append((owned, asked))
        found = await self._adopted([owned for owned, _ in folded])
        for owned, asked in folded:
            with self._hopeless_if_it_fails(owned.id):
                self._go_on(owned, asked, found)

    @contextlib.contextmanager
    def _hopeless_if_it_fails(self, execution_id: str) -> Iterator[None]:
        """It stays ours and visible; its neighbours must go on. Raises StoreUnavailable."""
        try:
            yield
        except StoreUnavailable:
            raise
        except Exception:
            self._hopeless.add(execution_id)
            log.exception(
                "take_over_failed", extra={"coordinator": self.id, "execution_id": execution_id}
            )

    async def _fold(self, claimed: Claimed, asked: Sequence[Command]) -> Owned | None:
        """The state of an orphan; None where it is over and nobody asked for more."""
        plan = await self._plan(claimed)
        recorded = await self._journal.read(claimed.execution_id)
        state = fold(ExecutionState(plan, claimed.execution_id), (r.event for r in recorded))
        former = self._scheduler.owned.get(claimed.execution_id)
        if former is not None:
            self._scheduler.drop(former)
        if state.over and not any(command.kind == RETRY for command in asked):
            return None
        return Owned(state, claimed.tenant)

    async def _adopted(self, orphans: Sequence[Owned]) -> frozenset[str]:
        """Ids of the attempts that the workers still have of what was taken over."""
        attempts = [attempt for owned in orphans for attempt in self._scheduler.enrol(owned)]
        if not attempts:
            return frozenset()
        try:
            return await self._workers.adopt(attempts)
        except BaseException:  # they are taken over in another round
            for owned in orphans:
                self._scheduler.drop(owned)
            raise

    def _go_on(self, owned: Owned, commands: Sequence[Command], found: frozenset[str]) -> None:
        """Go on where the journal ends, or as it was asked to: end, or begin anew what failed."""
        if self._scheduler.owned.get(owned.id) is not owned:
            return
        at = self._scheduler.clock()
        first = commands[0] if commands else None
        refusal = self._refused.pop(owned.id, None)
        if refusal is not None:
            self._hopeless.add(owned.id)
            error = ErrorInfo(refusal.type, refusal.message)
            self._scheduler.adopt(owned, found, Concluded(at=at, error=error))
        elif first is not None and first.kind == CANCEL:
            owned.obeyed.add(first.id)
            self._scheduler.adopt(owned, found, asked_by(first, at), (first.id,))
        elif owned.state.plan.settings.durability == "none" and not owned.state.over:
            self._scheduler.adopt(owned, found, Concluded(at=at, error=LOST))
        else:
            self._scheduler.adopt(owned, found)
        for command in commands:
            self._obey(command)

    def _on_refused(self, execution_id: str, error: AgentFlowError) -> None:
        """The journal cannot hold what an execution did next: it is to fail where its journal ends."""
        if not isinstance(error, FencedOut):  # that may have been a former epoch of our own
            extra = {"execution_id": execution_id, "error": error.message}
            log.error("append_refused", extra=extra)
            if execution_id in self._hopeless:
                return
            self._refused[execution_id] = error
        self._astray = True
        self._nudged.set()

    async def _obey_commands(self) -> None:
        ours = [key for key, owned in self._scheduler.owned.items() if not owned.state.over]
        if not ours:
            return
        for command in await self._journal.commands(ours):
            self._obey(command)

    def _obey(self, command: Command) -> None:
        owned = self._scheduler.owned.get(command.execution_id)
        if owned is None or command.id in owned.obeyed:
            return
        if owned.state.over != (command.kind == RETRY):
            return
        owned.obeyed.add(command.id)
        asked = asked_by(command, self._scheduler.clock())
        self._scheduler.advance(owned, asked, commands=(command.id,))
        if command.kind == RETRY:
            self._hopeless.discard(owned.id)
            self._scheduler.start_clock(owned)

    def _on_reports(self, reports: Sequence[Report]) -> None:
        for report in reports:
            try:
                self._scheduler.report(report)
            except Exception:  # the reports of others must be heard
                log.exception("report_failed", extra={"attempt": report.id})

    def _flush(self) -> None:
        """After a transaction: everything it released leaves in one call."""
        self._scheduler.catch_up()
        self._outbox.flush()
