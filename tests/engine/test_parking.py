"""Executions that wait leave the memory of their coordinator, and are woken by their rows."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT as TENANT
from agentflow.engine.engine import Engine
from agentflow.engine.workers import InProcessWorkers
from agentflow.execution.journal import ExecutionRecord, Submission
from agentflow.flow import Flow, open_local, open_nodes
from agentflow.flow.opening import open_performer
from agentflow.ids import new_id
from agentflow.settings import load
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.store.commands import listen
from agentflow.store.journal import PostgresJournal
from agentflow.store.tenant import TenantStore, for_tenant
from agentflow.testing import FreeLease
from tests.engine.test_waits import at_rest, begun, flowing, human, over, spec, text, wait
from tests.soak import cases

Json = Any
ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def engine(
    dsn: str, pool: asyncpg.Pool, name: str = "c/0", **options: Json
) -> AsyncIterator[Engine]:
    """A coordinator that lets go at once of what waits."""
    made = Engine(
        name,
        journal=PostgresJournal(pool, name, 60.0),
        lease=FreeLease(),
        workers=InProcessWorkers(open_performer(load({}))),
        nodes=open_nodes(),
        **{"rest_s": 0.05, "near_s": 0.0, **options},
    )
    notices = await listen(dsn, made.nudge)
    await made.start()
    try:
        yield made
    finally:
        await made.drain()
        await made.close()
        await notices.close()


async def accepted(engine: Engine, document: Json) -> str:
    checked = check(document).normalized
    assert checked is not None
    asked = Submission(
        execution_id=new_id("exec"),
        tenant=TENANT,
        content_hash=content_hash(checked),
        spec=checked,
    )
    await engine.accept(asked)
    return asked.execution_id


async def parked(pool: asyncpg.Pool, count: int = 1) -> None:
    """Returns once so many executions have no owner."""
    async with asyncio.timeout(10):
        while True:
            found = await pool.fetchval(
                "SELECT count(*) FROM executions WHERE status = 'waiting' AND owner IS NULL"
            )
            if found == count:
                return
            await asyncio.sleep(0.02)


async def ended(store: TenantStore, key: str) -> ExecutionRecord:
    assert await store.wait_over(key, 10)
    return await store.execution(key)


async def test_execution_that_waits_leaves_memory_and_goes_on_when_it_is_answered(dsn, pool):
    async with engine(dsn, pool) as one:
        key = await accepted(one, spec(human("h"), text("t", "done"), edges="h>t"))
        await parked(pool)
        assert one.active == 0
        store = for_tenant(pool, TENANT)
        began = time.monotonic()
        await store.answer(key, "h/0", {"approved": True}, "ann")
        record = await ended(store, key)
        assert record.status == "completed" and time.monotonic() - began < 2
        assert record.final_state["outputs"]["t"] == "done"


async def test_parked_executions_go_on_or_expire_at_their_time_and_not_before(dsn, pool):
    async with engine(dsn, pool) as one:
        began = time.time()
        timer = await accepted(one, spec(wait("w", seconds=2.5)))
        question = await accepted(one, spec(human("h", expires_s=2.5)))
        await parked(pool, 2)
        store = for_tenant(pool, TENANT)
        record = await ended(store, timer)
        assert record.status == "completed" and 2.5 <= record.completed_at - began < 3.5
        record = await ended(store, question)
        assert (record.status, record.error["type"]) == ("failed", "StepTimeout")
        assert 2.5 <= record.completed_at - began < 3.5


async def test_any_coordinator_takes_up_what_another_one_parked(dsn, pool):
    async with engine(dsn, pool) as one:
        key = await accepted(one, spec(human("h")))
        await parked(pool)
    async with engine(dsn, pool, "c/1") as other:
        store = for_tenant(pool, TENANT)
        assert other.active == 0, "it is not taken up at the start"
        await store.answer(key, "h/0", {"approved": True}, "ann")
        assert (await ended(store, key)).status == "completed"


async def test_parked_execution_is_cancelled(dsn, pool):
    async with engine(dsn, pool) as one:
        key = await accepted(one, spec(human("h")))
        await parked(pool)
        store = for_tenant(pool, TENANT)
        await store.cancel(key, "enough")
        record = await ended(store, key)
        assert one.active == 0 and record.status == "cancelled"


async def test_execution_with_something_else_to_do_is_not_parked(dsn, pool):
    """A second question is asked while the first one waits; both are answered by two coordinators."""
    async with engine(dsn, pool) as one, engine(dsn, pool, "c/1"):
        document = spec(human("x"), human("y"), text("z", "z"), edges="x>y y>z")
        keys = [await accepted(one, document) for _ in range(5)]
        store = for_tenant(pool, TENANT)
        for place, step in enumerate(("x", "y")):
            await parked(pool, len(keys))
            for key in keys:
                await store.answer(key, f"{step}/0", {"approved": True}, str(place))
        for key in keys:
            found = (await ended(store, key)).final_state["outputs"]
            assert (found["x"]["by"], found["y"]["by"], found["z"]) == ("0", "1", "z")


async def test_time_that_passes_while_nobody_runs_counts(dsn, tmp_path):
    document = spec(wait("w", seconds=1.0), text("t", "done"), edges="w>t")
    async with flowing(dsn, tmp_path) as flow:
        began = time.time()
        key = await begun(flow, document)
    assert time.time() - began < 1.0, "it drains without waiting for what waits"
    await asyncio.sleep(max(0.0, began + 1.1 - time.time()))
    async with flowing(dsn, tmp_path) as flow:
        opened = time.time()
        record = await over(flow, key)
        assert record.status == "completed" and record.completed_at - opened < 1.0


def driver(document: Json, environ: dict[str, str]) -> subprocess.Popen[str]:
    """A process that executes it, and tells its id."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.driver", json.dumps(document), "{}"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environ},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("rested", [False, True][: cases(1)])
async def test_execution_outlives_the_kill_of_its_process_between_question_and_answer(
    data_dir, rested
):
    environ = {
        "AGENTFLOW_DATA_DIR": str(data_dir),
        "AGENTFLOW_LEASE_S": "2",
        "AGENTFLOW_HEARTBEAT_S": "0.5",
    }
    document = spec(text("a", "a"), human("h"), text("t", "done"), edges="a>h h>t")
    flow: Flow = await open_local(load(environ))
    try:
        process = driver(document, environ)
        assert process.stdout is not None
        key = (await asyncio.to_thread(process.stdout.readline)).strip()
        await at_rest(flow, key)
        if rested:
            async with asyncio.timeout(10):
                while (await flow.get(TENANT, key)).owner is not None:
                    await asyncio.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        await flow.resume(TENANT, key, {"approved": True}, node_id="h", by="ann")
        record = await over(flow, key)
        assert record.status == "completed", record
        ran = [step["attempts"] for step in record.steps]
        assert ran == [1, 1, 1] and record.final_state["outputs"]["h"]["by"] == "ann"
    finally:
        await flow.close()
