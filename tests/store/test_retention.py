"""Ended executions are erased when their time is over, bit by bit; rows of dead coordinators go too."""

from __future__ import annotations

import asyncio
import os
import uuid
from pathlib import Path

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import FencedOut, NotFound
from agentflow.execution import events as ev
from agentflow.ids import to_uuid
from agentflow.store import retention
from agentflow.store.blobs import ABANDONED_S
from agentflow.store.blobs_folder import BlobFolder
from agentflow.store.journal import PostgresJournal
from agentflow.store.retention import ERASED, Housekeeping, erase, forget_coordinators
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept, append, end, started, step_completed

AGE = "UPDATE executions SET ended_at = clock_timestamp() - make_interval(days => $2) WHERE execution_id = $1"


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


@pytest.fixture
def ended(pool, journal, new_submission):
    """Makes executions that ended so many days ago, by the database's clock."""

    async def make(days: int, retention_days: int | None = None, count: int = 1):
        spec = {"nodes": []} | (
            {"settings": {"retention_days": retention_days}} if retention_days else {}
        )
        made = [
            new_submission(spec=spec, content_hash=f"sha256:{retention_days}") for _ in range(count)
        ]
        await journal.append([accept(one, started(), step_completed("a")) for one in made])
        await journal.append([end(one, 4) for one in made])
        for one in made:
            await pool.execute(AGE, to_uuid(one.execution_id, "exec"), days)
        return made[0] if count == 1 else made

    return make


async def _left(pool: asyncpg.Pool, table: str = "executions") -> set[str]:
    rows = await pool.fetch(f"SELECT execution_id FROM {table}")
    return {"exec_" + row["execution_id"].hex for row in rows}


async def test_only_what_is_older_than_its_own_limit_is_erased(pool, ended):
    old, kept = await ended(91), await ended(89)
    short, brief = await ended(8, 7), await ended(6, 7)
    long = await ended(91, 2_000_000_000)
    assert await erase(pool) == (2, False)
    assert await _left(pool) == {one.execution_id for one in (kept, brief, long)}
    for table in ERASED:
        assert not {old.execution_id, short.execution_id} & await _left(pool, table), table
    assert await _left(pool, "journal") == await _left(pool, "steps") == await _left(pool)
    with pytest.raises(NotFound):
        await for_tenant(pool, DEFAULT_TENANT).execution(old.execution_id)


async def test_cap_goes_before_longer_limits_only(pool, ended):
    kept, brief = await ended(9), await ended(6, 5)
    await ended(11), await ended(11, 400)
    assert (await erase(pool, cap_days=10)).executions == 3
    assert await _left(pool) == {kept.execution_id}
    assert brief.execution_id not in await _left(pool, "journal")


async def test_what_has_not_ended_is_never_erased(pool, journal, new_submission):
    open_ones = {}
    for status in ("pending", "running", "waiting", "quarantined"):
        one = open_ones[status] = new_submission()
        await journal.append([accept(one, started(), step_completed("a"))])
        await pool.execute(
            "UPDATE executions SET status = $2, ended_at = '2001-01-01', created_at = '2001-01-01' "
            "WHERE execution_id = $1",
            to_uuid(one.execution_id, "exec"),
            status,
        )
    assert await erase(pool, cap_days=1) == (0, False)
    assert await _left(pool) == {one.execution_id for one in open_ones.values()}


async def test_every_ended_status_is_erased(pool, ended):
    for status in ("completed", "failed", "cancelled", "timed_out"):
        one = await ended(91)
        await pool.execute(
            "UPDATE executions SET status = $2 WHERE execution_id = $1",
            to_uuid(one.execution_id, "exec"),
            status,
        )
    assert (await erase(pool)).executions == 4
    assert await _left(pool, "journal") == set()


async def test_age_counts_from_completed_at_where_the_end_is_not_known(pool, ended):
    one = await ended(1)
    await pool.execute(
        "UPDATE executions SET ended_at = NULL, completed_at = clock_timestamp() - interval '91 days'"
    )
    assert (await erase(pool)).executions == 1
    assert one.execution_id not in await _left(pool)


