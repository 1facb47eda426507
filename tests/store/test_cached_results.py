"""Results kept for reuse: each tenant's apart, for their time, and never without what they refer to."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution import events as ev
from agentflow.execution.caching import Kept, Wanted
from agentflow.execution.journal import Submission
from agentflow.ids import new_id, to_uuid
from agentflow.store.blobs_collection import collect
from agentflow.store.blobs_folder import BlobFolder
from agentflow.store.cached_results import CachedResults, remove_expired
from agentflow.store.journal import PostgresJournal
from agentflow.store.retention import erase
from agentflow.store.sealing import Sealer
from tests.store.samples import accept, end, started, step_completed

KEY, OTHER = b"k" * 32, b"o" * 32
BIG = "large " * 20_000
OLDER = """UPDATE cached_results SET kept_at = kept_at - make_interval(secs => $1),
                                     expires_at = expires_at - make_interval(secs => $1)"""
BLOBS_AGE = """UPDATE blobs SET touched_at = touched_at - interval '2 hours',
                                look_at = least(look_at, clock_timestamp())"""
ENDED = "UPDATE executions SET ended_at = clock_timestamp() - make_interval(days => 91)"


@pytest.fixture
def folder(tmp_path: Path) -> BlobFolder:
    return BlobFolder(tmp_path / "blobs", uuid.uuid4())


@pytest.fixture
def sealer(pool: asyncpg.Pool, folder: BlobFolder) -> Sealer:
    return Sealer(pool, folder)


@pytest.fixture
def results(pool: asyncpg.Pool, sealer: Sealer) -> CachedResults:
    return CachedResults(pool, sealer)


@pytest.fixture
async def done(pool: asyncpg.Pool, sealer: Sealer, new_submission) -> Submission:
    """An execution that has ended."""
    journal = PostgresJournal(pool, "c/0", 30.0, sealer)
    await journal.enter()
    asked: Submission = new_submission()
    await journal.append([accept(asked, started(), step_completed("a"))])
    await journal.append([end(asked, 4)])
    return asked


async def other_tenant(pool: asyncpg.Pool) -> str:
    name = new_id("ten")
    await pool.execute(
        "INSERT INTO tenants (tenant_id, name) VALUES ($1, 'other')", to_uuid(name, "ten")
    )
    return name


def wanted(key: bytes = KEY, ttl_s: float = 60.0, tenant: str = DEFAULT_TENANT) -> Wanted:
    return Wanted(tenant, key, ttl_s)


def kept(execution: Submission, text: str = "text", blobs: Sequence[ev.Blob] = ()) -> Kept:
    return Kept(
        result={"text": text},
        delta={"text_result": text},
        blobs=tuple(blobs),
        execution_id=execution.execution_id,
        tokens=15,
        cost=0.25,
    )


async def texts(results: CachedResults, *asked: Wanted) -> list[str | None]:
    return [found and found.result["text"] for found in await results.find(asked)]


async def test_what_is_kept_is_found_whole_in_the_order_asked_for(results, done):
    await results.keep([(wanted(KEY), kept(done, "one")), (wanted(OTHER), kept(done, "two"))])
    nobody = b"n" * 32
    assert await texts(results, wanted(OTHER), wanted(nobody), wanted(KEY)) == ["two", None, "one"]
    (found,) = await results.find([wanted()])
    assert (found.delta, found.tokens, found.cost) == ({"text_result": "one"}, 15, 0.25)
    assert found.execution_id == done.execution_id and found.at > 0
    assert await results.find([]) == []


async def test_the_newest_result_takes_the_place_of_an_older_one(results, done):
    await results.keep([(wanted(), kept(done, "old"))])
    await results.keep([(wanted(), kept(done, "newer")), (wanted(), kept(done, "newest"))])
    assert await texts(results, wanted()) == ["newest"]


async def test_no_tenant_finds_or_keeps_what_is_another_ones(results, done, pool):
    stranger = await other_tenant(pool)
    await results.keep([(wanted(), kept(done))])
    assert await texts(results, wanted(tenant=stranger)) == [None]
    await results.keep([(wanted(tenant=stranger), kept(done, "smuggled"))])
    assert await texts(results, wanted(tenant=stranger)) == [None]
    assert await texts(results, wanted()) == ["text"]


async def test_a_result_is_as_old_as_both_who_kept_it_and_who_asks_allow(results, done, pool):
    await results.keep([(wanted(KEY, 60), kept(done)), (wanted(OTHER, 1e300), kept(done))])
    await pool.execute(OLDER, 30.0)
    asked = [wanted(KEY, 20), wanted(KEY, 40), wanted(KEY, 1e300), wanted(OTHER, 1e300)]
    assert await texts(results, *asked) == [None, "text", "text", "text"]
    await pool.execute(OLDER, 31.0)
    assert await texts(results, *asked) == [None, None, None, "text"]


async def test_results_whose_time_is_over_are_removed_bit_by_bit(results, done, pool):
    keys = [bytes([number]) * 32 for number in range(5)]
    await results.keep([(wanted(key), kept(done)) for key in keys])
    await pool.execute(OLDER, 61.0)
    await results.keep([(wanted(OTHER), kept(done))])
    assert [await remove_expired(pool, 2) for _ in range(4)] == [2, 2, 1, 0]
    assert await texts(results, wanted(OTHER)) == ["text"]


async def test_a_large_result_is_beside_its_row_and_stays_as_long_as_its_execution(
    results, done, pool, folder
):
    await results.keep([(wanted(), kept(done, BIG))])
    assert await pool.fetchval("SELECT max(length(content)) FROM cached_results") < 1000
    assert len(await folder.held()) == 1
    await pool.execute(BLOBS_AGE)
    assert await collect(pool, folder) == 0
    assert await texts(CachedResults(pool, Sealer(pool, folder)), wanted()) == [BIG]
    await pool.execute(ENDED)
    while (await erase(pool)).executions or await pool.fetchval("SELECT count(*) FROM erasures"):
        pass
    assert await pool.fetchval("SELECT count(*) FROM cached_results") == 0
    assert await pool.fetchval("SELECT count(*) FROM blob_uses") == 0
    await pool.execute(BLOBS_AGE)
    assert await collect(pool, folder) == 1


async def test_nothing_is_kept_of_an_execution_that_is_gone(results, done, pool):
    await results.keep([(wanted(), kept(done))])
    await pool.execute("DELETE FROM executions")
    assert await texts(results, wanted()) == [None]
    await results.keep([(wanted(OTHER), kept(done, BIG))])
    assert await pool.fetchval("SELECT count(*) FROM cached_results") == 1
    assert await pool.fetchval("SELECT count(*) FROM blob_uses") == 0


async def test_a_result_whose_large_value_is_lost_is_not_found(results, done, pool, folder):
    await results.keep([(wanted(KEY), kept(done, BIG)), (wanted(OTHER), kept(done, "small"))])
    (held,) = await folder.held()
    await folder.remove(held.tenant, held.sha256)
    fresh = CachedResults(pool, Sealer(pool, folder))
    assert await texts(fresh, wanted(KEY), wanted(OTHER)) == [None, "small"]


async def test_a_result_that_cannot_be_read_hides_no_other(results, done, pool):
    await results.keep([(wanted(KEY), kept(done)), (wanted(OTHER), kept(done, "whole"))])
    await pool.execute("UPDATE cached_results SET content = '{\"delta\": 1}' WHERE key = $1", KEY)
    assert await texts(results, wanted(KEY), wanted(OTHER)) == [None, "whole"]


async def test_a_result_is_found_only_with_the_content_that_it_refers_to(
    results, done, pool, folder
):
    content = b"picture"
    blob = ev.Blob(hashlib.sha256(content).hexdigest(), len(content), "image/png")
    await results.keep([(wanted(), kept(done, blobs=[blob]))])
    assert await texts(results, wanted()) == [None]
    tenant = to_uuid(DEFAULT_TENANT, "ten")
    await folder.put(tenant, blob.sha256, content)
    await pool.execute(
        "INSERT INTO blobs (tenant_id, sha256, size, media_type) VALUES ($1, $2, $3, 'image/png')",
        tenant,
        bytes.fromhex(blob.sha256),
        blob.size,
    )
    await pool.execute(BLOBS_AGE)
    (found,) = await results.find([wanted()])
    assert found is not None and found.blobs == (blob,)
    assert await collect(pool, folder) == 0, "who found it has time to name it"


async def test_erasure_waits_for_nobody_who_keeps_a_result_anew(results, done, pool):
    await results.keep([(wanted(KEY), kept(done)), (wanted(OTHER), kept(done))])
    await pool.execute(ENDED)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE cached_results SET cost = 1 WHERE key = $1", KEY)
        async with asyncio.timeout(10):
            await erase(pool, rounds=3)
        assert await pool.fetchval("SELECT count(*) FROM cached_results") == 1
    await erase(pool)
    assert await pool.fetchval("SELECT count(*) FROM cached_results") == 0
    assert await pool.fetchval("SELECT count(*) FROM erasures") == 0


async def test_coordinators_that_keep_the_same_results_at_once_do_not_stop_each_other(
    results, done, pool
):
    keys = [bytes([number]) * 32 for number in range(20)]
    batches = [[(wanted(key), kept(done)) for key in order] for order in (keys, keys[::-1])] * 4
    await asyncio.gather(*(results.keep(batch) for batch in batches))
    assert await texts(results, *map(wanted, keys)) == ["text"] * 20


async def test_nothing_is_kept_of_an_execution_that_never_was(results, pool):
    nobody = Submission(
        execution_id=new_id("exec"), tenant=DEFAULT_TENANT, content_hash="", spec={}
    )
    await results.keep([(wanted(), kept(nobody))])
    assert await pool.fetchval("SELECT count(*) FROM cached_results") == 0
