"""Snapshots of long executions: exact folds of what is durable, and a shortcut for the next owner."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from agentflow.engine.snapshots import format_of
from agentflow.errors import StoreUnavailable
from agentflow.execution import events as ev
from agentflow.execution.fold import fold
from agentflow.execution.journal import Snapshot
from agentflow.execution.snapshot import decoded, encoded, opened, sealed
from agentflow.execution.state import ExecutionState
from agentflow.flow import open_nodes
from agentflow.nodes.base import StepResult
from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan
from agentflow.testing import MemoryJournal, MemoryStore, ScriptedWorkers, memory_engine
from tests.crash.test_resume_from_every_prefix import submission
from tests.engine.test_engine import ended, running
from tests.unit.execution.machine import facts

EVERY = 20


def loop(iterations: int, **settings) -> dict:
    """Two model calls, over and over; the first says in which iteration it is."""
    nodes = [
        {
            "id": name,
            "type": "llm",
            "metadata": {"source": "m", "prompt": "{text}", "output_key": key},
        }
        for name, key in (("a", "text"), ("b", "other"))
    ]
    over = f"text == 'answer {iterations}'"
    return {
        "nodes": [*nodes, {"id": "x", "type": "aggregator"}],
        "edges": [
            {"from": "a", "to": "b"},
            {"from": "b", "to": "a", "condition": f"!({over})"},
            {"from": "b", "to": "x", "condition": over},
        ],
        "sources": [
            {"id": "m", "kind": "llm", "config": {"provider": "local", "model": "smollm2"}}
        ],
        "start_node": "a",
        "settings": {"max_iterations": iterations + 1, **settings},
    }


def answer(attempt):
    text = f"answer {attempt.step.partition('@')[2]}"
    return StepResult(result={"text": text}, delta={attempt.node.output_key: text})


class Watched(MemoryJournal):
    """Notes what is kept, and from where on it is read."""

    def __init__(self, store):
        super().__init__(store)
        self.kept: list[Snapshot] = []
        self.read_after: list[int] = []

    async def keep_snapshot(self, snapshot):
        self.kept.append(snapshot)
        return await super().keep_snapshot(snapshot)

    async def read(self, execution_id, after=0, limit=None):
        self.read_after.append(after)
        return await super().read(execution_id, after, limit)


def state_of(plan: Plan, snapshot: Snapshot) -> ExecutionState:
    *_, state = decoded(plan, snapshot.execution_id, opened(snapshot.content))
    return state


async def stopped_midway(store, asked, gate_at: int, **options) -> Watched:
    """An owner that has made a snapshot and left in the middle: its steps from ``gate_at`` on never end."""
    journal, made = Watched(store), asyncio.Event()

    async def reply(attempt):
        if int(attempt.step.partition("@")[2]) >= gate_at:
            await asyncio.Event().wait()
        return answer(attempt)

    class Noted(Watched):
        async def keep_snapshot(self, snapshot):
            await super().keep_snapshot(snapshot)
            made.set()
            return True

    journal = Noted(store)
    workers = ScriptedWorkers(reply)
    engine = memory_engine(
        store, workers, open_nodes(), journal=journal, snapshot_every=EVERY, **options
    )
    await engine.start()
    await engine.accept(asked)
    async with asyncio.timeout(20):
        await made.wait()
    await engine.close()
    return journal


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
async def test_every_snapshot_is_the_fold_of_what_is_durable(durability):
    store, asked = MemoryStore(), submission(loop(40, durability=durability))
    journal = await stopped_midway(store, asked, 30)
    plan = compile_plan(asked.spec)
    assert journal.kept
    for snapshot in journal.kept:
        events = store.events[asked.execution_id][: snapshot.seq]
        folded = fold(ExecutionState(plan, asked.execution_id), events)
        assert snapshot.format == format_of(plan)
        assert facts(state_of(plan, snapshot)) == facts(folded)
        last = {event.step: event for event in events if isinstance(event, ev.TERMINAL_STEP)}
        begun = {event.step for event in events if isinstance(event, ev.StepStarted)}
        assert {step for step, _ in snapshot.running} == begun - last.keys()


async def test_next_owner_reads_only_what_is_behind_the_snapshot():
    store, asked = MemoryStore(), submission(loop(40))
    await stopped_midway(store, asked, 30)
    snapshot = store.snapshots[asked.execution_id]
    before = completed(store, asked)
    heir = Watched(store)
    async with running(store, answer, journal=heir, snapshot_every=10**6) as (_, workers):
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed" and outcome.final_state["text"] == "answer 40"
    assert heir.read_after[0] == snapshot.seq >= EVERY
    done = completed(store, asked)
    assert len(done) == len(set(done)) == 81
    assert not set(before) & {call.step for call in workers.calls}


def completed(store, asked) -> list[str]:
    events = store.events[asked.execution_id]
    return [event.step for event in events if isinstance(event, ev.StepCompleted)]


@pytest.mark.parametrize("fault", ["torn", "foreign", "ahead", "misnumbered"])
async def test_snapshot_that_cannot_be_used_is_ignored(fault):
    store, asked = MemoryStore(), submission(loop(40))
    await stopped_midway(store, asked, 30)
    found = store.snapshots[asked.execution_id]
    broken = {
        "torn": {"content": found.content[:-9]},
        "foreign": {"format": "of another version"},
        "ahead": {"seq": 10_000},
        "misnumbered": {"seq": found.seq - 1},
    }[fault]
    store.snapshots[asked.execution_id] = msgspec.structs.replace(found, **broken)
    heir = Watched(store)
    async with running(store, answer, journal=heir, snapshot_every=10**6):
        outcome = await ended(store, asked.execution_id)
    assert heir.read_after[0] == 0
    assert outcome.status == "completed" and outcome.final_state["text"] == "answer 40"


async def test_no_snapshot_is_made_of_a_short_execution():
    store, asked = MemoryStore(), submission(loop(3))
    async with running(store, answer):
        pass
    async with running(store, answer) as (engine, _):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    assert store.snapshots == {}


def test_two_plans_have_two_formats():
    one, other = (compile_plan(submission(loop(n)).spec) for n in (2, 3))
    assert format_of(one) != format_of(other)
    state = ExecutionState(one, "exec_1")
    assert sealed(list(encoded(state))) == sealed(list(encoded(ExecutionState(one, "exec_1"))))


async def test_database_that_is_away_while_the_snapshot_is_read_is_waited_out():
    store, asked = MemoryStore(), submission(loop(40))
    await stopped_midway(store, asked, 30)

    class Away(Watched):
        away = 1

        async def snapshot(self, execution_id, format):
            if self.away:
                self.away -= 1
                raise StoreUnavailable()
            return await super().snapshot(execution_id, format)

    heir = Away(store)
    async with running(store, answer, journal=heir, snapshot_every=10**6):
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed"
    assert heir.read_after[0] == store.snapshots[asked.execution_id].seq
