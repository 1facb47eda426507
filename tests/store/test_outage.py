"""The database goes away and comes back: nothing committed is lost, nothing is written twice."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from agentflow.errors import StoreUnavailable
from agentflow.store import migrate
from agentflow.store.embedded import join
from agentflow.store.journal import PostgresJournal
from agentflow.store.pool import open_pool, ping
from tests.store.samples import accept, append, step_completed


async def _back(pool):
    while True:
        try:
            return await ping(pool)
        except StoreUnavailable:
            await asyncio.sleep(0.02)


async def test_a_coordinator_goes_on_after_the_server_was_killed(data_dir, new_submission):
    held = join(data_dir)
    await asyncio.to_thread(migrate.upgrade, held.dsn)
    pool = await open_pool(held.dsn)
    journal, one = PostgresJournal(pool, "c/0", 30), new_submission()
    await journal.enter()
    await journal.append([accept(one)])

    committed, server = 1, data_dir / "postgres" / "data" / "postmaster.pid"
    with pytest.raises(StoreUnavailable):
        for seq in range(2, 100_000):
            if seq == 50:
                os.kill(int(server.read_text().split()[0]), signal.SIGKILL)
            await journal.append([append(one, seq, step_completed(f"s{seq}"))])
            committed = seq

    await asyncio.wait_for(_back(pool), 20)
    former = journal.epoch
    assert await journal.enter() == former + 1
    assert await journal.owned([one.execution_id]) == {one.execution_id}
    last = (await journal.last_seq([one.execution_id]))[one.execution_id]
    assert committed <= last <= committed + 1
    await journal.append([append(one, last + 1, step_completed("after"))])
    recorded = await journal.read(one.execution_id)
    assert [entry.seq for entry in recorded] == list(range(1, last + 2))
    await pool.close()
    held.close()
