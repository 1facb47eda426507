"""Waits in PostgreSQL: opened and closed with the journal, answered once, and what they wake."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from agentflow.errors import Conflict, FencedOut, NotFound
from agentflow.execution import events as ev
from agentflow.execution.journal import Append, Submission
from agentflow.ids import new_id, to_uuid
from agentflow.store.journal import PostgresJournal
from agentflow.store.leases import early_bury
from agentflow.store.tenant import TenantStore, for_tenant
from tests.store.samples import accept, append, end, started, step_completed, step_started

Json = Any
HOUR = 3600.0


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


@pytest.fixture
async def other(pool):
    opened = PostgresJournal(pool, "c/1", 30.0)
    await opened.enter()
    return opened


def step_waiting(step: str = "h", **more: Json) -> ev.StepWaiting:
    given: Json = {"wait_id": f"{step}/0", "kind": "human", "form": {"type": "object"}}
    return ev.StepWaiting(at=time.time(), step=step, **{**given, **more})


def waiting() -> ev.ExecutionWaiting:
    return ev.ExecutionWaiting(at=time.time())


def with_wake(whole: Append, wake_at: float | None) -> Append:
    return msgspec.structs.replace(whole, wake_at=wake_at)


def closing(submission: Submission, seq: int, *waits: str) -> Append:
    return Append(
        execution_id=submission.execution_id,
        tenant=submission.tenant,
        first_seq=seq,
        events=(step_completed("h"),),
        closes=waits,
    )


async def rests(journal, submission: Submission, *waits: ev.Event, wake_at: float | None = None):
    """Accept an execution that waits, for this by default."""
    events = (started(), *(waits or (step_waiting(),)), waiting())
    await journal.append([with_wake(accept(submission, *events), wake_at)])


async def row_of(pool, submission: Submission) -> Any:
    return await pool.fetchrow(
        "SELECT status, owner, extract(epoch FROM wake_at)::float8 AS wake_at FROM executions "
        "WHERE execution_id = $1",
        to_uuid(submission.execution_id, "exec"),
    )


def store_of(pool, submission: Submission) -> TenantStore:
    return for_tenant(pool, submission.tenant)


async def test_wait_is_there_with_its_event_and_is_answered_once(pool, journal, new_submission):
    one = new_submission()
    until = time.time() + HOUR
    form = {"type": "object", "required": ["x"]}
    asked = step_waiting(until=until, prompt="Well?", form=form, assignees=("ann", "bob"))
    await rests(journal, one, asked)
    store = store_of(pool, one)
    (wait,) = await store.waits(one.execution_id)
    assert (wait.wait_id, wait.step, wait.node_id, wait.kind) == ("h/0", "h", "h", "human")
    assert (wait.prompt, wait.form, wait.assignees) == ("Well?", form, ("ann", "bob"))
    assert wait.open and abs(wait.due_at - until) < 0.001
    await store.answer(one.execution_id, "h/0", {"x": 1}, "ann")
    with pytest.raises(Conflict):
        await store.answer(one.execution_id, "h/0", {"x": 2}, "bob")
    (command,) = await journal.commands([one.execution_id])
    assert (command.kind, command.wait, command.by) == ("signal", "h/0", "ann")
    assert command.payload == {"data": {"x": 1}} and abs(command.at - time.time()) < 10
    (wait,) = await store.waits(one.execution_id)
    assert not wait.open and wait.answered_by == "ann"


async def test_answered_wait_stays_answered_when_the_owner_has_obeyed(
    pool, journal, new_submission
):
    one = new_submission()
    await rests(journal, one)
    store = store_of(pool, one)
    await store.answer(one.execution_id, "h/0", 1, "ann")
    (command,) = await journal.commands([one.execution_id])
    obeyed = closing(one, 5, "h/0")
    await journal.append([msgspec.structs.replace(obeyed, commands=(command.id,))])
    assert await journal.commands([one.execution_id]) == []
    with pytest.raises(Conflict):
        await store.answer(one.execution_id, "h/0", 2, "bob")


async def test_of_many_answers_at_once_one_is_taken(pool, journal, new_submission):
    one = new_submission()
    await rests(journal, one)
    store = store_of(pool, one)
    answers = [store.answer(one.execution_id, "h/0", n, str(n)) for n in range(6)]
    given = await asyncio.gather(*answers, return_exceptions=True)
    assert [type(answer) for answer in given].count(Conflict) == 5
    assert len(await journal.commands([one.execution_id])) == 1


async def test_wait_that_ended_or_whose_time_is_over_takes_no_answer(pool, journal, new_submission):
    closed, late = new_submission(), new_submission()
    await rests(journal, closed)
    await journal.append([closing(closed, 5, "h/0")])
    await rests(journal, late, step_waiting(until=time.time() - 1))
    for one in (closed, late):
        assert [wait.open for wait in await store_of(pool, one).waits(one.execution_id)] == [False]
        with pytest.raises(Conflict):
            await store_of(pool, one).answer(one.execution_id, "h/0", 1, "ann")


async def test_execution_that_is_over_or_absent_takes_no_answer(pool, journal, new_submission):
    one = new_submission()
    await rests(journal, one)
    await journal.append([end(one, 5)])
    with pytest.raises(Conflict, match="completed"):
        await store_of(pool, one).answer(one.execution_id, "h/0", 1, "ann")
    with pytest.raises(NotFound):
        await store_of(pool, one).answer(new_id("exec"), "h/0", 1, "ann")
    stranger = for_tenant(pool, new_id("ten"))
    with pytest.raises(NotFound):
        await stranger.answer(one.execution_id, "h/0", 1, "ann")


async def test_expiry_closes_a_wait_and_an_answer_before_it_wins(pool, journal, new_submission):
    answered, silent = new_submission(), new_submission()
    for one in (answered, silent):
        await rests(journal, one, step_waiting(until=time.time() + HOUR))
    await store_of(pool, answered).answer(answered.execution_id, "h/0", 1, "ann")
    waits = [(one.execution_id, "h/0") for one in (answered, silent)]
    assert await journal.expire(waits) == {waits[0]}
    with pytest.raises(Conflict):
        await store_of(pool, silent).answer(silent.execution_id, "h/0", 1, "ann")
    assert await journal.expire(waits) == {waits[0]}, "asked again after a crash"


async def test_answer_and_expiry_at_once_agree_on_who_was_first(pool, journal, new_submission):
    many = [new_submission() for _ in range(12)]
    for one in many:
        await rests(journal, one, step_waiting(until=time.time() + HOUR))
    waits = [(one.execution_id, "h/0") for one in many]
    answers = [store_of(pool, one).answer(one.execution_id, "h/0", 1, "ann") for one in many]
    expiry, *given = await asyncio.gather(journal.expire(waits), *answers, return_exceptions=True)
    taken = {wait for wait, answer in zip(waits, given, strict=True) if answer is None}
    assert expiry == taken


async def test_expiry_is_the_owners_alone(pool, journal, other, new_submission):
    one = new_submission()
    await rests(journal, one)
    with pytest.raises(FencedOut):
        await other.expire([(one.execution_id, "h/0")])
    await store_of(pool, one).answer(one.execution_id, "h/0", 1, "ann")


async def test_signal_before_its_wait_is_kept_and_is_for_the_wait_when_it_begins(
    pool, journal, new_submission
):
    one = new_submission()
    await journal.append([accept(one, started())])
    store = store_of(pool, one)

    async def send(data: Json) -> str | None:
        names = {"nodes": ["w"], "repeated": []}
        return await store.signal(one.execution_id, "paid", data, "ann", **names)

    assert await send({"sum": 1}) is None
    with pytest.raises(Conflict, match="kept already"):
        await send({"sum": 2})
    assert await journal.commands([one.execution_id]) == [], "nothing for its owner yet"
    asked = step_waiting("w", kind="signal", signal="paid", form=None)
    await journal.append([append(one, 3, asked, waiting())])
    (command,) = await journal.commands([one.execution_id])
    assert (command.wait, command.payload, command.by) == ("w/0", {"data": {"sum": 1}}, "ann")
    assert (await row_of(pool, one))["wake_at"] <= time.time() + 1, "to be woken at once"
    with pytest.raises(Conflict):
        await send({"sum": 3})


async def test_two_waits_for_a_signal_are_answered_one_after_the_other(
    pool, journal, new_submission
):
    one = new_submission()
    pair = [step_waiting(step, kind="signal", signal="go", form=None) for step in ("a", "b")]
    await rests(journal, one, *pair)
    store = store_of(pool, one)
    sent = [
        await store.signal(one.execution_id, "go", n, "t", nodes=["a", "b"], repeated=[])
        for n in range(2)
    ]
    assert sent == ["a/0", "b/0"]
    with pytest.raises(Conflict):
        await store.signal(one.execution_id, "go", 3, "t", nodes=["a", "b"], repeated=[])


async def test_parked_execution_is_claimed_when_its_time_comes_and_not_before(
    pool, journal, other, new_submission
):
    soon, later, never = (new_submission() for _ in range(3))
    rows = [(soon, time.time() + 0.5), (later, time.time() + HOUR), (never, None)]
    for one, _ in rows:
        await rests(journal, one, wake_at=HOUR)
    await journal.park([(one.execution_id, moment) for one, moment in rows])
    for one, moment in rows:
        row = await row_of(pool, one)
        assert (row["status"], row["owner"]) == ("waiting", None)
        assert row["wake_at"] == moment or abs(row["wake_at"] - moment) < 0.001
    assert [claimed.execution_id for claimed in await other.claim(10)] == [soon.execution_id]
    assert await other.claim(10) == []


@pytest.mark.parametrize("what", ["answer", "cancel"])
async def test_parked_execution_is_claimed_for_a_command(
    pool, journal, other, new_submission, what
):
    one = new_submission()
    await rests(journal, one)
    await journal.park([(one.execution_id, None)])
    assert await other.claim(10) == []
    store = store_of(pool, one)
    if what == "answer":
        await store.answer(one.execution_id, "h/0", 1, "ann")
    else:
        await store.cancel(one.execution_id)
    assert [claimed.execution_id for claimed in await other.claim(10)] == [one.execution_id]


async def test_command_that_came_before_the_leave_wakes_at_once(
    pool, journal, other, new_submission
):
    one = new_submission()
    await rests(journal, one)
    await store_of(pool, one).answer(one.execution_id, "h/0", 1, "ann")
    await journal.park([(one.execution_id, time.time() + HOUR)])
    assert len(await other.claim(10)) == 1


async def test_command_for_a_busy_execution_wakes_it_when_it_waits(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, started())])
    await store_of(pool, one).cancel(one.execution_id)
    later = with_wake(append(one, 3, step_waiting(), waiting()), time.time() + HOUR)
    await journal.append([later])
    assert (await row_of(pool, one))["wake_at"] <= time.time() + 1


async def test_execution_that_goes_on_in_the_batch_in_which_it_rests_does_not_wait(
    pool, journal, other, new_submission
):
    """Its owner dies next: an execution that has a step under way must not be left to its row."""
    submission = new_submission()
    await rests(journal, submission)
    resumed = append(submission, 5, ev.ExecutionResumed(at=time.time()), waiting())
    again = append(submission, 7, ev.ExecutionResumed(at=time.time()), step_started("b"))
    await journal.append([resumed, again])
    assert (await row_of(pool, submission))["status"] == "running"

    assert await early_bury(pool, "c/0", journal.epoch)
    assert [orphan.execution_id for orphan in await other.claim(10)] == [submission.execution_id]


async def test_execution_that_does_not_wait_or_is_anothers_is_not_given_up(
    pool, journal, other, new_submission
):
    busy, anothers = new_submission(), new_submission()
    await journal.append([accept(busy, started())])
    await rests(other, anothers)
    await journal.park([(busy.execution_id, None), (anothers.execution_id, None)])
    assert (await row_of(pool, busy))["owner"] == "c/0"
    assert (await row_of(pool, anothers))["owner"] == "c/1"


async def test_what_waits_stays_where_it_is_when_its_owner_dies(
    pool, journal, other, new_submission
):
    due, idle, busy = (new_submission() for _ in range(3))
    await rests(journal, due, wake_at=time.time() + 1)
    await rests(journal, idle, wake_at=time.time() + HOUR)
    await journal.append([accept(busy, started())])
    await early_bury(pool, "c/0", journal.epoch)
    claimed = {found.execution_id for found in await other.claim(10)}
    assert claimed == {due.execution_id, busy.execution_id}
    row = await row_of(pool, idle)
    assert (row["status"], row["owner"]) == ("waiting", None)
    assert await other.claim(10) == []


async def test_drained_coordinator_leaves_what_waits_to_its_row(
    pool, journal, other, new_submission
):
    one = new_submission()
    await rests(journal, one)
    await journal.release()
    assert await other.claim(10) == []
    await store_of(pool, one).answer(one.execution_id, "h/0", 1, "ann")
    assert len(await other.claim(10)) == 1
