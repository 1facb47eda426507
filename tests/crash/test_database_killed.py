"""kill -9 of the database in the middle of executions; rival coordinators on one database."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading

from agentflow.access.model import DEFAULT_TENANT
from agentflow.engine.engine import Engine
from agentflow.engine.lease import LeaseKeeper
from agentflow.errors import StoreUnavailable
from agentflow.execution import events as ev
from agentflow.execution.keys import idempotency_key
from agentflow.flow import Flow, open_local, open_nodes
from agentflow.ids import new_id
from agentflow.settings import load
from agentflow.spec.models import content_hash
from agentflow.store import commands
from agentflow.store.journal import PostgresJournal
from agentflow.store.leases import heartbeat
from agentflow.store.tenant import for_tenant
from agentflow.testing import ScriptedWorkers
from tests.crash.test_process_killed import chain, environ
from tests.crash.test_resume_from_every_prefix import DIAMOND, answer, submission
from tests.fake_provider import FakeProvider, Request, Text


async def test_executions_complete_after_the_database_was_killed_and_repeat_no_committed_step(
    data_dir,
):
    gate = threading.Event()

    def reply(request: Request) -> Text:
        return Text("yes", gate=gate if "step 2 " in request.prompt else None)

    with FakeProvider(default=reply) as provider:
        flow = await open_local(load(environ(data_dir)))
        try:
            spec = chain(provider.base_url, 6)
            asked = [
                await flow.submit(DEFAULT_TENANT, spec, initial_state={"user_input": "go"})
                for _ in range(5)
            ]
            assert await asyncio.to_thread(provider.wait_for, 15)
            pid = (data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
            os.kill(int(pid), signal.SIGKILL)
            gate.set()
            while (await flow.health())["database"] != "ok":
                await asyncio.sleep(0.05)
            records = [await over(flow, key) for key in asked]
        finally:
            await flow.close()
    assert [record.status for record in records] == ["completed"] * 5
    for key in asked:
        for number in range(6):
            call = idempotency_key(DEFAULT_TENANT, key, f"n{number}", 0, 0)
            assert provider.idempotency_keys[call] == 1, (key, number)


async def over(flow: Flow, execution_id: str):
    """The ended execution; a connection from before the kill may answer first that it is gone."""
    while True:
        with contextlib.suppress(StoreUnavailable):
            return await flow.wait(DEFAULT_TENANT, execution_id, 60)


def engine(dsn, pool, name: str, reply, lease_s: float = 1.0) -> tuple[Engine, ScriptedWorkers]:
    workers = ScriptedWorkers(reply)
    keeper = LeaseKeeper(heartbeat(dsn, name, lease_s), lease_s=lease_s, heartbeat_s=lease_s / 4)
    journal = PostgresJournal(pool, name, lease_s)
    return Engine(name, journal=journal, lease=keeper, workers=workers, nodes=open_nodes()), workers


def real(document):
    made = submission(document)
    return type(made)(
        execution_id=new_id("exec"),
        tenant=DEFAULT_TENANT,
        content_hash=content_hash(made.spec),
        spec=made.spec,
        initial_state=made.initial_state,
    )


async def never(attempt):
    await asyncio.Event().wait()


async def test_rival_completes_what_a_coordinator_left_by_drain_or_by_death(dsn, pool):
    asked = [real(DIAMOND) for _ in range(6)]
    for way in ("drain", "close"):
        first, _ = engine(dsn, pool, f"first/{way}", never)
        await first.start()
        for each in asked[:3] if way == "drain" else asked[3:]:
            await first.accept(each)
        await (first.drain() if way == "drain" else first.close())
        await first.close()
    second, workers = engine(dsn, pool, "second", answer)
    await second.start()
    store = for_tenant(pool, DEFAULT_TENANT)
    try:
        for each in asked:
            assert await store.wait_over(each.execution_id, 20)
            recorded = await store.events(each.execution_id)
            assert isinstance(recorded[-1].event, ev.ExecutionCompleted)
            assert [entry.seq for entry in recorded] == list(range(1, len(recorded) + 1))
    finally:
        await second.close()
    done = [(call.execution_id, call.step) for call in workers.calls]
    assert len(done) == len(set(done))


async def test_quarantined_execution_can_be_cancelled(dsn, pool):
    asked = real(DIAMOND)
    first, _ = engine(dsn, pool, "first", never)
    await first.start()
    await first.accept(asked)
    await first.drain()
    await first.close()
    await pool.execute("UPDATE executions SET status = 'quarantined', strikes = 3")
    assert await commands.cancel(pool, DEFAULT_TENANT, asked.execution_id)
    second, workers = engine(dsn, pool, "second", answer)
    await second.start()
    store = for_tenant(pool, DEFAULT_TENANT)
    try:
        assert await store.wait_over(asked.execution_id, 10)
    finally:
        await second.close()
    assert (await store.execution(asked.execution_id)).status == "cancelled"
    assert workers.calls == []


async def test_large_execution_is_claimed_fast(pool, new_submission):
    from tests.store.samples import accept, append, step_completed, step_started

    first, one = PostgresJournal(pool, "first", 30), new_submission()
    await first.enter()
    steps = [f"s{number}" for number in range(10_000)]
    await first.append(
        [
            accept(one),
            append(
                one,
                2,
                *[e for s in steps for e in (step_started(s), step_completed(s))],
                step_started("last"),
            ),
        ]
    )
    await pool.execute("UPDATE coordinators SET epoch = epoch + 1, lease_until = '-infinity'")
    second = PostgresJournal(pool, "second", 30)
    await second.enter()
    async with asyncio.timeout(5):
        claimed = await second.claim(10)
    assert [(each.execution_id, each.strikes) for each in claimed] == [(one.execution_id, 1)]
