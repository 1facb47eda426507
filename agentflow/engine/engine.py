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
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from agentflow.engine.caching import Reuse
from agentflow.engine.commands import RETRY, SIGNAL, accepted, asked_by
from agentflow.engine.lease import Lease
from agentflow.engine.outbox import Outbox
from agentflow.engine.owned import Owned
from agentflow.engine.parking import NEAR_S, REST_S, Parking
from agentflow.engine.plans import Plans
from agentflow.engine.recovery import Recovery
from agentflow.engine.scheduler import Scheduler
from agentflow.engine.snapshots import EVERY, Snapshots
from agentflow.engine.stream import StreamItem, follow
from agentflow.engine.workers import Report, Workers
from agentflow.engine.writer import Writer
from agentflow.errors import Conflict, NotSupported, StoreUnavailable
from agentflow.execution.caching import Results
from agentflow.execution.journal import Claimed, Command, Journal, Outcome, Submission
from agentflow.execution.listener import Listener
from agentflow.execution.state import ExecutionState
from agentflow.nodes.base import NodeSet
from agentflow.plan.plan import Plan

Json = Any

log = logging.getLogger(__name__)

POLL_S = 1.0
"""Hints are hints: how often the journal itself is asked for orphans and commands."""
DRAIN_S = 2.0
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
        results: Results | None = None,
        listeners: Sequence[Listener] = (),
        on_close: Callable[[], Awaitable[None]] | None = None,
        accept_s: float = 5.0,
        snapshot_every: int = EVERY,
        rest_s: float = REST_S,
        near_s: float = NEAR_S,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.id = coordinator_id
        self._journal = journal
        self._lease = lease
        self._workers = workers
        self._on_close = on_close
        self._plans = Plans()
        self._snapshots = Snapshots(journal, snapshot_every)
        self._writer = Writer(journal, self._flush, self._regain)
        self._outbox = Outbox(workers, self._on_reports, lambda: lease.held and self._sure)
        self._reuse = Reuse(
            results,
            send=self._outbox.put,
            abandon=self._outbox.abandon,
            leave=self._outbox.leave,
            on_reports=self._on_reports,
        )
        self._scheduler = Scheduler(
            nodes=nodes,
            writer=self._writer,
            send=self._reuse.put,
            abandon=self._reuse.abandon,
            leave=self._reuse.leave,
            acknowledge=workers.acknowledge,
            refused=lambda execution_id, error: self._recovery.refused(execution_id, error),
            expire=lambda owned, key, happening: self._parking.expire(owned, key, happening),
            rest=lambda owned: self._parking.rest(owned, self._scheduler.timers),
            may_lead=lambda: self.available,
            listeners=(*listeners, self._snapshots, self._reuse),
            accept_s=accept_s,
            clock=clock,
            chance=chance,
        )
        self._recovery = Recovery(
            coordinator_id,
            journal=journal,
            workers=workers,
            scheduler=self._scheduler,
            leave=self._reuse.leave,
            plan_of=self._plan,
            obey=self._obey,
            leased=lambda: lease.held,
            nudge=self._nudge,
        )
        self._parking = Parking(
            journal,
            clock,
            happen=self._scheduler.advance,
            driven=self._scheduler.drives,
            drop=self._scheduler.drop,
            astray=self._recovery.look,
            answered=self._nudge,
            rest_s=rest_s,
            near_s=near_s,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._orphaned, self._commanded = asyncio.Event(), asyncio.Event()
        self._regaining = asyncio.Lock()
        self._accepting = False
        self._closing = False
        self._sure = True

    async def start(self) -> None:
        """Enter with a new epoch, then heartbeat, claim orphans and listen for commands."""
        self._loop = asyncio.get_running_loop()
        self._workers.open(self._on_reports)
        self._writer.start()
        await self._enter()
        rounds = (
            ("claims", self._recovery.claim_orphans, self._orphaned),
            ("commands", self._obey_commands, self._commanded),
            ("parking", self._parking.work, self._parking.nudged),
            ("snapshots", self._snapshots.make, self._snapshots.nudged),
        )
        self._tasks = [
            asyncio.create_task(self._keep(work, nudged), name=f"{self.id} {name}")
            for name, work, nudged in rounds
        ]

    @property
    def active(self) -> int:
        """Executions that this coordinator drives now."""
        return sum(not owned.state.over for owned in self._scheduler.owned.values())

    @property
    def available(self) -> bool:
        """Whether a submission would be taken now."""
        return self._accepting and self._writer.available and self._lease.held

    async def accept(self, submission: Submission) -> Outcome | None:
        """Commit an execution and set it going; returns when it is durable, and how it ended if that is
        durable as well: so it is where it needed nobody else.

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
        return owned.result

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
        self._nudge()

    async def drain(self) -> None:
        """Hand everything over: accept and claim nothing more, release executions without a strike."""
        self._closing, self._accepting = True, False
        self._scheduler.drain()
        await self._stop_tasks()
        if self._lease.held:
            self._lease.hold_still()  # our session stays: others take over what was given up, not us
            for ending in (self._writer.flush, self._journal.release):
                with contextlib.suppress(StoreUnavailable, TimeoutError):  # then the lease runs out
                    async with asyncio.timeout(DRAIN_S / 2):
                        await ending()
            await asyncio.to_thread(self._lease.stop)
        self._scheduler.drop_all()

    async def close(self) -> None:
        """Stop at once what :meth:`drain` has not ended."""
        self._closing, self._accepting = True, False
        await self._stop_tasks()
        self._scheduler.drop_all()
        await self._writer.close()
        self._outbox.close()
        await self._reuse.close()
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
        self._from_thread(self._nudge)

    def _nudge(self) -> None:
        """Each round has an event of its own: one must not clear what another has not seen."""
        self._orphaned.set()
        self._commanded.set()

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
                    await self._recovery.keep_what_is_ours()
                    self._sure = True
                    self._outbox.flush()
                    self._scheduler.catch_up()
                except StoreUnavailable:
                    await asyncio.sleep(POLL_S / 4)
                except Exception:  # without a lease the coordinator can do nothing: try for ever
                    log.exception("entering_failed", extra={"coordinator": self.id})
                    await asyncio.sleep(POLL_S)

    async def _stop_tasks(self) -> None:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, work: Callable[[], Awaitable[None]], nudged: asyncio.Event) -> None:
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
                    await nudged.wait()
            await asyncio.sleep(0)
            nudged.clear()

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
        owned.obeyed |= {command.id}
        if command.kind == SIGNAL:
            self._scheduler.answer(owned, command)
            return
        asked = asked_by(command, self._scheduler.clock())
        self._scheduler.advance(owned, asked, commands=(command.id,))
        if command.kind == RETRY:
            self._recovery.begun_anew(owned.id)
            self._scheduler.timers.keep_clock(owned)

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
