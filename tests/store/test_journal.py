"""The journal's contract, on a real server: fenced, atomic, claimed once."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from agentflow.errors import Conflict, FencedOut, StoreError, StoreUnavailable
from agentflow.store import commands
from agentflow.store.journal import PostgresJournal
from agentflow.store.leases import early_bury, epoch_of, heartbeat
from agentflow.store.tenant import for_tenant
from tests.store.samples import (
    accept,
    append,
    end,
    started,
    step_completed,
    step_started,
)


@pytest.fixture
async def journal(pool):
    opened = PostgresJournal(pool, "c/0", 30.0)
    await opened.enter()
    return opened


@pytest.fixture
async def rival(pool):
    opened = PostgresJournal(pool, "c/1", 30.0)
    await opened.enter()
    return opened


async def _seqs(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    rows = await pool.fetch("SELECT execution_id, seq FROM journal ORDER BY 1, 2")
    return [(row["execution_id"].hex, row["seq"]) for row in rows]


async def test_append_keeps_the_events_in_order(journal, new_submission):
    one = new_submission()
    events = (started(), step_started("a"), step_completed("a", {"text": "é\x00"}))
    await journal.append([accept(one, *events)])
    recorded = await journal.read(one.execution_id)
    assert [entry.seq for entry in recorded] == [1, 2, 3, 4]
    assert tuple(entry.event for entry in recorded[1:]) == events
    assert await journal.read(one.execution_id, after=3) == recorded[3:]


async def test_append_writes_many_executions_in_one_transaction(journal, new_submission):
    many = [new_submission(content_hash=f"sha256:{n % 3}") for n in range(20)]
    await journal.append([accept(one) for one in reversed(many)])
    await journal.append([append(one, 2, started(), step_started("a")) for one in many])
    ids = [one.execution_id for one in many]
    assert await journal.last_seq(ids) == dict.fromkeys(ids, 3)
    assert await journal.owned(ids) == set(ids)


async def test_append_is_fenced_when_the_epoch_is_stale(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    await PostgresJournal(pool, "c/0", 30.0).enter()
    with pytest.raises(FencedOut):
        await journal.append([append(one, 2, started())])
    assert await journal.last_seq([one.execution_id]) == {one.execution_id: 1}
    assert await journal.owned([one.execution_id]) == set()


async def test_append_is_fenced_when_the_lease_lapsed(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    await pool.execute("UPDATE coordinators SET lease_until = clock_timestamp()")
    with pytest.raises(FencedOut):
        await journal.append([append(one, 2, started())])
    with pytest.raises(FencedOut):
        await journal.append([accept(new_submission())])
    assert len(await _seqs(pool)) == 1
    assert await pool.fetchval("SELECT count(*) FROM executions") == 1


async def test_append_writes_nothing_when_one_execution_is_no_longer_ours(
    pool, journal, rival, new_submission
):
    ours, lost = new_submission(), new_submission()
    await journal.append([accept(ours), accept(lost)])
    await pool.execute(
        "UPDATE executions SET owner = 'c/1', owner_epoch = $2 WHERE execution_id::text = $1",
        str(_uuid(lost)),
        rival.epoch,
    )
    before = await _seqs(pool)
    fresh = new_submission()
    with pytest.raises(FencedOut):
        await journal.append(
            [accept(fresh), append(ours, 2, started()), append(lost, 2, started())]
        )
    assert await _seqs(pool) == before
    ids = [ours.execution_id, lost.execution_id, fresh.execution_id]
    assert await journal.owned(ids) == {ours.execution_id}
    await journal.append([append(ours, 2, started())])
    await rival.append([append(lost, 2, started())])


def _uuid(submission):
    from agentflow.ids import to_uuid

    return to_uuid(submission.execution_id, "exec")


async def test_accept_conflicts_when_the_id_exists(pool, journal, rival, new_submission):
    one, other = new_submission(), new_submission()
    await journal.append([accept(one)])
    for coordinator in (journal, rival):
        with pytest.raises(Conflict):
            await coordinator.append([accept(other), accept(one)])
    assert len(await _seqs(pool)) == 1


async def test_append_reports_a_stale_tail_when_the_events_are_there(journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    await journal.append([append(one, 2, step_started("a"))])
    with pytest.raises(StoreUnavailable):
        await journal.append([append(one, 2, step_started("a"))])


async def test_append_refuses_a_second_end_of_a_step(journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, step_completed("a"))])
    with pytest.raises(StoreError):
        await journal.append([append(one, 3, step_completed("a"))])
    assert await journal.last_seq([one.execution_id]) == {one.execution_id: 2}


async def test_outcome_closes_the_row_and_projects_the_steps(pool, journal, new_submission):
    one = new_submission(metadata={"team": "blue"})
    await journal.append([accept(one, started(), step_completed("a"))])
    store = for_tenant(pool, one.tenant)
    running = await store.execution(one.execution_id)
    assert (running.status, running.owner, running.steps) == ("running", "c/0", ())
    await journal.append([end(one, 4)])
    record = await store.execution(one.execution_id)
    assert record.over
    assert record.final_state == {"text_result": "done"}
    assert (record.output, record.error) == ({"answer": 42}, None)
    assert (record.tokens_used, record.cost, record.execution_time) == (7, 0.125, 1.5)
    assert record.metadata == {"team": "blue"}
    assert [step["step"] for step in record.steps] == ["a"]
    assert record.created_at and record.started_at
    assert record.completed_at >= max(record.created_at, record.started_at)


async def test_an_execution_may_be_accepted_and_end_in_one_append(pool, journal, new_submission):
    one = new_submission()
    first, last = accept(one, started(), step_completed("a")), end(one, 4)
    await journal.append([_joined(first, last)])
    assert (await for_tenant(pool, one.tenant).execution(one.execution_id)).status == "completed"


def _joined(first, last):
    from msgspec.structs import replace

    return replace(first, events=first.events + last.events, outcome=last.outcome)


async def test_status_is_running_once_the_execution_started(pool, journal, new_submission):
    one = new_submission()
    store = for_tenant(pool, one.tenant)
    await journal.append([accept(one)])
    assert (await store.execution(one.execution_id)).status == "pending"
    await journal.append([append(one, 2, started())])
    record = await store.execution(one.execution_id)
    assert record.status == "running" and record.started_at


async def test_claim_skips_executions_of_the_living(journal, rival, new_submission):
    await journal.append([accept(new_submission())])
    assert await rival.claim(10) == []


async def test_claim_takes_over_when_the_owner_is_buried(pool, journal, rival, new_submission):
    idle, busy, over = new_submission(), new_submission(), new_submission()
    await journal.append([accept(idle), accept(busy, step_started("a")), accept(over)])
    await journal.append([end(over, 2)])
    assert await early_bury(pool, "c/0", await epoch_of(pool, "c/0"))
    claimed = {one.execution_id: one for one in await rival.claim(10)}
    assert set(claimed) == {idle.execution_id, busy.execution_id}
    assert claimed[idle.execution_id].spec == idle.spec
    assert claimed[idle.execution_id].strikes == 0
    assert claimed[busy.execution_id].strikes == 1
    with pytest.raises(FencedOut):
        await journal.append([append(idle, 2, started())])
    await rival.append([append(idle, 2, started()), append(busy, 3, step_completed("a"))])
    assert await pool.fetchval("SELECT max(strikes) FROM executions") == 0


async def test_early_burial_spares_a_coordinator_that_entered_since(pool, journal):
    seen = journal.epoch
    await journal.enter()
    assert not await early_bury(pool, "c/0", seen)
    assert await epoch_of(pool, "c/0") == journal.epoch


async def test_claim_quarantines_at_the_third_strike(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one, started(), step_started("a"))])
    strikes = []
    for turn in range(3):
        await pool.execute("UPDATE coordinators SET lease_until = '-infinity'")
        heir = PostgresJournal(pool, f"heir/{turn}", 30.0)
        await heir.enter()
        strikes += [claimed.strikes for claimed in await heir.claim(10)]
    assert strikes == [1, 2]
    record = await for_tenant(pool, one.tenant).execution(one.execution_id)
    assert (record.status, record.owner) == ("quarantined", None)


async def test_what_two_owners_died_with_is_claimed_one_at_a_time(pool, journal, new_submission):
    """The guilty one must not take the others down a third time."""
    struck, fresh = [new_submission() for _ in range(3)], new_submission()
    await journal.append([accept(one, step_started("a")) for one in struck])
    await bury_all(pool)
    first = PostgresJournal(pool, "heir/0", 30.0)
    await first.enter()
    assert [claimed.strikes for claimed in await first.claim(10)] == [1, 1, 1]
    await first.append([accept(fresh, step_started("a"))])
    await bury_all(pool)
    second = PostgresJournal(pool, "heir/1", 30.0)
    await second.enter()
    found = {claimed.execution_id: claimed.strikes for claimed in await second.claim(10)}
    assert sorted(found.values()) == [1, 2] and found.pop(fresh.execution_id) == 1
    (suspect,) = found
    assert await second.claim(10) == []
    tried = next(one for one in struck if one.execution_id == suspect)
    await second.append([append(tried, 3, step_completed("a"))])
    (other,) = await second.claim(10)
    assert other.strikes == 2
    await pool.execute("UPDATE executions SET owned_at = owned_at - interval '11 seconds'")
    assert [claimed.strikes for claimed in await second.claim(10)] == [2]


async def bury_all(pool):
    await pool.execute("UPDATE coordinators SET lease_until = '-infinity'")


async def test_no_strike_when_the_attempt_had_ended(pool, journal, rival, new_submission):
    one = new_submission()
    await journal.append([accept(one, step_started("a"), step_completed("a"))])
    await early_bury(pool, "c/0", journal.epoch)
    assert [claimed.strikes for claimed in await rival.claim(10)] == [0]


async def test_release_hands_over_at_once_and_without_a_strike(journal, rival, new_submission):
    one = new_submission()
    await journal.append([accept(one, step_started("a"))])
    await journal.release()
    assert [claimed.strikes for claimed in await rival.claim(10)] == [0]
    with pytest.raises(FencedOut):
        await journal.append([append(one, 3, step_completed("a"))])


async def test_enter_keeps_what_still_names_us(pool, journal, rival, new_submission):
    kept, lost = new_submission(), new_submission()
    await journal.append([accept(kept, step_started("a")), accept(lost)])
    former = journal.epoch
    await pool.execute(
        "UPDATE executions SET owner = 'c/1', owner_epoch = $1 WHERE execution_id::text = $2",
        rival.epoch,
        str(_uuid(lost)),
    )
    assert await journal.enter() > former
    ids = [kept.execution_id, lost.execution_id]
    assert await journal.owned(ids) == {kept.execution_id}
    assert await rival.claim(10) == []
    await journal.append([append(kept, 3, step_completed("a"))])


async def test_a_new_process_of_the_same_name_claims_what_the_old_one_left(
    pool, journal, new_submission
):
    one = new_submission()
    await journal.append([accept(one)])
    successor = PostgresJournal(pool, "c/0", 30.0)
    await successor.enter()
    assert [claimed.execution_id for claimed in await successor.claim(10)] == [one.execution_id]


async def test_claim_gives_each_execution_to_one_of_many(pool, journal, new_submission):
    many = [new_submission() for _ in range(40)]
    await journal.append([accept(one) for one in many])
    await journal.release()
    heirs = [PostgresJournal(pool, f"heir/{number}", 30.0) for number in range(4)]
    await asyncio.gather(*(heir.enter() for heir in heirs))
    found = await asyncio.gather(*(heir.claim(25) for heir in heirs))
    ids = [claimed.execution_id for claims in found for claimed in claims]
    assert sorted(ids) == sorted(one.execution_id for one in many)


async def test_a_command_is_answered_exactly_once(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    assert await commands.cancel(pool, one.tenant, one.execution_id, "enough")
    (command,) = await journal.commands([one.execution_id])
    assert (command.kind, command.payload) == ("cancel", {"reason": "enough"})
    await journal.append([_answering(append(one, 2, started()), command.id)])
    assert await journal.commands([one.execution_id]) == []
    with pytest.raises(FencedOut):
        await journal.append([_answering(append(one, 3, step_started("a")), command.id)])
    assert await journal.last_seq([one.execution_id]) == {one.execution_id: 2}


def _answering(appended, command_id):
    from msgspec.structs import replace

    return replace(appended, commands=(command_id,))


async def test_cancel_waits_for_the_outcome_that_is_being_written(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    async with pool.acquire() as blocker:
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("UPDATE executions SET status = 'completed'")
        asked = asyncio.ensure_future(commands.cancel(pool, one.tenant, one.execution_id))
        done, _ = await asyncio.wait({asked}, timeout=0.2)
        assert not done
        await transaction.commit()
    assert await asyncio.wait_for(asked, 5) is False
    assert await pool.fetchval("SELECT count(*) FROM commands") == 0


async def test_outcome_voids_commands_that_nobody_answered(pool, journal, new_submission):
    one = new_submission()
    await journal.append([accept(one)])
    await commands.cancel(pool, one.tenant, one.execution_id)
    await journal.append([end(one, 2)])
    assert await pool.fetchval("SELECT count(*) FROM commands") == 0


async def test_burial_waits_for_an_append_that_passed_its_check(pool, dsn):
    await PostgresJournal(pool, "c/0", 0.2).enter()
    lease = heartbeat(dsn, "c/9", 30.0)
    async with pool.acquire() as writer, writer.transaction():
        await writer.execute("SELECT 1 FROM coordinators WHERE id = 'c/0' FOR SHARE")
        await writer.execute("SELECT pg_sleep(0.25)")
        assert await lease.bury() == []
    assert await lease.bury() == ["c/0"]
    await lease.close()


async def test_a_lapsed_lease_is_never_revived(pool, dsn, journal):
    lease = heartbeat(dsn, "c/0", 30.0)
    assert await lease.renew(journal.epoch)
    await pool.execute("UPDATE coordinators SET lease_until = clock_timestamp()")
    assert not await lease.renew(journal.epoch)
    await journal.enter()
    assert await lease.renew(journal.epoch)
    await lease.close()


async def test_what_was_claimed_without_an_answer_is_found_again(pool, new_submission):
    first, one, two = PostgresJournal(pool, "c/0", 30), new_submission(), new_submission()
    await first.enter()
    await first.append([accept(one), accept(two)])
    await first.release()
    second = PostgresJournal(pool, "c/1", 30)
    await second.enter()
    await second.claim(10)
    strays = await second.strays([one.execution_id], 10)
    assert [stray.execution_id for stray in strays] == [two.execution_id]
    assert strays[0].spec == two.spec
