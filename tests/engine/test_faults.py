"""What must not stop a coordinator: faults of one execution, refusals, lost answers of the journal."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agentflow.errors import (
    Conflict,
    ConnectionFailed,
    FencedOut,
    StoreError,
    StoreUnavailable,
    WorkerLost,
)
from agentflow.execution import events as ev
from agentflow.execution.journal import Command
from agentflow.flow import open_nodes
from agentflow.nodes.base import StepResult
from agentflow.testing import (
    FreeLease,
    MemoryJournal,
    MemoryStore,
    ScriptedWorkers,
    memory_engine,
)
from tests.crash.test_resume_from_every_prefix import SOURCE, answer, llm, submission
from tests.engine.test_engine import ended, kinds, one, running


def two(**more) -> dict:
    """Two steps in a row."""
    return {
        "nodes": [llm("a", **more), llm("b")],
        "edges": [{"from": "a", "to": "b"}],
        "sources": [SOURCE],
        "start_node": "a",
    }


async def waiting(attempt):
    await asyncio.Event().wait()


@pytest.mark.parametrize("name", ["errors", "execution_path"])
async def test_initial_state_of_an_engine_field_that_is_no_list_is_taken_as_one_item(name):
    store = MemoryStore()
    asked = msgspec.structs.replace(submission(one()), initial_state={name: 5})
    async with running(store) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed" and outcome.final_state[name][0] == 5


async def test_execution_fails_where_its_journal_ends_when_the_journal_cannot_hold_its_next_events():
    class Picky(MemoryJournal):
        async def append(self, batch):
            if any(getattr(e, "result", None) == {"text": "bad"} for a in batch for e in a.events):
                raise StoreError("The database refused the write")
            await super().append(batch)

    def reply(attempt):
        return StepResult(result={"text": "bad"} if attempt.step == "b" else {"text": "good"})

    store, asked = MemoryStore(), submission(two())
    async with running(store, reply, journal=Picky(store)) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "failed" and outcome.error["type"] == "StoreError"
    assert outcome.final_state["outputs"] == {"a": {"text": "good"}}
    assert [attempt.step for attempt in workers.calls] == ["a", "b"]


@pytest.mark.parametrize("fails", ["claim", "read"])
async def test_orphan_is_driven_although_the_database_went_away_during_its_take_over(fails):
    store, asked = MemoryStore(), submission(one())
    async with running(store, waiting) as (engine, _):
        await engine.accept(asked)
        await engine.drain()

    class Flaky(MemoryJournal):
        failed = False

        async def claim(self, limit):
            claimed = await super().claim(limit)
            if fails == "claim" and claimed:  # committed, but the answer is lost
                raise StoreUnavailable()
            return claimed

        async def read(self, execution_id, after=0, limit=None):
            if fails == "read" and not self.failed:
                self.failed = True
                raise StoreUnavailable()
            return await super().read(execution_id, after, limit)

    async with running(store, journal=Flaky(store)):
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_orphan_is_driven_although_its_claim_came_to_pass_long_after_it_was_given_up():
    store, asked = MemoryStore(), submission(one())
    async with running(store, waiting) as (engine, _):
        await engine.accept(asked)
        await engine.drain()

    class Slow(MemoryJournal):
        claims = 0

        async def claim(self, limit):
            self.claims += 1
            if self.claims == 1:
                raise StoreUnavailable()
            if (
                self.claims == 2
            ):  # strays were looked for, and there were none; the first one arrives
                await super().claim(limit)
                return []
            return await super().claim(limit)

    async with running(store, journal=Slow(store)) as (engine, _):
        async with asyncio.timeout(20):
            while asked.execution_id not in store.outcomes:
                engine.nudge(asked.execution_id)
                await asyncio.sleep(0)


async def test_orphan_is_driven_although_it_was_offered_again_while_strays_were_looked_for():
    store, asked = MemoryStore(), submission(one())
    async with running(store, waiting) as (engine, _):
        await engine.accept(asked)
        await engine.drain()

    class Flaky(MemoryJournal):
        """Loses the answer to its first claim; an offer gets its answer after a look for strays."""

        claims = 0
        looked = asyncio.Event()

        async def claim(self, limit):
            claimed = await super().claim(limit)
            self.claims += 1
            if self.claims == 1:
                raise StoreUnavailable()
            if self.claims == 2:
                self.looked.set()
            return claimed

        async def append(self, batch):
            if any(append.accept for append in batch):
                await self.looked.wait()
            await super().append(batch)

    journal = Flaky(store)
    async with running(store, journal=journal) as (engine, _):
        while not journal.claims:
            await asyncio.sleep(0)
        offered = asyncio.create_task(engine.accept(asked))
        await asyncio.sleep(0)
        engine.nudge(asked.execution_id)
        with pytest.raises(Conflict):
            await offered
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_caller_whose_submission_is_fenced_out_is_told_that_nothing_was_accepted():
    """So that it is offered to the next coordinator."""

    class Fenced(MemoryJournal):
        async def append(self, batch):
            raise FencedOut()

        async def owned(self, execution_ids):
            return set()

    store, asked = MemoryStore(), submission(one())
    async with running(store, journal=Fenced(store)) as (engine, _):
        with pytest.raises(StoreUnavailable):
            await engine.accept(asked)
    assert not store.submissions


async def test_cancelled_orphan_is_not_started_again():
    store, asked = MemoryStore(), submission(one())
    async with running(store, waiting) as (engine, _):
        await engine.accept(asked)
        await engine.drain()
    store.commands[1] = Command(id=1, execution_id=asked.execution_id, kind="cancel")
    async with running(store) as (_, workers):
        outcome = await ended(store, asked.execution_id)
        assert outcome.status == "cancelled" and workers.calls == [] and not store.commands


async def test_step_that_is_lost_for_good_continues_along_its_edges():
    store, asked = MemoryStore(), submission(two(on_error="continue"))
    async with running(store, waiting) as (engine, _):
        await engine.accept(asked)
        await engine.drain()
    for lost in (1, 2):
        async with running(store, waiting) as (engine, _):
            await store.until(
                lambda lost=lost: kinds(store, asked.execution_id).count("step.retrying") == lost
            )
            await engine.drain()
    async with running(store) as (_, workers):
        outcome = await ended(store, asked.execution_id)
    assert outcome.final_state["errors"][0]["type"] == "WorkerLost"
    assert [attempt.step for attempt in workers.calls] == ["b"]


async def test_worker_that_is_lost_three_times_ends_its_step():
    store, asked = MemoryStore(), submission(one())

    def reply(attempt):
        raise WorkerLost()

    async with running(store, reply) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.error["type"] == "WorkerLost" and len(workers.calls) == 3


async def test_drain_hands_over_at_once_although_executions_are_busy():
    store, lease = MemoryStore(), FreeLease()
    chain = {
        "nodes": [llm(f"n{number}") for number in range(300)],
        "edges": [{"from": f"n{number}", "to": f"n{number + 1}"} for number in range(299)],
        "sources": [SOURCE],
        "start_node": "n0",
    }
    asked = [submission(chain) for _ in range(4)]
    async with running(store, lease=lease) as (engine, workers):
        for each in asked:
            await engine.accept(each)
        await engine.drain()
        sent = len(workers.calls)
        assert {store.owners[each.execution_id] for each in asked} == {0}
        assert not engine.available
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(workers.calls) == sent


async def test_drained_engine_does_not_enter_again_when_its_last_write_is_refused():
    store, asked = MemoryStore(), submission(one())
    gate = asyncio.Event()

    class Fenced(MemoryJournal):
        async def append(self, batch):
            if any(isinstance(e, ev.StepCompleted) for a in batch for e in a.events):
                await gate.wait()
                self.store.owners[asked.execution_id] = -1
            await super().append(batch)

    async with running(store, journal=Fenced(store)) as (engine, workers):
        await engine.accept(asked)
        while not workers.calls:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        entered = store.epoch
        draining = asyncio.create_task(engine.drain())
        await asyncio.sleep(0)
        gate.set()
        await draining
        assert store.epoch == entered and not engine.available


async def test_watcher_ends_when_the_last_event_is_refused():
    store, asked = MemoryStore(), submission(one())
    go = asyncio.Event()

    class Fenced(MemoryJournal):
        async def append(self, batch):
            if any(isinstance(e, ev.ExecutionCompleted) for a in batch for e in a.events):
                self.store.owners[asked.execution_id] = -1
            await super().append(batch)

    async def reply(attempt):
        await go.wait()
        return answer(attempt)

    async with running(store, reply, journal=Fenced(store)) as (engine, _):
        await engine.accept(asked)
        async with asyncio.timeout(5):
            async for _ in engine.watch(asked.execution_id, 0):
                go.set()
    assert "execution.completed" not in kinds(store, asked.execution_id)


async def test_refused_connection_is_not_tried_again_without_a_pause():
    store = MemoryStore()
    asked = submission(one(retry={"max_attempts": 1, "initial_s": 0.001, "max_s": 0.001}))
    tries = 0

    def reply(attempt):
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ConnectionFailed()
        return answer(attempt)

    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        assert (await ended(store, asked.execution_id)).status == "completed"
    pauses = [e.delay_s for e in store.events[asked.execution_id] if isinstance(e, ev.StepRetrying)]
    assert len(pauses) == 2 and min(pauses) >= 0.1


async def test_coordinator_that_fails_to_start_can_be_closed():
    class Away(MemoryJournal):
        async def enter(self):
            raise StoreUnavailable()

    store = MemoryStore()
    engine = memory_engine(store, ScriptedWorkers(answer), open_nodes(), journal=Away(store))
    with pytest.raises(StoreUnavailable):
        await engine.start()
    await engine.close()
