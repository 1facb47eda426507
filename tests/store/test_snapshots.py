"""Snapshots in PostgreSQL: fenced, read only where they fit, gone with their execution; and a take-over
from one after kill -9."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.engine.plans import Plans
from agentflow.engine.snapshots import fold_on, last_state
from agentflow.execution.journal import Snapshot
from agentflow.execution.state import ExecutionState
from agentflow.flow import open_coordinator
from agentflow.flow.history import History
from agentflow.ids import new_id, to_uuid
from agentflow.nodes.base import StepResult
from agentflow.plan.compile import compile_plan
from agentflow.spec.check import check
from agentflow.store import statements as sql
from agentflow.store.embedded import join
from agentflow.store.journal import PostgresJournal
from agentflow.store.retention import erase
from agentflow.store.tenant import for_tenant
from agentflow.testing import ScriptedWorkers
from benchmarks import long
from tests.store.samples import accept, append, end, started, step_completed, step_started
from tests.unit.execution.machine import facts


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


def snapshot(of, seq: int, *running: str, **changes) -> Snapshot:
    values = {"execution_id": of.execution_id, "seq": seq, "format": "f", "content": b"state"}
    return Snapshot(**{**values, "running": tuple((step, 0) for step in running), **changes})


async def test_snapshot_is_kept_in_place_of_the_one_before(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, started(), step_started("a"))])
    assert await journal.snapshot(one.execution_id, "f") is None
    for seq in (1, 3):
        kept = snapshot(one, seq, "a")
        assert await journal.keep_snapshot(kept)
        assert await journal.snapshot(one.execution_id, "f") == kept
    assert await for_tenant(pool, one.tenant).snapshot(one.execution_id, "f") == kept
    assert await for_tenant(pool, new_id("ten")).snapshot(one.execution_id, "f") is None


async def test_snapshot_of_another_format_or_ahead_of_the_journal_is_not_read(
    journal, new_submission
):
    one = new_submission()
    await journal.append([accept(one, started())])
    assert await journal.keep_snapshot(snapshot(one, 2, format="older"))
    assert await journal.snapshot(one.execution_id, "f") is None
    assert await journal.keep_snapshot(snapshot(one, 3))
    assert await journal.snapshot(one.execution_id, "f") is None


@pytest.mark.parametrize("lost", ["epoch", "lease", "owner"])
async def test_snapshot_of_a_stale_owner_is_not_kept(pool, journal, new_submission, lost):
    one = new_submission()
    await journal.append([accept(one)])
    if lost == "epoch":
        await PostgresJournal(pool, "c/0", 30.0).enter()
    elif lost == "lease":
        await pool.execute("UPDATE coordinators SET lease_until = clock_timestamp()")
    else:
        await pool.execute("UPDATE executions SET owner = 'c/1'")
    assert not await journal.keep_snapshot(snapshot(one, 1))
    assert await pool.fetchval("SELECT count(*) FROM snapshots") == 0


async def test_snapshot_goes_with_its_execution(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, started())])
    await journal.keep_snapshot(snapshot(one, 2))
    await journal.append([end(one, 3)])
    await pool.execute("UPDATE executions SET ended_at = ended_at - $1::interval", timedelta(400))
    await erase(pool)
    assert await pool.fetchval("SELECT count(*) FROM snapshots") == 0


@pytest.mark.parametrize(
    ("running", "behind", "strikes"),
    [
        (("a",), (), 1),
        (("a",), (step_completed("a"),), 0),
        ((), (step_started("b"),), 1),
        ((), (step_started("b"), step_completed("b")), 0),
        ((), (), 0),
    ],
)
async def test_attempt_that_a_snapshot_knows_of_counts_when_its_owner_dies(
    pool, journal, new_submission, running, behind, strikes
):
    one = new_submission()
    early = [step_started("a")] if running else [step_started("a"), step_completed("a")]
    await journal.append([accept(one, started(), *early)])
    seq = 2 + len(early)
    await journal.keep_snapshot(snapshot(one, seq, *running))
    if behind:
        await journal.append([append(one, seq + 1, *behind)])
    heir = await _heir_of_the_dead(pool)
    claimed = await heir.claim(10)
    assert [found.strikes for found in claimed] == [strikes]


async def _heir_of_the_dead(pool: asyncpg.Pool) -> PostgresJournal:
    await pool.execute("UPDATE coordinators SET lease_until = '-infinity' WHERE id = 'c/0'")
    heir = PostgresJournal(pool, "c/9", 30.0)
    await heir.enter()
    return heir


async def test_claim_reads_no_more_of_a_long_journal_than_what_is_behind_the_snapshot(
    pool, journal, new_submission
):
    one, length = new_submission(), 3000
    steps = [
        step for n in range(length) for step in (step_started(f"s{n}"), step_completed(f"s{n}"))
    ]
    await journal.append([accept(one, started(), *steps)])
    await journal.keep_snapshot(snapshot(one, 2 * length - 8))
    await pool.execute("ANALYZE journal")
    heir = await _heir_of_the_dead(pool)
    dead = [row["owner"] for row in await pool.fetch(sql.ORPHANED)]
    async with pool.acquire() as connection:
        told = await connection.fetchval(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + sql.CLAIM, "c/9", heir.epoch, 10, dead
        )
    reads = [node for node in _nodes(json.loads(told)[0]["Plan"]) if _of_journal(node)]
    assert reads and sum(_rows(node) for node in reads) == 10


def _nodes(node):
    yield node
    for inner in node.get("Plans", ()):
        yield from _nodes(inner)


def _rows(node) -> int:
    """Rows that were looked at."""
    thrown_away = node.get("Rows Removed by Filter", 0)
    return round((node["Actual Rows"] + thrown_away) * node["Actual Loops"])


def _of_journal(node) -> bool:
    return node.get("Relation Name") == "journal"


async def test_take_over_from_a_snapshot_after_kill_is_that_from_the_journal(data_dir):
    """The owner of a loop is killed once it has made a snapshot."""
    last = 10_000
    spec = check(long.document(last)).normalized
    execution_id = new_id("exec")
    key = to_uuid(execution_id, "exec")
    held = join(data_dir)
    await long.open_once(str(data_dir))
    pool = await asyncpg.create_pool(held.dsn, min_size=1, max_size=4)
    owner = long.started("own", str(data_dir), execution_id, spec=spec)
    try:
        await asyncio.to_thread(_until_made, owner, held.dsn, key)
    finally:
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    try:
        await _same_from_both(pool, spec, execution_id)
        await _unusable_ones_are_ignored(pool, spec, execution_id)
        await _heir_brings_it_to_its_end(pool, data_dir, execution_id, last)
    finally:
        await pool.close()
        held.close()


def _until_made(owner, dsn: str, key) -> None:
    asyncio.run(_poll(owner, dsn, key))


async def _poll(owner, dsn: str, key) -> None:
    connection = await asyncpg.connect(dsn)
    async with asyncio.timeout(30):
        while not await connection.fetchval("SELECT 1 FROM snapshots WHERE execution_id = $1", key):
            assert owner.poll() is None
            await connection.execute("SELECT pg_sleep(0.05)")
    await connection.close()


async def _same_from_both(pool, spec, execution_id) -> None:
    journal, plan = PostgresJournal(pool, "reader", 3.0), compile_plan(spec)
    short = await last_state(journal, plan, execution_id)
    assert short.seq >= 1000
    whole = ExecutionState(plan, execution_id)
    for state in (short, whole):
        async for _ in fold_on(journal, state):
            pass
    assert facts(short) == facts(whole) and whole.seq >= short.seq
    shown = await History(for_tenant(pool, DEFAULT_TENANT), Plans()).fold(execution_id)
    assert facts(shown) == facts(whole)


async def _unusable_ones_are_ignored(pool, spec, execution_id) -> None:
    journal, plan = PostgresJournal(pool, "reader", 3.0), compile_plan(spec)
    kept = await pool.fetchrow("SELECT seq, format, state FROM snapshots")
    for change in (
        "state = substring(state FROM 1 FOR length(state) - 20)",
        "state = ''",
        "format = 'another'",
        "seq = 1000000",
        "seq = seq - 1",
    ):
        await pool.execute(f"UPDATE snapshots SET {change}")
        assert (await last_state(journal, plan, execution_id)).seq == 0, change
        await pool.execute(
            "UPDATE snapshots SET seq = $1, format = $2, state = $3",
            kept["seq"], kept["format"], kept["state"],
        )  # fmt: skip
    assert (await last_state(journal, plan, execution_id)).seq == kept["seq"]


async def _heir_brings_it_to_its_end(pool, data_dir: Path, execution_id: str, last: int) -> None:
    """Its workers give the last answer at once; what was completed is not done again."""

    async def over(attempt):
        return StepResult(
            result={"text": "over"}, delta={attempt.node.output_key: f"answer {last}"}
        )

    before = {
        row["step"]
        for row in await pool.fetch("SELECT step FROM journal WHERE kind = 'step.completed'")
    }
    workers = ScriptedWorkers(over)
    heir = await open_coordinator(long.settings_of(str(data_dir)), "heir/0", workers)
    try:
        async with asyncio.timeout(40):
            while not await pool.fetchval("SELECT ended_at IS NOT NULL FROM executions"):
                await pool.execute("SELECT pg_sleep(0.05)")
    finally:
        await heir.drain()
        await heir.close()
    record = await for_tenant(pool, DEFAULT_TENANT).execution(execution_id)
    assert record.status == "completed"
    assert record.final_state["a_text"] == f"answer {last}"
    assert not before & {attempt.step for attempt in workers.calls}
