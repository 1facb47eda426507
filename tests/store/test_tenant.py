"""What a tenant sees of its executions, and that it sees nothing of others."""

from __future__ import annotations

import asyncio

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import InvalidInput, NotFound, StoreUnavailable
from agentflow.ids import new_id
from agentflow.store import commands
from agentflow.store.journal import PostgresJournal
from agentflow.store.notices import Outcomes
from agentflow.store.pool import open_pool, ping
from agentflow.store.tenant import for_tenant
from tests.conftest import database
from tests.store.samples import accept, end, started, step_completed

OTHER = "ten_" + "0" * 31 + "7"


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


@pytest.fixture
async def outcomes(dsn):
    opened = Outcomes(dsn)
    yield opened
    await opened.close()


async def test_pages_are_newest_first_and_complete(pool, journal, new_submission):
    made = [new_submission() for _ in range(7)]
    await journal.append([accept(one) for one in made])
    await journal.append([end(made[3], 2)])
    store, found, cursor = for_tenant(pool, DEFAULT_TENANT), [], None
    while True:
        page = await store.executions(limit=3, cursor=cursor)
        assert page.total == 7
        found += [one.id for one in page.executions]
        cursor = page.next_cursor
        if cursor is None:
            break
        await journal.append([accept(new_submission(tenant=DEFAULT_TENANT))])
        await pool.execute("DELETE FROM executions WHERE NOT execution_id = ANY($1)", _keys(made))
    assert found == [one.execution_id for one in reversed(made)]
    done = await store.executions(status="completed")
    assert ([one.id for one in done.executions], done.total) == ([made[3].execution_id], 1)


def _keys(submissions):
    from agentflow.ids import to_uuid

    return [to_uuid(one.execution_id, "exec") for one in submissions]


async def test_a_foreign_cursor_is_refused(pool):
    with pytest.raises(InvalidInput):
        await for_tenant(pool, DEFAULT_TENANT).executions(cursor="'; DROP TABLE tenants")


async def test_events_come_in_pages(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, *(step_completed(f"s{n}") for n in range(9)))])
    store = for_tenant(pool, one.tenant)
    assert [entry.seq for entry in await store.events(one.execution_id, limit=4)] == [1, 2, 3, 4]
    assert [entry.seq for entry in await store.events(one.execution_id, 4)] == [5, 6, 7, 8, 9, 10]
    assert await store.events(one.execution_id, 10) == []


async def test_other_tenants_executions_do_not_exist(pool, journal, new_submission):
    await pool.execute("INSERT INTO tenants (tenant_id, name) VALUES ($1, 'other')", OTHER[4:])
    one = new_submission()
    await journal.append([accept(one, started())])
    stranger = for_tenant(pool, OTHER)
    for asked in (one.execution_id, new_id("exec"), "exec_1", "", "'\x00"):
        for question in (
            stranger.execution(asked),
            stranger.owner_of(asked),
            stranger.events(asked),
            stranger.cancel(asked),
            stranger.wait_over(asked, 0),
        ):
            with pytest.raises(NotFound):
                await question
    assert (await stranger.executions()).total == 0
    assert await journal.commands([one.execution_id]) == []


async def test_cancel_is_kept_once_and_tells_when_it_is_over(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    store = for_tenant(pool, one.tenant)
    assert await store.cancel(one.execution_id, "first")
    assert await store.cancel(one.execution_id, "second")
    (command,) = await journal.commands([one.execution_id])
    assert command.payload == {"reason": "first"}
    await journal.append([end(one, 2, (command.id,))])
    assert await store.cancel(one.execution_id) is False


async def test_a_command_is_heard_of(dsn, pool, journal, new_submission):
    one, heard = new_submission(), asyncio.Queue()
    await journal.append([accept(one)])
    notices = await commands.listen(dsn, heard.put_nowait)
    await asyncio.wait_for(notices.listening.wait(), 10)
    await for_tenant(pool, one.tenant).cancel(one.execution_id)
    assert await asyncio.wait_for(heard.get(), 10) == one.execution_id
    await notices.close()


async def test_listening_goes_on_when_its_connection_was_cut(dsn, pool, journal, new_submission):
    one, heard = new_submission(), asyncio.Queue()
    await journal.append([accept(one)])
    notices = await commands.listen(dsn, heard.put_nowait)
    await asyncio.wait_for(notices.listening.wait(), 10)
    cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
    assert await pool.fetchval(cut)
    while notices.listening.is_set():
        await pool.fetchval("SELECT pg_sleep(0.02)")
    await asyncio.wait_for(notices.listening.wait(), 10)
    await for_tenant(pool, one.tenant).cancel(one.execution_id)
    assert await asyncio.wait_for(heard.get(), 10) == one.execution_id
    await notices.close()


async def test_waiting_ends_with_the_outcome(pool, journal, outcomes, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    store = for_tenant(pool, one.tenant, outcomes)
    assert await store.wait_over(one.execution_id, 0.05) is False
    waiting = asyncio.ensure_future(store.wait_over(one.execution_id, 30))
    await journal.append([end(one, 2)])
    assert await asyncio.wait_for(waiting, 5) is True
    assert await for_tenant(pool, one.tenant).wait_over(one.execution_id, 0) is True


async def test_the_store_is_unavailable_when_nothing_listens(dsn):
    away = database(dsn, "x").replace(f":{_port(dsn)}/", ":1/")
    pool = await open_pool(away)
    with pytest.raises(StoreUnavailable):
        await ping(pool)
    with pytest.raises(StoreUnavailable):
        await for_tenant(pool, DEFAULT_TENANT).executions()
    with pytest.raises(StoreUnavailable):
        await PostgresJournal(pool, "c/0", 10).enter()
    await pool.close()


def _port(dsn):
    from urllib.parse import urlsplit

    return urlsplit(dsn).port
