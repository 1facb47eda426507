"""What nothing refers to is collected; what a writer names at that very moment never is."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import StoreUnavailable
from agentflow.ids import to_uuid
from agentflow.store.blobs_collection import LOCK, collect
from agentflow.store.blobs_folder import BlobFolder
from agentflow.store.journal import PostgresJournal
from agentflow.store.pool import connect
from agentflow.store.retention import erase
from agentflow.store.sealing import Sealer
from agentflow.store.tenant import for_tenant
from tests.soak import cases
from tests.store.samples import accept, append, end, started, step_completed

BIG = "large " * 20_000
AGE = """UPDATE blobs SET touched_at = touched_at - make_interval(hours => 2),
                           look_at = look_at - make_interval(hours => 2)"""
ENDED = "UPDATE executions SET ended_at = clock_timestamp() - make_interval(days => 91)"
USED = "SELECT count(*) FROM blob_uses"


@pytest.fixture
def folder(tmp_path):
    return BlobFolder(tmp_path / "blobs", uuid.uuid4())


@pytest.fixture
async def journal(pool, folder):
    opened = PostgresJournal(pool, "c/0", 30.0, Sealer(pool, folder))
    await opened.enter()
    return opened


async def _kept(folder: BlobFolder) -> int:
    return len(await folder.held())


async def test_value_goes_with_the_last_execution_that_refers_to_it(
    pool, journal, folder, new_submission
):
    first, second = (new_submission(initial_state={"text": BIG}) for _ in range(2))
    for one in (first, second):
        await journal.append([accept(one, started(), step_completed("a", BIG))])
    await pool.execute(AGE)
    assert await collect(pool, folder) == 0
    await journal.append([end(first, 4)])
    await pool.execute(ENDED)
    assert (await erase(pool)).executions == 1
    assert await collect(pool, folder) == 0
    store = for_tenant(pool, DEFAULT_TENANT, None, Sealer(pool, folder))
    assert (await store.execution(second.execution_id)).initial_state == {"text": BIG}

    await journal.append([end(second, 4)])
    await pool.execute(ENDED)
    assert (await erase(pool)).executions == 1
    assert await pool.fetchval(USED) == 0
    assert await collect(pool, folder) == 1
    assert await _kept(folder) == 0
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 0


async def test_what_was_put_and_never_named_goes_after_an_hour(
    pool, journal, folder, new_submission
):
    one = new_submission()
    await journal.append([accept(one)])
    rival = PostgresJournal(pool, "c/0", 30.0)
    await rival.enter()  # the first one is fenced out from here
    with pytest.raises(Exception, match="may not write"):
        await journal.append([append(one, 2, step_completed("a", BIG))])
    assert await _kept(folder) == 1
    assert await collect(pool, folder) == 0
    await pool.execute("UPDATE blobs SET look_at = clock_timestamp()")
    assert await collect(pool, folder) == 0  # it was asked for just now
    await pool.execute(AGE)
    assert await collect(pool, folder) == 1
    assert await _kept(folder) == 0


async def test_writer_that_put_it_long_ago_puts_it_again(pool, journal, folder, new_submission):
    one, two = new_submission(), new_submission(initial_state={"text": BIG})
    await journal.append([accept(one, step_completed("a", BIG)), accept(two)])
    await pool.execute("DELETE FROM blob_uses")
    await pool.execute(AGE)
    assert await collect(pool, folder) == 1
    with pytest.raises(StoreUnavailable, match="put again"):
        await journal.append([append(one, 3, step_completed("b", BIG))])
    assert await journal.last_seq([one.execution_id]) == {one.execution_id: 2}
    await journal.append([append(one, 3, step_completed("b", BIG))])
    assert (await journal.read(one.execution_id))[2].event.result == BIG


async def test_collector_that_ends_half_way_harms_nobody(pool, journal, folder, new_submission):
    one = new_submission()
    await journal.append([accept(one, step_completed("a", BIG))])
    await pool.execute("DELETE FROM blob_uses")
    await pool.execute(AGE)

    class Ending(BlobFolder):
        async def remove(self, tenant, sha256):
            await super().remove(tenant, sha256)
            raise StoreUnavailable("the process ends here")

    with pytest.raises(StoreUnavailable):
        await collect(pool, Ending(Path(folder.place), uuid.UUID(await _space(folder))))
    assert await _kept(folder) == 0
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 1
    with pytest.raises(StoreUnavailable, match="put again"):
        await journal.append([append(one, 3, step_completed("b", BIG))])
    await journal.append([append(one, 3, step_completed("b", BIG))])
    assert (await journal.read(one.execution_id))[2].event.result == BIG


async def _space(folder: BlobFolder) -> str:
    (space,) = await asyncio.to_thread(lambda: list(Path(folder.place).iterdir()))
    return space.name


async def test_nothing_is_collected_while_a_backup_reads(
    pool, dsn, journal, folder, new_submission
):
    await journal.append([accept(new_submission(initial_state={"text": BIG}))])
    await pool.execute("DELETE FROM blob_uses")
    await pool.execute(AGE)
    reader = await connect(dsn)
    await reader.execute("SELECT pg_advisory_lock_shared($1)", LOCK)
    assert await collect(pool, folder) == 0
    await reader.close()
    async with asyncio.timeout(10):
        while not await collect(pool, folder):
            await asyncio.sleep(0)


async def test_what_is_named_while_it_is_collected_is_there(pool, dsn, folder, new_submission):
    """Writers of the same few values, each of which takes its own use away again, and a collector that
    has no patience: what an append has committed can be read."""
    rounds, contents = cases(15), [BIG + str(number) for number in range(2)]
    removed = again = 0
    ended = asyncio.Event()

    async def write(number: int) -> None:
        nonlocal again
        journal = PostgresJournal(pool, f"c/{number}", 3600.0, Sealer(pool, folder))
        await journal.enter()
        for turn in range(rounds):
            one = new_submission(initial_state={"text": contents[turn % 2]})
            while True:
                try:
                    await journal.append([accept(one)])
                    break
                except StoreUnavailable:
                    again += 1
            fresh = PostgresJournal(pool, "reader", 60.0, Sealer(pool, folder))
            (created,) = await fresh.read(one.execution_id)
            assert created.event.initial_state == one.initial_state
            key = to_uuid(one.execution_id, "exec")
            await pool.execute("DELETE FROM blob_uses WHERE execution_id = $1", key)

    async def sweep() -> None:
        nonlocal removed
        while not ended.is_set():
            await pool.execute("UPDATE blobs SET look_at = '-infinity'")
            removed += await collect(pool, folder, grace_s=0)

    sweepers = [asyncio.create_task(sweep()) for _ in range(2)]
    try:
        async with asyncio.timeout(cases(60)):
            await asyncio.gather(*(write(number) for number in range(3)))
    finally:
        ended.set()
        await asyncio.gather(*sweepers)
    assert removed and again  # both sides met