async def test_one_transaction_takes_few_executions_and_a_piece_of_a_journal(pool, ended):
    await ended(91, count=retention.ROWS + 5)
    large = to_uuid((await ended(200)).execution_id, "exec")
    await pool.execute(
        "INSERT INTO journal SELECT $1, n, $2, 1, 'step.started', 's', 1, 0, '{}', clock_timestamp() "
        "FROM generate_series(5, $3) AS n",
        large,
        to_uuid(DEFAULT_TENANT, "ten"),
        2 * retention.PIECE,
    )
    removed, gone = [], []
    more = True
    while more:
        before = await pool.fetchval("SELECT count(*) FROM journal"), len(await _left(pool))
        more = (await erase(pool, rounds=1)).more
        removed.append(before[0] - await pool.fetchval("SELECT count(*) FROM journal"))
        gone.append(before[1] - len(await _left(pool)))
    assert max(removed) == retention.PIECE and max(gone) == retention.ROWS
    assert (
        await _left(pool) == await _left(pool, "journal") == await _left(pool, "erasures") == set()
    )


async def test_a_locked_row_is_not_waited_for(pool, ended):
    first, second = await ended(92), await ended(91)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT 1 FROM executions WHERE execution_id = $1 FOR UPDATE",
            to_uuid(first.execution_id, "exec"),
        )
        assert (await asyncio.wait_for(erase(pool), 10)).executions == 1
        assert await _left(pool) == {first.execution_id}
    assert (await erase(pool)).executions == 1
    assert second.execution_id not in await _left(pool)


async def test_two_that_erase_at_once_erase_each_execution_once(pool, ended):
    await ended(91, count=50)
    counts = await asyncio.gather(erase(pool), erase(pool), erase(pool))
    assert sum(count.executions for count in counts) + (await erase(pool)).executions == 50
    assert await _left(pool, "journal") == set()


async def test_reopened_execution_stays(pool, ended):
    one = await ended(91)
    await pool.execute("UPDATE executions SET status = 'running'")
    assert (await erase(pool)).executions == 0
    assert await _left(pool) == {one.execution_id}


async def test_late_result_of_an_erased_execution_is_fenced_out(pool, journal, ended):
    one = await ended(91)
    await erase(pool)
    with pytest.raises(FencedOut):
        await journal.append([append(one, 5, _late(one="a", tokens=3))])
    assert await _left(pool, "journal") == set()


async def test_every_table_of_an_execution_is_erased(pool):
    rows = await pool.fetch(
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name = 'execution_id'"
    )
    assert {row["table_name"] for row in rows} == set(ERASED)


async def test_what_is_due_is_found_by_an_index(pool):
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        rows = await connection.fetch("EXPLAIN " + retention.EXPIRE, 90, 10)
        plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on executions" not in plan and "executions_ended" in plan


async def test_coordinators_long_gone_are_forgotten(pool, new_submission):
    journals = {}
    for name in ("alive", "lapsed", "buried", "fresh", "owner"):
        journals[name] = PostgresJournal(pool, name, 30.0)
        await journals[name].enter()
    await journals["owner"].append([accept(new_submission())])
    await journals["buried"].release()
    await journals["fresh"].release()
    ago = "clock_timestamp() - interval '2 hours'"
    await pool.execute(
        f"UPDATE coordinators SET lease_until = {ago} WHERE id IN ('lapsed', 'owner')"
    )
    await pool.execute(f"UPDATE coordinators SET ended_at = {ago} WHERE id = 'buried'")
    assert sorted(await forget_coordinators(pool)) == ["buried", "lapsed"]
    left = {row["id"] for row in await pool.fetch("SELECT id FROM coordinators")}
    assert left == {"alive", "fresh", "owner"}


async def test_forgotten_coordinator_comes_back_with_an_epoch_it_never_had(pool):
    journal = PostgresJournal(pool, "c/0", 30.0)
    first = await journal.enter()
    await pool.execute(
        "UPDATE coordinators SET lease_until = clock_timestamp() - interval '2 hours', "
        "epoch = epoch - 7200"
    )
    assert await forget_coordinators(pool) == ["c/0"]
    again = PostgresJournal(pool, "c/0", 30.0)
    assert await again.enter() > first - 7200


