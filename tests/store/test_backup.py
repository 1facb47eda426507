"""Backups: one snapshot of a database that is written to; back at once or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import stat
import tempfile
import zipfile
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import (
    AgentFlowError,
    ConfigError,
    Conflict,
    InvalidInput,
    NotFound,
    StoreError,
    StoreUnavailable,
)
from agentflow.ids import to_uuid
from agentflow.store import migrate
from agentflow.store.backup import LEFT_OUT, TABLES, backup, read_manifest, restore, verify
from agentflow.store.blobs import open_store
from agentflow.store.journal import PostgresJournal
from agentflow.store.keys import ensure_bootstrap_key
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept, append, end, started, step_completed, step_started
from tests.store.test_upgrades import DUMPS, load_dump

FOLDER = Path(tempfile.mkdtemp(prefix="af-test-blobs-"))
QUIET = {"say": lambda line: None, "blobs": partial(open_store, str(FOLDER), FOLDER)}
WRITE = {"version": "0.1.0", "force": False, **QUIET}


@pytest.fixture(scope="module", autouse=True)
def folder():
    yield FOLDER
    shutil.rmtree(FOLDER)


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


@pytest.fixture
async def filled(journal, pool, new_submission):
    """Executions in several statuses, a key, a waiting command; their submissions by status."""
    found = {name: new_submission() for name in ("pending", "running", "completed")}
    await journal.append([accept(one) for one in found.values()])
    await journal.append([append(found["running"], 2, started(), step_started("a"))])
    await journal.append([append(found["completed"], 2, started(), step_completed("a", "é\x00"))])
    await journal.append([end(found["completed"], 4)])
    await for_tenant(pool, DEFAULT_TENANT).cancel(found["running"].execution_id)
    await ensure_bootstrap_key(pool, "key")
    return found


async def _rows(dsn: str, table: str) -> list[tuple]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(f"SELECT * FROM {table}")
        dropped = {"owner", "owner_epoch"}
        return sorted(repr([v for k, v in row.items() if k not in dropped]) for row in rows)
    finally:
        await connection.close()


async def _execute(dsn: str, statement: str, *values: object) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement, *values)
    finally:
        await connection.close()


async def test_restored_database_holds_the_same_rows(dsn, empty_dsn, filled, tmp_path):
    file = tmp_path / "one.afbackup"
    manifest = await backup(dsn, file, **WRITE)
    assert manifest.executions == {"completed": 1, "pending": 1, "running": 1}
    assert manifest.schema_revision == migrate.HEAD
    assert verify(file) == manifest == read_manifest(file)
    assert await restore(empty_dsn, file, force=False, **QUIET) == manifest
    for table in TABLES:
        assert await _rows(empty_dsn, table) == await _rows(dsn, table), table
    assert await asyncio.to_thread(migrate.current, empty_dsn) == migrate.HEAD


async def test_open_executions_are_claimed_without_a_strike(dsn, empty_dsn, filled, tmp_path):
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    await restore(empty_dsn, file, force=False, **QUIET)
    pool = await asyncpg.create_pool(empty_dsn, min_size=0)
    other = PostgresJournal(pool, "c/1", 30.0)
    await other.enter()
    claimed = {one.execution_id: one.strikes for one in await other.claim(10)}
    assert claimed == {filled[name].execution_id: 0 for name in ("pending", "running")}
    (command,) = await other.commands(list(claimed))
    await other.append([end(filled["running"], 4, (command.id,))])
    assert await for_tenant(pool, DEFAULT_TENANT).cancel(filled["pending"].execution_id)
    await pool.close()


async def test_backup_is_one_snapshot_while_others_write(
    dsn, empty_dsn, journal, new_submission, tmp_path
):
    stop, written = asyncio.Event(), 0

    async def write() -> None:
        nonlocal written
        while not stop.is_set():
            many = [new_submission() for _ in range(20)]
            await journal.append([accept(one, started()) for one in many])
            await journal.append([append(one, 3, step_completed("a")) for one in many])
            await journal.append([end(one, 4) for one in many])
            written += len(many)

    writer = asyncio.create_task(write())
    for number in range(5):
        file = tmp_path / f"{number}.afbackup"
        seen = written
        while written < seen + 40:
            await asyncio.sleep(0)
        await backup(dsn, file, **WRITE)
    stop.set()
    await writer
    await restore(empty_dsn, file, force=False, **QUIET)
    torn = """SELECT e.execution_id FROM executions e JOIN journal j USING (execution_id)
        GROUP BY e.execution_id, e.status
       HAVING max(j.seq) <> count(*) OR (e.status = 'completed') <> bool_or(j.kind = 'execution.completed')
           OR (e.status = 'completed') <> (EXISTS (SELECT 1 FROM steps s
                                                    WHERE s.execution_id = e.execution_id))"""
    assert await _rows(empty_dsn, f"({torn}) AS torn") == []
    orphans = (
        "(SELECT 1 FROM journal WHERE execution_id NOT IN (SELECT execution_id FROM executions))"
    )
    assert await _rows(empty_dsn, f"{orphans} AS o") == []
    assert 0 < sum(read_manifest(file).executions.values()) < written


async def test_file_is_private_and_never_replaced_unasked(dsn, filled, tmp_path):
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    with pytest.raises(Conflict, match="--force"):
        await backup(dsn, file, **WRITE)
    assert file.read_bytes() == before
    await backup(dsn, file, **{**WRITE, "force": True})
    assert os.listdir(tmp_path) == ["one.afbackup"]


async def test_failed_backup_leaves_nothing(dsn, empty_dsn, tmp_path):
    with pytest.raises(NotFound):
        await backup(empty_dsn, tmp_path / "one", **WRITE)
    with pytest.raises(StoreUnavailable):
        await backup("postgresql://nobody@127.0.0.1:1/none", tmp_path / "one", **WRITE)
    with pytest.raises(ConfigError, match="cannot be written"):
        await backup(dsn, tmp_path / "absent" / "one", **WRITE)
    with pytest.raises(Conflict):
        await backup(dsn, tmp_path, **{**WRITE, "force": True})
    assert os.listdir(tmp_path) == []


async def test_restore_refuses_a_database_that_holds_something(dsn, filled, pool, tmp_path):
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    with pytest.raises(Conflict, match="coordinator c/0 works"):
        await restore(dsn, file, force=True, **QUIET)
    await pool.execute("UPDATE coordinators SET lease_until = '-infinity'")
    with pytest.raises(Conflict, match="not empty"):
        await restore(dsn, file, force=False, **QUIET)
    await pool.execute("DELETE FROM journal WHERE seq > 1")
    await restore(dsn, file, force=True, **QUIET)
    assert len(await _rows(dsn, "journal")) == read_manifest(file).tables["journal"].rows
    assert await _rows(dsn, "coordinators") == []


async def test_database_of_a_first_start_counts_as_empty(dsn, pool, tmp_path):
    await ensure_bootstrap_key(pool, "key")
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    await restore(dsn, file, force=False, **QUIET)


async def test_damaged_file_is_refused(dsn, empty_dsn, filled, tmp_path):
    file, broken = tmp_path / "one.afbackup", tmp_path / "broken"
    manifest = await backup(dsn, file, **WRITE)
    whole = file.read_bytes()
    contents = [b"", b"no backup", whole[: len(whole) // 2], whole[:-1]]
    rng = random.Random(7)
    for _ in range(300):
        changed = bytearray(whole)
        changed[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        contents.append(bytes(changed))
    refused = 0
    for content in contents:
        broken.write_bytes(content)
        try:
            # Some bits of a ZIP mean nothing, such as its members' times.
            assert verify(broken).tables == manifest.tables
        except (InvalidInput, ConfigError) as error:
            refused += 1
            assert str(broken) in error.message or "revision" in error.message
    assert refused > 150
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidInput, match="damaged"):
        await restore(empty_dsn, broken, force=True, **QUIET)
    assert await asyncio.to_thread(migrate.current, empty_dsn) is None
    with pytest.raises(NotFound):
        verify(tmp_path / "absent")


def _rewritten(file: Path, target: Path, change, tables=None) -> Path:
    """The same archive with another manifest, and other rows where they are given."""
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = (tables or {}).get(name, old.read(name))
            if name == "manifest.json":
                manifest = json.loads(content)
                change(manifest)
                content = json.dumps(manifest)
            new.writestr(name, content)
    return target


async def test_file_of_a_newer_version_is_refused(dsn, filled, tmp_path):
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    newer = {
        "format": lambda manifest: manifest.update(format=2),
        "schema": lambda manifest: manifest.update(schema_revision="9999"),
    }
    for name, change in newer.items():
        with pytest.raises(ConfigError, match="install the newer version"):
            verify(_rewritten(file, tmp_path / name, change))


async def test_backup_refuses_the_database_of_a_newer_version(dsn, tmp_path):
    await _execute(dsn, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigError, match="9999"):
        await backup(dsn, tmp_path / "one", **WRITE)
    assert os.listdir(tmp_path) == []


async def test_failed_restore_leaves_the_database_as_it_was(dsn, filled, pool, tmp_path):
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    await pool.execute("UPDATE coordinators SET lease_until = '-infinity'")
    before = {table: await _rows(dsn, table) for table in TABLES}
    part = read_manifest(file).tables["tenants"]
    header_only = zipfile.ZipFile(file).read("tables/commands.copy")[:19] + b"\xff\xff"

    def empty_tenants(manifest) -> None:
        digest = hashlib.sha256(header_only).hexdigest()
        manifest["tables"]["tenants"] |= {"rows": 0, "sha256": digest}

    def wrong_columns(manifest) -> None:
        manifest["tables"]["journal"]["columns"][0] = 'x"; DROP TABLE tenants; --'

    def unknown_revision(manifest) -> None:
        manifest["schema_revision"] = "0000"

    def foreign_table(manifest) -> None:
        manifest["tables"]["pg_authid"] = manifest["tables"]["tenants"]

    assert part.rows == 1
    torn = _rewritten(file, tmp_path / "torn", empty_tenants, {"tables/tenants.copy": header_only})
    for broken in (
        torn,
        _rewritten(file, tmp_path / "columns", wrong_columns),
        _rewritten(file, tmp_path / "foreign", foreign_table),
        _rewritten(file, tmp_path / "revision", unknown_revision),
    ):
        with pytest.raises(AgentFlowError) as caught:
            await restore(dsn, broken, force=True, **QUIET)
        assert isinstance(caught.value, StoreError | InvalidInput)
        assert {table: await _rows(dsn, table) for table in TABLES} == before


async def test_older_backup_is_brought_to_this_version(dsn, empty_dsn, tmp_path):
    await load_dump(empty_dsn, DUMPS[0])
    file = tmp_path / "one.afbackup"
    manifest = await backup(empty_dsn, file, **WRITE)
    assert manifest.schema_revision == DUMPS[0].stem
    await restore(dsn, file, force=False, **QUIET)
    assert await asyncio.to_thread(migrate.current, dsn) == migrate.HEAD
    commands = "(SELECT id, execution_id, tenant_id, wait, kind, payload, at FROM commands) AS kept"
    for table in ("journal", "specs", "steps", commands):
        assert await _rows(dsn, table) == await _rows(empty_dsn, table)


async def test_every_table_is_backed_up_or_left_out_on_purpose(dsn):
    tables = "(SELECT table_name FROM information_schema.tables WHERE table_schema = 'public')"
    found = await _rows(dsn, f"{tables} AS tables")
    assert found == sorted(repr([name]) for name in (*TABLES, *LEFT_OUT))


async def test_next_command_follows_those_restored(dsn, empty_dsn, filled, tmp_path):
    await _execute(dsn, "UPDATE commands SET wait = 'x', id = DEFAULT")
    file = tmp_path / "one.afbackup"
    await backup(dsn, file, **WRITE)
    await restore(empty_dsn, file, force=False, **QUIET)
    pool = await asyncpg.create_pool(empty_dsn, min_size=0)
    last = await pool.fetchval("SELECT max(id) FROM commands")
    await for_tenant(pool, DEFAULT_TENANT).cancel(filled["pending"].execution_id)
    key = to_uuid(filled["pending"].execution_id, "exec")
    assert await pool.fetchval("SELECT id FROM commands WHERE execution_id = $1", key) == last + 1
    await pool.close()
