"""Two coordinators with leases too short for their pauses fight over the same executions."""

from __future__ import annotations

import asyncio
import random

from agentflow.errors import FencedOut, StoreError
from agentflow.execution.events import StepCompleted
from agentflow.store.journal import PostgresJournal
from agentflow.store.leases import heartbeat
from tests.store.samples import accept, append, end, started, step_completed, step_started

LEASE_S = 0.15
STEPS = 6
EXECUTIONS = 12


class _Rival:
    """A coordinator that does steps one after the other and pauses at the worst places."""

    def __init__(self, pool, name, seed, submissions):
        self.journal = PostgresJournal(pool, name, LEASE_S)
        self.chance = random.Random(seed)
        self.submissions = {one.execution_id: one for one in submissions}
        self.fenced = 0

    async def pause(self, longest=2 * LEASE_S):
        """Often none, sometimes longer than the lease."""
        await asyncio.sleep(self.chance.choice((0, 0, 0, 0.01, longest)))

    async def live(self, finished):
        while len(finished) < EXECUTIONS:
            try:
                await self.journal.enter()
                await self.pause(0.05)
                kept = await self.journal.strays((), EXECUTIONS)  # entering again keeps them ours
                for owned in [*kept, *await self.journal.claim(3)]:
                    await self.work(owned.execution_id, finished)
            except FencedOut:
                self.fenced += 1

    async def work(self, execution_id, finished):
        one = self.submissions[execution_id]
        recorded = await self.journal.read(execution_id)
        done = {entry.event.step for entry in recorded if isinstance(entry.event, StepCompleted)}
        seq = len(recorded) + 1
        for step in (f"s{number}" for number in range(STEPS)):
            if step in done:
                continue
            await self.journal.append([append(one, seq, step_started(step))])
            await self.pause()
            await self.journal.append([append(one, seq + 1, step_completed(step))])
            seq += 2
        await self.journal.append([end(one, seq)])
        finished.add(execution_id)


async def _bury_for_ever(dsn):
    undertaker = heartbeat(dsn, "undertaker", 60)
    try:
        while True:
            await undertaker.bury()
            await asyncio.sleep(LEASE_S / 3)
    finally:
        await undertaker.close()


async def test_rivals_never_duplicate_a_completion_and_leave_no_gap(dsn, pool, new_submission):
    submissions = [new_submission() for _ in range(EXECUTIONS)]
    origin = PostgresJournal(pool, "origin", 30)
    await origin.enter()
    await origin.append([accept(one, started()) for one in submissions])
    await origin.release()

    finished: set[str] = set()
    rivals = [_Rival(pool, f"rival/{number}", number, submissions) for number in range(2)]
    burying = asyncio.create_task(_bury_for_ever(dsn))
    releasing = asyncio.create_task(_release_quarantined(pool))
    await asyncio.wait_for(asyncio.gather(*(rival.live(finished) for rival in rivals)), 120)
    for task in (burying, releasing):
        task.cancel()
    await asyncio.gather(burying, releasing, return_exceptions=True)

    assert sum(rival.fenced for rival in rivals) > 0, "the fence was never tried"
    for one in submissions:
        recorded = await origin.read(one.execution_id)
        assert [entry.seq for entry in recorded] == list(range(1, len(recorded) + 1))
        completions = [
            entry.event.step for entry in recorded if isinstance(entry.event, StepCompleted)
        ]
        assert completions == [f"s{number}" for number in range(STEPS)]


async def _release_quarantined(pool):
    """Deaths are many here; an operator who releases at once keeps the executions moving."""
    while True:
        await pool.execute(
            "UPDATE executions SET status = 'running', strikes = 0 WHERE status = 'quarantined'"
        )
        await asyncio.sleep(LEASE_S)


async def test_concurrent_lanes_keep_every_execution_gap_free(pool, new_submission):
    journal = PostgresJournal(pool, "c/0", 30)
    await journal.enter()
    lanes = [[new_submission() for _ in range(5)] for _ in range(2)]

    async def write(lane):
        await journal.append([accept(one) for one in lane])
        for seq in range(2, 30, 2):
            step = f"s{seq}"
            await journal.append(
                [append(one, seq, step_started(step), step_completed(step)) for one in lane]
            )

    async def renew():
        while True:
            await pool.execute("UPDATE coordinators SET lease_until = lease_until + interval '1 s'")
            await asyncio.sleep(0.01)

    renewing = asyncio.create_task(renew())
    await asyncio.gather(*map(write, lanes))
    renewing.cancel()
    ids = [one.execution_id for lane in lanes for one in lane]
    assert await journal.last_seq(ids) == dict.fromkeys(ids, 29)


async def test_store_errors_are_typed_when_a_tenant_is_unknown(pool, new_submission):
    journal = PostgresJournal(pool, "c/0", 30)
    await journal.enter()
    stranger = new_submission(tenant="ten_" + "0" * 32)
    try:
        await journal.append([accept(stranger)])
    except StoreError as error:
        assert not isinstance(error, FencedOut)
    else:
        raise AssertionError("a row of an unknown tenant was accepted")
