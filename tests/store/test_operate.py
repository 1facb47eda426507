"""Retry and release as the store keeps them: one transaction that opens the row and keeps the command."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agentflow.errors import Conflict, NotFound
from agentflow.execution import events as ev
from agentflow.ids import new_id, to_uuid
from agentflow.store.journal import PostgresJournal
from agentflow.store.tenant import for_tenant
from tests.store.samples import accept, append, end, started, step_started

ERROR = {"type": "ProviderRejected", "message": "no", "node_id": "a"}
RETRIABLE = ["failed", "timed_out", "cancelled"]


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


def ended(submission, status: str, seq: int = 2, generation: int = 0):
    whole = end(submission, seq)
    steps = tuple(step | {"generation": generation} for step in whole.outcome.steps)
    outcome = msgspec.structs.replace(whole.outcome, status=status, error=ERROR, steps=steps)
    return msgspec.structs.replace(whole, outcome=outcome)


async def quarantine(pool, execution_id: str) -> None:
    await pool.execute(
        "UPDATE executions SET status = 'quarantined', strikes = 3, owner = NULL "
        "WHERE execution_id = $1",
        to_uuid(execution_id, "exec"),
    )


@pytest.mark.parametrize("status", RETRIABLE)
async def test_retry_opens_the_row_for_any_coordinator_without_a_strike(
    pool, journal, new_submission, status
):
    one = new_submission()
    await journal.append([accept(one, started()), ended(one, status, 3)])
    store = for_tenant(pool, one.tenant)
    await store.retry(one.execution_id)
    record = await store.execution(one.execution_id)
    assert (record.status, record.owner, record.error, record.output) == ("running", *[None] * 3)
    assert record.final_state is None and record.completed_at is None
    assert (record.tokens_used, record.cost) == (7, 0.125)
    other = PostgresJournal(pool, "c/1", 30.0)
    await other.enter()
    (claimed,) = await other.claim(10)
    assert (claimed.execution_id, claimed.strikes) == (one.execution_id, 0)
    (command,) = await other.commands([one.execution_id])
    assert command.kind == "retry"


async def test_retry_of_an_open_or_completed_execution_is_refused_with_the_way_out(
    pool, journal, new_submission
):
    one = new_submission()
    await journal.append([accept(one)])
    store = for_tenant(pool, one.tenant)
    with pytest.raises(Conflict, match=r"is pending;.*cancel it first"):
        await store.retry(one.execution_id)
    await journal.append([end(one, 2)])
    with pytest.raises(Conflict, match=r"is completed;.*fork"):
        await store.retry(one.execution_id)
    await quarantine(pool, one.execution_id)
    with pytest.raises(Conflict, match=r"is quarantined;.*release"):
        await store.retry(one.execution_id)
    assert await journal.commands([one.execution_id]) == []


async def test_of_two_retries_at_once_one_is_kept(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one), ended(one, "failed")])
    store = for_tenant(pool, one.tenant)
    both = await asyncio.gather(
        *(store.retry(one.execution_id) for _ in range(2)), return_exceptions=True
    )
    assert sorted(type(found).__name__ for found in both) == ["Conflict", "NoneType"]
    assert len(await journal.commands([one.execution_id])) == 1


async def test_the_command_goes_with_the_events_that_answer_it(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one), ended(one, "failed")])
    store = for_tenant(pool, one.tenant)
    await store.retry(one.execution_id)
    await journal.claim(10)
    (command,) = await journal.commands([one.execution_id])
    resumed = append(one, 3, ev.ExecutionResumed(at=5.0, reason="retry"))
    await journal.append([msgspec.structs.replace(resumed, commands=(command.id,))])
    assert await journal.commands([one.execution_id]) == []
    await journal.append([ended(one, "failed", 4, generation=1)])
    record = await store.execution(one.execution_id)
    assert [step["generation"] for step in record.steps] == [1]
    await store.retry(one.execution_id)


async def test_owner_of_the_time_before_the_retry_may_not_write(pool, journal, new_submission):
    from agentflow.errors import FencedOut

    one = new_submission()
    await journal.append([accept(one), ended(one, "failed")])
    await for_tenant(pool, one.tenant).retry(one.execution_id)
    with pytest.raises(FencedOut):
        await journal.append([append(one, 3, ev.StepLate(at=1.0, step="a"))])


async def test_release_clears_the_strikes_and_lets_it_be_claimed(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, started(), step_started("a"))])
    await quarantine(pool, one.execution_id)
    store = for_tenant(pool, one.tenant)
    await store.release(one.execution_id, "mended")
    (claimed,) = await journal.claim(10)
    assert claimed.strikes == 0
    (command,) = await journal.commands([one.execution_id])
    assert (command.kind, command.payload) == ("release", {"reason": "mended"})
    with pytest.raises(Conflict, match=r"is running"):
        await store.release(one.execution_id)


async def test_release_that_was_not_obeyed_yet_is_asked_again(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, started())])
    store = for_tenant(pool, one.tenant)
    for _ in range(2):
        await quarantine(pool, one.execution_id)
        await store.release(one.execution_id)
    assert len(await journal.commands([one.execution_id])) == 1


async def test_absent_executions_are_not_found(pool):
    store = for_tenant(pool, "ten_" + "0" * 31 + "7")
    for question in (store.retry, store.release, store.is_over, store.content_hash):
        with pytest.raises(NotFound):
            await question(new_id("exec"))
