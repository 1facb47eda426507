"""Databases that earlier versions wrote are brought to this one, and their executions go on."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.keys import idempotency_key
from agentflow.flow import Flow, open_local
from agentflow.ids import from_uuid
from agentflow.settings import load
from agentflow.store import migrate
from tests.fake_provider import FakeProvider, Text

DUMPS = sorted((Path(__file__).parent / "dumps").glob("*.sql"))
"""Each written by the code before the next revision, with executions in every status: ``chain`` is
three model calls, n0 to n2; where it is open, n0 and n1 are done."""
PORT = "45999"
"""Where the provider of the dumped executions was."""
OPEN = ("pending", "running", "waiting")
COLUMNS = """SELECT table_name, column_name, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"""
BEFORE = """SELECT execution_id, status,
       EXISTS (SELECT 1 FROM commands c WHERE c.execution_id = e.execution_id) AS asked,
       ARRAY(SELECT step FROM journal j
              WHERE j.execution_id = e.execution_id AND kind = 'step.completed') AS done
  FROM executions e"""
CREATED = "SELECT execution_id, payload FROM public.journal WHERE kind = 'execution.created'"
STATE = "SELECT execution_id, status, final_state, tokens_used, cost FROM executions ORDER BY 1"


async def load_dump(dsn: str, dump: Path, port: int | str = PORT) -> None:
    """Fill an empty database; the provider of its executions listens on this port of loopback. They
    were accepted just now: the clock of an open one has not run out, however old the dump is."""
    text = await asyncio.to_thread(dump.read_text)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(text.replace(f"127.0.0.1:{PORT}", f"127.0.0.1:{port}"))
        for row in await connection.fetch(CREATED):
            event = {**json.loads(row["payload"]), "at": time.time()}
            await connection.execute(
                "UPDATE public.journal SET payload = $2 WHERE execution_id = $1 AND seq = 1",
                row["execution_id"],
                json.dumps(event).encode(),
            )
    finally:
        await connection.close()


async def _fetch(dsn: str, query: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def test_every_revision_but_the_newest_has_a_dump():
    assert [dump.stem for dump in DUMPS] == [f"{n:04}" for n in range(1, int(migrate.HEAD))]


@pytest.mark.parametrize("dump", DUMPS, ids=lambda dump: dump.stem)
async def test_dump_is_migrated_and_its_executions_end(empty_dsn, tmp_path, dump):
    with FakeProvider(default=Text("answer")) as provider:
        await load_dump(empty_dsn, dump, provider.port)
        before = await _fetch(empty_dsn, BEFORE)
        statuses = Counter(row["status"] for row in before)
        ended = {"completed", "failed", "cancelled", "timed_out"}
        assert set(statuses) == {*OPEN, *ended, "quarantined"}
        flow = await open_local(
            load(
                {
                    "DATABASE_URL": empty_dsn,
                    "AGENTFLOW_DATA_DIR": str(tmp_path),
                    "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
                    "AGENTFLOW_RETENTION": "off",
                }
            )
        )
        try:
            assert await asyncio.to_thread(migrate.current, empty_dsn) == migrate.HEAD
            await _all_go_on(flow, before, provider)
        finally:
            await flow.close()
    await _one_step_down_and_up(empty_dsn)


async def _all_go_on(flow: Flow, before: list[asyncpg.Record], provider: FakeProvider) -> None:
    """Open ones complete, or are cancelled where that was asked; no finished step is called again."""
    for row in before:
        execution_id = from_uuid(row["execution_id"], "exec")
        if row["status"] not in OPEN:
            record = await flow.get(DEFAULT_TENANT, execution_id)
            assert record.status == row["status"]
            continue
        record = await flow.wait(DEFAULT_TENANT, execution_id, 30)
        assert record.status == ("cancelled" if row["asked"] else "completed"), record.error
        for step in () if row["asked"] else ("n0", "n1", "n2"):
            key = idempotency_key(DEFAULT_TENANT, execution_id, step, 0, 0)
            assert provider.idempotency_keys[key] == (0 if step in row["done"] else 1), step


async def _one_step_down_and_up(dsn: str) -> None:
    columns, state = await _fetch(dsn, COLUMNS), await _fetch(dsn, STATE)
    journal = await _fetch(dsn, "SELECT * FROM journal ORDER BY 1, 2")
    await asyncio.to_thread(migrate.downgrade, dsn)
    assert await asyncio.to_thread(migrate.current, dsn) == DUMPS[-1].stem
    assert await _fetch(dsn, STATE) == state
    await asyncio.to_thread(migrate.upgrade, dsn)
    assert (await _fetch(dsn, COLUMNS), await _fetch(dsn, STATE)) == (columns, state)
    assert await _fetch(dsn, "SELECT * FROM journal ORDER BY 1, 2") == journal


async def test_retention_of_older_executions_is_read_from_their_workflows(empty_dsn):
    await load_dump(empty_dsn, DUMPS[0])
    await asyncio.to_thread(migrate.upgrade, empty_dsn)
    rows = await _fetch(empty_dsn, "SELECT DISTINCT workflow_name, retention_days FROM executions")
    assert {tuple(row) for row in rows} == {("chain", 7), ("failing", 90), ("hanging", 90)}
