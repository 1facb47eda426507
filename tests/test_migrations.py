"""The schema goes up and down, with data in it, and any number of processes may ask for it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store import migrate
from agentflow.store.journal import PostgresJournal
from agentflow.store.keys import ensure_bootstrap_key
from agentflow.store.pool import open_pool
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept, end, started, step_completed

TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"""


async def _fetch(dsn: str, query: str) -> list[tuple]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def _write_everything(dsn: str, submission) -> None:
    pool = await open_pool(dsn)
    journal = PostgresJournal(pool, "c/0", 30)
    await journal.enter()
    await journal.append([accept(submission, started(), step_completed("a"))])
    await for_tenant(pool, submission.tenant).cancel(submission.execution_id)
    (command,) = await journal.commands([submission.execution_id])
    await journal.append([end(submission, 4, (command.id,))])
    await ensure_bootstrap_key(pool, "key")
    record = await for_tenant(pool, submission.tenant).execution(submission.execution_id)
    assert record.status == "completed"
    await pool.close()


async def test_migrations_go_up_down_and_up_again_with_data(empty_dsn, new_submission):
    assert await asyncio.to_thread(migrate.current, empty_dsn) is None
    await asyncio.to_thread(migrate.upgrade, empty_dsn)
    assert await asyncio.to_thread(migrate.current, empty_dsn) == migrate.HEAD
    before = await _fetch(empty_dsn, COLUMNS)
    await _write_everything(empty_dsn, new_submission())
    await asyncio.to_thread(migrate.upgrade, empty_dsn)
    for _ in range(int(migrate.HEAD)):
        await asyncio.to_thread(migrate.downgrade, empty_dsn)
    assert await asyncio.to_thread(migrate.current, empty_dsn) is None
    assert await _fetch(empty_dsn, TABLES) == [("alembic_version",)]
    await asyncio.to_thread(migrate.upgrade, empty_dsn)
    assert await _fetch(empty_dsn, COLUMNS) == before
    await _write_everything(empty_dsn, new_submission())


async def test_upgrade_is_done_once_when_many_ask_at_the_same_time(empty_dsn):
    await asyncio.gather(
        *(asyncio.to_thread(migrate.upgrade, empty_dsn) for _ in range(4)),
    )
    assert await _fetch(empty_dsn, "SELECT version_num FROM alembic_version") == [(migrate.HEAD,)]
    assert len(await _fetch(empty_dsn, "SELECT * FROM tenants")) == 1


async def test_upgrade_refuses_a_database_of_a_newer_version(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(ConfigError, match="9999"):
        await asyncio.to_thread(migrate.upgrade, dsn)


async def test_upgrade_says_that_the_database_is_away():
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(migrate.upgrade, "postgresql://nobody@127.0.0.1:1/none")


async def test_upgrade_never_shows_the_password(server):
    wrong = server.dsn.replace("agentflow:", "agentflow:wrong-")
    with pytest.raises(ConfigError) as caught:
        await asyncio.to_thread(migrate.upgrade, wrong)
    assert "wrong-" not in str(caught.value)


async def test_every_row_but_a_coordinators_carries_a_tenant(dsn):
    carrying = await _fetch(
        dsn,
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' "
        "AND column_name = 'tenant_id' AND is_nullable = 'NO'",
    )
    tables = set(await _fetch(dsn, TABLES))
    assert tables - set(carrying) == {("blob_space",), ("coordinators",), ("alembic_version",)}


async def test_the_default_tenant_is_there_from_the_start(dsn):
    rows = await _fetch(
        dsn, "SELECT 'ten_' || replace(tenant_id::text, '-', ''), name FROM tenants"
    )
    assert rows == [(DEFAULT_TENANT, "default")]
