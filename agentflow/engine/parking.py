"""Executions that wait: the end of their waits, and their leave from this process.

An execution of which every open step waits leaves memory after a short rest; its row alone wakes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentflow.engine.owned import Owned
from agentflow.engine.timers import Timers
from agentflow.errors import FencedOut
from agentflow.execution import happenings as hp
from agentflow.execution.journal import Journal
from agentflow.execution.keys import wait_id

REST_S = 1.0
"""How long an execution that waits is kept in memory."""
NEAR_S = 5.0
"""One that goes on by itself within this time is kept: to fold it again would cost more."""
AGAIN_S = 0.1
BATCH = 500
"""Executions that one transaction gives up, waits that one transaction closes."""


class Parking:
    """One coordinator's. ``happen``: let something happen to an execution; ``driven``: whether it is still
    ours; ``drop``: forget it; ``astray``: what was dropped may still be ours; ``answered``: commands are
    there."""

    def __init__(
        self,
        journal: Journal,
        clock: Callable[[], float],
        *,
        happen: Callable[[Owned, hp.Happening], None],
        driven: Callable[[Owned], bool],
        drop: Callable[[Owned], None],
        astray: Callable[[], None],
        answered: Callable[[], None],
        rest_s: float = REST_S,
        near_s: float = NEAR_S,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._happen = happen
        self._driven = driven
        self._drop = drop
        self._astray = astray
        self._answered = answered
        self._rest_s = rest_s
        self._near_s = near_s
        self._expiring: dict[tuple[str, str], tuple[Owned, hp.Due | hp.StepLimit]] = {}
        self._resting: dict[str, tuple[Owned, float | None]] = {}
        self.nudged = asyncio.Event()
        """There is something to :meth:`work` on."""

    def expire(self, owned: Owned, key: str, happening: hp.Due | hp.StepLimit) -> None:
        """End the wait of a step, unless it was answered before."""
        step = owned.state.steps[key]
        self._expiring[owned.id, wait_id(key, step.generation)] = (owned, happening)
        self.nudged.set()

    def rest(self, owned: Owned, timers: Timers) -> None:
        """This execution waits: let it leave memory after a while, if it still does then."""
        timers.later(owned, "rest", self._rest_s, self._rested, owned, timers)

    def _rested(self, owned: Owned, timers: Timers) -> None:
        if owned.state.status != "waiting":
            return
        wake_at = timers.next_wake(owned)
        if wake_at is not None and wake_at < self._clock() + self._near_s:
            return
        if owned.attempts or not owned.durability.settled:
            self.rest(owned, timers)
            return
        self._resting[owned.id] = (owned, wake_at)
        self.nudged.set()

    async def work(self) -> None:
        """End waits and give executions up, as far as it can be done now. Raises StoreUnavailable."""
        self._expiring = {
            name: entry for name, entry in self._expiring.items() if self._driven(entry[0])
        }
        ready = [name for name, (owned, _) in self._expiring.items() if owned.durability.settled]
        if ready:
            await self._end_waits(ready[:BATCH])
        if self._resting:
            await self._leave()
        if self._expiring or self._resting:
            asyncio.get_running_loop().call_later(AGAIN_S, self.nudged.set)

    async def _end_waits(self, ready: list[tuple[str, str]]) -> None:
        try:
            answered = await self._journal.expire(ready)
        except FencedOut:  # what is no longer ours will be dropped, the rest is asked for again
            return
        if answered:
            self._answered()
        for name in ready:
            owned, happening = self._expiring.pop(name)
            if name not in answered and self._driven(owned):
                self._happen(owned, happening)

    async def _leave(self) -> None:
        rests: list[tuple[str, float | None]] = []
        for name in list(self._resting)[:BATCH]:
            owned, wake_at = self._resting.pop(name)
            waits = owned.state.status == "waiting" and owned.durability.settled
            if waits and self._driven(owned):
                rests.append((name, wake_at))
                self._drop(owned)
        try:
            await self._journal.park(rests)
        except BaseException:  # nobody knows whether they are still ours
            self._astray()
            raise