@pytest.fixture
def blobs(tmp_path):
    return BlobFolder(tmp_path / "blobs", uuid.uuid4())


async def test_housekeeping_does_it_by_itself_and_outlives_an_outage(pool, journal, ended, blobs):
    housekeeping = Housekeeping(pool, 10, blobs=blobs, tick_s=0.05)
    await ended(11)
    async with asyncio.timeout(20):
        while await _left(pool):
            await asyncio.sleep(0.01)
    await pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await pool.expire_connections()
    await ended(11)
    async with asyncio.timeout(20):
        while await _left(pool):
            await asyncio.sleep(0.01)
    await asyncio.wait_for(housekeeping.close(), 10)


def _aged(blobs: BlobFolder) -> Path:
    """The only file that lies there, which nobody has written to for two days."""
    (file,) = (path for path in Path(blobs.place).rglob("*") if path.is_file())
    then = file.stat().st_mtime - 2 * ABANDONED_S
    os.utime(file, (then, then))
    return file


async def test_housekeeping_removes_what_a_dead_writer_left(pool, blobs):
    async with blobs.draft() as draft:
        await draft.write(b"half")
        left = _aged(blobs)
        housekeeping = Housekeeping(pool, blobs=blobs, tick_s=0.01, tidy_s=0.0)
        async with asyncio.timeout(20):
            while left.exists():
                await asyncio.sleep(0.01)
        await housekeeping.close()


async def test_housekeeping_that_is_switched_off_keeps_everything(pool, ended, blobs):
    await ended(91)
    await pool.execute("INSERT INTO coordinators VALUES ('gone', 1, '2001-01-01')")
    housekeeping = Housekeeping(pool, 10, blobs=blobs, erasing=False, tick_s=0.01)
    async with asyncio.timeout(20):
        while await pool.fetchval("SELECT count(*) FROM coordinators WHERE id = 'gone'"):
            await asyncio.sleep(0.01)
    await housekeeping.close()
    assert len(await _left(pool)) == 1


def _late(one: str, tokens: int, cost: float = 0.5) -> ev.StepLate:
    call = ev.ModelCall(
        source="m", provider="p", model="m", usage=ev.Usage(output_tokens=tokens), cost=cost
    )
    return ev.StepLate(at=1.0, step=one, calls=(call,))


async def test_late_usage_is_added_to_the_row(pool, journal, new_submission):
    one, other = new_submission(), new_submission()
    await journal.append([accept(one, started()), accept(other, started())])
    # What comes before the end is part of the outcome, in whatever transactions they leave.
    await journal.append([append(one, 3, _late("a", 7))])
    await journal.append(
        [append(one, 4, _late("a", 7)), end(one, 5), append(other, 3, _late("a", 9))]
    )
    store = for_tenant(pool, DEFAULT_TENANT)
    record = await store.execution(one.execution_id)
    assert (record.tokens_used, record.cost) == (7, 0.125)
    assert (await store.execution(other.execution_id)).tokens_used == 0
    await journal.append([append(one, 6, _late("b", 30), _late("c", 3, 0.25))])
    await journal.append([end(other, 4), append(other, 5, _late("b", 2))])
    record = await store.execution(one.execution_id)
    assert (record.tokens_used, record.cost) == (40, 0.875)
    assert (await store.execution(other.execution_id)).tokens_used == 9


async def test_late_usage_is_not_counted_by_a_write_that_is_fenced_out(
    pool, journal, new_submission
):
    one = new_submission()
    await journal.append([accept(one, started())])
    await journal.append([end(one, 3)])
    await pool.execute("UPDATE coordinators SET epoch = epoch + 1")
    with pytest.raises(FencedOut):
        await journal.append([append(one, 4, _late("b", 30))])
    assert (await for_tenant(pool, DEFAULT_TENANT).execution(one.execution_id)).tokens_used == 7
