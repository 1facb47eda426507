"""Take-over: a coordinator folds what others left behind, adopts the attempts that still run, and goes on.

What goes astray between a claim and its end is found again; what cannot be folded stays ours and visible.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence

from agentflow.engine.commands import CANCEL, RETRY, asked_by, by_execution
from agentflow.engine.durability import LOST
from agentflow.engine.owned import Owned
from agentflow.engine.scheduler import Scheduler
from agentflow.engine.snapshots import fold_on, last_state
from agentflow.engine.workers import Workers
from agentflow.errors import AgentFlowError, FencedOut, StoreUnavailable
from agentflow.execution.events import ErrorInfo
from agentflow.execution.happenings import Concluded
from agentflow.execution.journal import Claimed, Command, Journal
from agentflow.plan.plan import Plan

log = logging.getLogger(__name__)

CLAIM_LIMIT = 100
LOOK_EVERY = 10
"""Rounds after which strays are looked for in any case: a claim that was given up for lost may be carried
out by the database later than that was last done."""


class Recovery:
    """One coordinator's take-over of executions. ``leave``: attempts that are no longer ours;
    ``plan_of``: the plan of an orphan; ``obey``: obey a command of an execution that is owned;
    ``leased``: whether the lease is held; ``nudge``: have :meth:`claim_orphans` called soon."""

    def __init__(
        self,
        coordinator_id: str,
        *,
        journal: Journal,
        workers: Workers,
        scheduler: Scheduler,
        leave: Callable[[Sequence[str]], None],
        plan_of: Callable[[Claimed], Awaitable[Plan]],
        obey: Callable[[Command], None],
        leased: Callable[[], bool],
        nudge: Callable[[], None],
    ) -> None:
        self._id = coordinator_id
        self._journal = journal
        self._workers = workers
        self._scheduler = scheduler
        self._leave = leave
        self._plan_of = plan_of
        self._obey = obey
        self._leased = leased
        self._nudge = nudge
        self._astray = False
        self._rounds = 0
        self._hopeless: set[str] = set()
        self._refused: dict[str, AgentFlowError] = {}

    async def claim_orphans(self) -> None:
        """Take over all that is to be taken over now. Raises StoreUnavailable."""
        self._rounds += 1
        self._astray = self._astray or self._rounds % LOOK_EVERY == 0
        try:
            epoch = self._scheduler.epoch
            while orphans := await self._orphans():
                await self._take_over_all(orphans, epoch)
        except BaseException:  # nobody knows what was claimed
            self._astray = True
            raise

    async def keep_what_is_ours(self) -> None:
        """After an entry with a new epoch: keep what still names us, drop the rest.

        Raises StoreUnavailable.
        """
        self._astray = True
        for each in self._scheduler.owned.values():
            each.doubted = not each.committed
        committed = [key for key, owned in self._scheduler.owned.items() if owned.committed]
        ours = await self._journal.owned(committed)
        for key in committed:
            owned = self._scheduler.owned.get(key)
            if key not in ours and owned is not None:
                self._leave(list(owned.attempts))
                if owned.ended or not owned.state.over:
                    self._scheduler.drop(owned)

    def refused(self, execution_id: str, error: AgentFlowError) -> None:
        """The journal cannot hold what an execution did next: it is to fail where its journal ends."""
        if not isinstance(error, FencedOut):  # that may have been a former epoch of our own
            extra = {"execution_id": execution_id, "error": error.message}
            log.error("append_refused", extra=extra)
            if execution_id in self._hopeless:
                return
            self._refused[execution_id] = error
        self.look()

    def look(self) -> None:
        """Something that nobody drives may still be ours: look for it."""
        self._astray = True
        self._nudge()

    def begun_anew(self, execution_id: str) -> None:
        """An operator retries it: there is hope again."""
        self._hopeless.discard(execution_id)

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

    async def _take_over_all(self, orphans: Sequence[Claimed], epoch: int) -> None:
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
        if self._scheduler.epoch != epoch or not self._leased():
            raise StoreUnavailable()  # we were paused: their next owner may have adopted already
        lost = await self._adopt([owned for owned, _ in folded])
        for owned, asked in folded:
            with self._hopeless_if_it_fails(owned.id):
                self._go_on(owned, asked, lost)

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
                "take_over_failed", extra={"coordinator": self._id, "execution_id": execution_id}
            )

    async def _fold(self, claimed: Claimed, asked: Sequence[Command]) -> Owned | None:
        """The state of an orphan; None where it is over and nobody asked for more."""
        plan = await self._plan_of(claimed)
        state = await last_state(self._journal, plan, claimed.execution_id)
        async for _ in fold_on(self._journal, state):
            await asyncio.sleep(0)
        former = self._scheduler.owned.get(claimed.execution_id)
        if former is not None:
            self._scheduler.drop(former)
        if state.over and not any(command.kind == RETRY for command in asked):
            return None
        return Owned(state, claimed.tenant)

    async def _adopt(self, orphans: Sequence[Owned]) -> frozenset[str]:
        """Adopt what the workers still have of what was taken over; ids of the attempts that are lost.
        What is adopted may go on before their answer comes."""
        attempts = [attempt for owned in orphans for attempt in self._scheduler.enrol(owned)]
        if not attempts:
            return frozenset()
        try:
            found = await self._workers.adopt(attempts)
        except BaseException:  # they are taken over in another round
            for owned in orphans:
                self._scheduler.drop(owned)
            raise
        return frozenset(attempt.id for attempt in attempts) - found

    def _go_on(self, owned: Owned, commands: Sequence[Command], lost: frozenset[str]) -> None:
        """Go on where the journal ends, or as it was asked to: end, or begin anew what failed."""
        if self._scheduler.owned.get(owned.id) is not owned:
            return
        at = self._scheduler.clock()
        first = commands[0] if commands else None
        refusal = self._refused.pop(owned.id, None)
        if refusal is not None:
            self._hopeless.add(owned.id)
            error = ErrorInfo(refusal.type, refusal.message)
            self._scheduler.adopt(owned, lost, Concluded(at=at, error=error))
        elif first is not None and first.kind == CANCEL:
            owned.obeyed |= {first.id}
            self._scheduler.adopt(owned, lost, asked_by(first, at), (first.id,))
        elif owned.state.plan.settings.durability == "none" and not owned.state.over:
            self._scheduler.adopt(owned, lost, Concluded(at=at, error=LOST))
        else:
            self._scheduler.adopt(owned, lost)
        for command in commands:
            self._obey(command)
