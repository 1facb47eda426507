"""What may happen before a commit, in each durability; and steps with effects once, on every path."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from agentflow.engine.durability import BACKLOG
from agentflow.engine.outbox import Outbox
from agentflow.engine.owned import Owned
from agentflow.engine.plans import Plans
from agentflow.engine.stream import TokenDelta
from agentflow.engine.workers import Attempt, Delta, Failed, describe
from agentflow.errors import (
    ConnectionFailed,
    FencedOut,
    ProviderRateLimited,
    ProviderUnavailable,
    StoreError,
    StoreUnavailable,
    WorkerLost,
)
from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.events import ModelCall, Worker
from agentflow.execution.fold import fold
from agentflow.execution.journal import Command, Recorded, Submission
from agentflow.execution.state import ExecutionState
from agentflow.flow import open_nodes
from agentflow.plan.compile import compile_plan
from agentflow.spec.check import check
from agentflow.testing import (
    FreeLease,
    MemoryJournal,
    MemoryStore,
    ScriptedWorkers,
    memory_engine,
)
from tests.crash.test_resume_from_every_prefix import DIAMOND, SOURCE, answer, llm, submission
from tests.engine.test_engine import ended, kinds, running

LOST = {
    "type": "ExecutionLost",
    "message": "Its owner stopped, and with settings.durability 'none' nothing of it was kept",
    "node_id": None,
}


def chain(*nodes: dict, durability: str = "strict") -> dict:
    ids = [node["id"] for node in nodes]
    return {
        "nodes": list(nodes),
        "edges": [{"from": a, "to": b} for a, b in pairwise(ids)],
        "sources": [SOURCE],
        "start_node": ids[0],
        "settings": {"durability": durability},
    }


def three(durability: str, **more) -> dict:
    """Three steps in a row; ``more`` holds for the one in the middle."""
    return chain(llm("a"), llm("b", **more), llm("c"), durability=durability)


class Gated(MemoryJournal):
    """Commits wait until ``gate`` is set, but for acceptance. ``waits`` is set when one does."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.gate, self.waits = asyncio.Event(), asyncio.Event()

    async def append(self, batch):
        if not any(append.accept for append in batch):
            self.waits.set()
            await self.gate.wait()
        await super().append(batch)


class Fenced(MemoryJournal):
    """Refuses with ``error`` what holds the end of step b, once; then there is nothing to claim."""

    error: Exception = FencedOut()
    refused = False

    async def append(self, batch):
        ends = (e for append in batch for e in append.events if isinstance(e, ev.StepCompleted))
        if not self.refused and any(end.step == "b" for end in ends):
            for _ in range(7):  # what may run ahead has left by then
                await asyncio.sleep(0)
            if len(batch) == 1:
                self.refused = True
                if isinstance(self.error, FencedOut):
                    self.store.owners[batch[0].execution_id] = -1
            raise self.error
        await super().append(batch)

    async def claim(self, limit):
        return [] if self.refused else await super().claim(limit)


async def settled() -> None:
    """Let everything happen that waits for nothing."""
    for _ in range(50):
        await asyncio.sleep(0)


async def called(workers, count: int) -> list[str]:
    async with asyncio.timeout(10):
        while len(workers.calls) < count:
            await asyncio.sleep(0)
    return [attempt.step for attempt in workers.calls]


async def never(attempt):
    await asyncio.Event().wait()


async def test_relaxed_step_leaves_before_what_released_it_is_committed():
    store, asked = MemoryStore(), submission(three("relaxed"))
    journal = Gated(store)
    async with running(store, journal=journal) as (engine, workers):
        await engine.accept(asked)
        assert await called(workers, 3) == ["a", "b", "c"]
        assert len(store.events[asked.execution_id]) == 3  # created, started, and the start of a
        journal.gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"
    assert kinds(store, asked.execution_id)[2:] == ["step.started", "step.completed"] * 3 + [
        "execution.completed"
    ]


async def test_strict_step_waits_for_the_commit_of_what_released_it():
    store, asked = MemoryStore(), submission(three("strict"))
    journal = Gated(store)
    async with running(store, journal=journal) as (engine, workers):
        await engine.accept(asked)
        await journal.waits.wait()
        await settled()
        assert await called(workers, 1) == ["a"]
        journal.gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
async def test_step_with_effects_once_leaves_after_its_intent_and_releases_after_its_result(
    durability,
):
    store, asked = MemoryStore(), submission(three(durability, effects="once"))

    def reply(attempt):
        committed = store.events[asked.execution_id]
        if attempt.step == "b":
            assert any(isinstance(e, ev.StepStarted) and e.step == "b" for e in committed)
            assert any(isinstance(e, ev.StepCompleted) and e.step == "a" for e in committed)
        if attempt.step == "c":
            assert any(isinstance(e, ev.StepCompleted) and e.step == "b" for e in committed)
        return answer(attempt)

    journal = Gated(store)
    async with running(store, reply, journal=journal) as (engine, workers):
        await engine.accept(asked)
        await journal.waits.wait()
        await settled()
        assert await called(workers, 1) == ["a"]
        journal.gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"
        assert await called(workers, 3) == ["a", "b", "c"]


async def test_relaxed_step_waits_for_the_commit_of_a_result_with_effects_once():
    store, asked = MemoryStore(), submission(three("relaxed", effects="once"))
    waits, gate = asyncio.Event(), asyncio.Event()

    class Holding(MemoryJournal):
        async def append(self, batch):
            ends = [e for a in batch for e in a.events if isinstance(e, ev.StepCompleted)]
            if any(end.step == "b" for end in ends):
                waits.set()
                await gate.wait()
            await super().append(batch)

    async with running(store, journal=Holding(store)) as (engine, workers):
        await engine.accept(asked)
        await waits.wait()
        await settled()
        assert await called(workers, 2) == ["a", "b"]
        gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_relaxed_sibling_of_a_step_with_effects_once_does_not_wait_for_its_intent():
    document = {
        "nodes": [llm("a"), llm("pay", effects="once"), llm("b")],
        "edges": [{"from": "a", "to": ["pay", "b"]}],
        "sources": [SOURCE],
        "start_node": "a",
        "settings": {"durability": "relaxed"},
    }
    store, asked = MemoryStore(), submission(document)
    journal = Gated(store)
    async with running(store, journal=journal) as (engine, workers):
        await engine.accept(asked)
        assert await called(workers, 2) == ["a", "b"]
        journal.gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"
        assert sorted(await called(workers, 3)) == ["a", "b", "pay"]


@pytest.mark.parametrize("durability", ["relaxed", "none"])
async def test_nothing_leaves_before_the_acceptance_is_committed(durability):
    store, asked = MemoryStore(), submission(three(durability))
    accepting, go = asyncio.Event(), asyncio.Event()

    class Slow(MemoryJournal):
        async def append(self, batch):
            accepting.set()
            await go.wait()
            await super().append(batch)

    async with running(store, journal=Slow(store)) as (engine, workers):
        waiting = asyncio.create_task(engine.accept(asked))
        await accepting.wait()
        await settled()
        assert workers.calls == []
        go.set()
        await waiting
        assert (await ended(store, asked.execution_id)).status == "completed"


@pytest.mark.parametrize("durability", ["relaxed", "none"])
async def test_caller_hears_of_the_end_after_it_is_durable(durability):
    store, asked = MemoryStore(), submission(three(durability))
    async with running(store) as (engine, _):
        await engine.accept(asked)
        seen = []
        async for items in engine.watch(asked.execution_id, 0):
            recorded = [item for item in items if isinstance(item, Recorded)]
            committed = store.events[asked.execution_id]
            assert all(committed[item.seq - 1] == item.event for item in recorded)
            seen += [item.seq for item in recorded]
        assert asked.execution_id in store.outcomes
    assert seen == list(range(1, len(store.events[asked.execution_id]) + 1))


async def test_relaxed_journal_is_at_every_commit_a_prefix_that_folds_to_a_state_of_its_own():
    store, asked = MemoryStore(), submission({**DIAMOND, "settings": {"durability": "relaxed"}})
    prefixes: list[list[ev.Event]] = []

    class Lagging(MemoryJournal):
        async def append(self, batch):
            for _ in range(7):
                await asyncio.sleep(0)
            await super().append(batch)
            prefixes.append(list(self.store.events[asked.execution_id]))

    async with running(store, journal=Lagging(store)) as (engine, _):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    plan = compile_plan(asked.spec)
    for prefix in prefixes:
        assert prefix == store.events[asked.execution_id][: len(prefix)]
        state = fold(ExecutionState(plan, asked.execution_id), prefix)
        begun = {event.step for event in prefix if isinstance(event, ev.StepStarted)}
        assert begun <= set(state.steps)
    assert len(prefixes) > 2


async def test_relaxed_execution_is_dropped_when_its_append_is_refused_and_another_owner_goes_on():
    store, asked = MemoryStore(), submission(three("relaxed"))

    async def reply(attempt):
        return await never(attempt) if attempt.step == "c" else answer(attempt)

    first = Fenced(store)
    async with running(store, lambda a: reply(a), journal=first) as (engine, workers):
        await engine.accept(asked)
        assert await called(workers, 3) == ["a", "b", "c"]
        async with asyncio.timeout(10):
            while engine.active:
                await asyncio.sleep(0)
        committed = list(store.events[asked.execution_id])
    assert [ev.kind(event) for event in committed][-1] == "step.started"
    async with running(store) as (_, second):
        assert (await ended(store, asked.execution_id)).status == "completed"
        assert [attempt.step for attempt in second.calls] == ["b", "c"]


async def test_attempt_that_the_journal_does_not_name_is_not_left_to_the_next_owner():
    store, asked = MemoryStore(), submission(three("relaxed"))

    async def reply(attempt):
        return await never(attempt) if attempt.step == "c" else answer(attempt)

    workers = ScriptedWorkers(lambda attempt: reply(attempt), kept=True)
    engine = memory_engine(store, workers, open_nodes(), journal=Fenced(store))
    await engine.start()
    try:
        await engine.accept(asked)
        await called(workers, 3)
        async with asyncio.timeout(10):
            while engine.active:
                await asyncio.sleep(0)
        assert [key.split("/")[1] for key in workers.cancelled] == ["c"]
    finally:
        await engine.close()


async def test_attempt_that_is_abandoned_before_it_left_is_reported_and_never_sent():
    store, asked = MemoryStore(), submission(three("strict"))
    async with running(store) as (engine, workers):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    first, second = workers.calls[:2]
    told: list[Failed] = []
    sent = ScriptedWorkers(answer)
    outbox = Outbox(sent, told.extend, lambda: True)
    outbox.put(first, about_to_send(store, asked, first))
    outbox.put(second, about_to_send(store, asked, second))
    outbox.abandon([first.id])
    await settled()
    assert [attempt.id for attempt in sent.calls] == [second.id] and sent.batches == [1]
    assert [(report.id, report.error.type) for report in told] == [(first.id, "Cancelled")]


async def test_attempt_whose_step_ended_while_the_lease_was_away_is_reported_and_never_sent():
    store, asked = MemoryStore(), submission(three("strict"))
    async with running(store) as (engine, workers):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    first, second = workers.calls[:2]
    over, going_on = (about_to_send(store, asked, attempt) for attempt in (first, second))
    told: list[Failed] = []
    sent, lease = ScriptedWorkers(answer), FreeLease()
    outbox = Outbox(sent, told.extend, lambda: lease.held)
    outbox.put(first, over)
    outbox.put(second, going_on)
    await settled()
    assert sent.calls == []
    decide(over.state, hp.ExecutionLimit(at=over.state.clock_at + 1))
    lease.start(2, lambda: None)
    outbox.flush()
    await settled()
    assert [attempt.id for attempt in sent.calls] == [second.id]
    assert [(report.id, report.error.type) for report in told] == [(first.id, "Cancelled")]


def about_to_send(store: MemoryStore, asked: Submission, attempt: Attempt) -> Owned:
    """The execution as its owner keeps it when the attempt's step has just been started."""
    events = store.events[asked.execution_id]
    started = next(
        place
        for place, event in enumerate(events, 1)
        if isinstance(event, ev.StepStarted) and event.step == attempt.step
    )
    plan = Plans().of(asked.content_hash, asked.spec)
    state = fold(ExecutionState(plan, asked.execution_id), events[:started])
    return Owned(state, asked.tenant)


async def test_relaxed_step_waits_for_its_commit_after_a_take_over():
    """So that a step which kills its coordinator leaves a trace for the count of strikes."""
    store, asked = MemoryStore(), submission(three("relaxed"))
    async with running(store, never) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 1)
    journal = Gated(store)
    async with running(store, journal=journal) as (_, workers):
        await journal.waits.wait()
        await settled()
        assert workers.calls == []
        journal.gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_relaxed_execution_fails_where_its_journal_ends_when_it_cannot_hold_its_events():
    class Picky(Fenced):
        error = StoreError("The database refused the write")

    store, asked = MemoryStore(), submission(three("relaxed"))
    async with running(store, journal=Picky(store)) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "failed" and outcome.error["type"] == "StoreError"
    done = [e.step for e in store.events[asked.execution_id] if isinstance(e, ev.StepCompleted)]
    assert done == ["a"]


async def test_no_row_is_sent_behind_a_refused_one():
    sent: list[int] = []
    gate = asyncio.Event()

    class Sending(Fenced):
        error = StoreError("The database refused the write")

        async def append(self, batch):
            if not any(append.accept for append in batch):
                await gate.wait()
            sent.extend(append.first_seq for append in batch if len(batch) == 1)
            await super().append(batch)

    store, asked = MemoryStore(), submission(three("relaxed"))
    async with running(store, journal=Sending(store)) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 3)
        await settled()
        gate.set()
        await ended(store, asked.execution_id)
    # The end of a; the refused end of b; in its place the end of the execution. The end of c is not.
    assert sent[1:] == [4, 6, 6]


@pytest.mark.parametrize("durability", ["strict", "relaxed", "none"])
async def test_nothing_new_leaves_while_the_database_is_away(durability):
    store = MemoryStore()
    asked, other = submission(three(durability)), submission(three("strict"))
    away, back, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Away(MemoryJournal):
        async def append(self, batch):
            if not back.is_set() and not any(append.accept for append in batch):
                away.set()
                raise StoreUnavailable()
            await super().append(batch)

    async def reply(attempt):
        if attempt.execution_id == asked.execution_id and attempt.step == "a":
            await go.wait()
        return answer(attempt)

    async with running(store, lambda a: reply(a), journal=Away(store)) as (engine, workers):
        await engine.accept(asked)
        await engine.accept(other)
        await away.wait()
        await settled()
        go.set()
        await settled()
        assert sorted(await called(workers, 2)) == ["a", "a"]
        back.set()
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_relaxed_step_waits_when_too_many_events_are_unwritten():
    document = chain(*[llm(f"n{number}") for number in range(700)], durability="relaxed")
    store, asked = MemoryStore(), submission(document)
    journal = Gated(store)
    async with running(store, journal=journal) as (engine, workers):
        await engine.accept(asked)
        await called(workers, BACKLOG // 2)
        await settled()
        assert len(workers.calls) <= BACKLOG // 2 + 1
        journal.gate.set()
        assert (await ended(store, asked.execution_id)).status == "completed"
        assert len(workers.calls) == 700


async def test_relaxed_attempt_that_lost_its_race_before_it_left_is_never_sent():
    document = {
        "nodes": [
            llm("a"),
            llm("b"),
            llm("slow"),
            {"id": "join", "type": "aggregator", "join": "first_success"},
        ],
        "edges": [
            {"from": "a", "to": "slow"},
            {"from": "slow", "to": "join"},
            {"from": "b", "to": "join"},
        ],
        "sources": [SOURCE],
        "start_node": "start",
        "settings": {"durability": "relaxed"},
    }
    document["nodes"].insert(0, {"id": "start", "type": "input"})
    document["edges"].insert(0, {"from": "start", "to": ["a", "b"]})
    document["nodes"][-1]["metadata"] = {"source_keys": ["outputs.b"]}
    store, asked = MemoryStore(), submission(document)
    together = asyncio.Event()

    async def reply(attempt):
        await together.wait()
        return answer(attempt)

    async with running(store, lambda a: reply(a)) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 2)
        together.set()
        outcome = await ended(store, asked.execution_id)
        assert outcome.status == "completed"
        assert set(await called(workers, 2)) <= {"a", "b", "slow"}
        async with asyncio.timeout(5):
            while engine.active:
                await asyncio.sleep(0)


async def test_execution_without_durability_writes_its_acceptance_and_its_outcome_alone():
    store, asked = MemoryStore(), submission({**DIAMOND, "settings": {"durability": "none"}})
    async with running(store) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert kinds(store, asked.execution_id) == [
        "execution.created",
        "execution.started",
        "execution.completed",
    ]
    assert outcome.status == "completed" and len(workers.calls) == 3
    assert [step["step"] for step in outcome.steps] == ["ask", "left", "right", "deep", "join"]
    assert outcome.tokens_used == 21 and store.commits == 2


async def test_watcher_of_an_execution_without_durability_gets_deltas_and_durable_events():
    store, asked = MemoryStore(), submission(chain(llm("a"), durability="none"))
    watching, go = asyncio.Event(), asyncio.Event()

    async def reply(attempt):
        await watching.wait()
        workers.report(Delta(attempt.id, 0, "hello"))
        await go.wait()
        return answer(attempt)

    async with running(store, lambda a: reply(a)) as (engine, workers):
        await engine.accept(asked)
        items = []
        async for batch in engine.watch(asked.execution_id, 0):
            items += batch
            watching.set()
            if any(isinstance(item, TokenDelta) for item in batch):
                go.set()
    assert [type(item) for item in items] == [Recorded, Recorded, TokenDelta, Recorded]


@pytest.mark.parametrize("way", ["drain", "close"])
async def test_execution_without_durability_is_lost_with_its_owner(way):
    store, asked = MemoryStore(), submission(three("none"))
    async with running(store, never) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 1)
        if way == "drain":
            await engine.drain()
    async with running(store) as (_, second):
        outcome = await ended(store, asked.execution_id)
        assert second.calls == []
    assert outcome.status == "failed" and outcome.error == LOST
    assert kinds(store, asked.execution_id)[-1] == "execution.failed"


async def test_execution_without_durability_goes_on_when_its_owner_enters_again():
    store, asked, lease = MemoryStore(), submission(three("none")), FreeLease()
    go = asyncio.Event()

    async def reply(attempt):
        await go.wait()
        return answer(attempt)

    async with running(store, lambda a: reply(a), lease=lease) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 1)
        before = store.epoch
        lease.lose()
        go.set()
        outcome = await ended(store, asked.execution_id)
        assert store.epoch > before
    assert outcome.status == "completed" and len(workers.calls) == 3


async def test_execution_without_durability_is_cancelled_as_any_other():
    store, asked = MemoryStore(), submission(three("none"))
    async with running(store, never) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 1)
        store.commands[1] = Command(id=1, execution_id=asked.execution_id, kind="cancel")
        engine.nudge(asked.execution_id)
        outcome = await ended(store, asked.execution_id)
        assert len(workers.cancelled) == 1
    assert outcome.status == "cancelled" and not store.commands
    assert kinds(store, asked.execution_id)[-1] == "execution.cancelled"


async def test_execution_without_durability_fails_with_the_error_of_its_step():
    store, asked = MemoryStore(), submission(three("none"))

    def reply(attempt):
        if attempt.step == "b":
            raise ProviderRateLimited("Far too many", after=10_000)
        return answer(attempt)

    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.error["type"] == "ProviderRateLimited" and outcome.error["node_id"] == "b"


@pytest.mark.parametrize(
    "node",
    [
        llm("b", effects="once"),
        {"id": "b", "type": "human", "metadata": {"prompt": "?"}},
        {"id": "b", "type": "wait", "metadata": {"seconds": 5}},
    ],
    ids=["once", "human", "wait"],
)
def test_durability_none_is_refused_with_what_must_last(node):
    problems = check(chain(llm("a"), node, durability="none")).errors
    assert [problem.code for problem in problems] == ["E003"]


ONCE = ["strict", "relaxed"]


@pytest.mark.parametrize("durability", ONCE)
@pytest.mark.parametrize("way", ["drain", "close"])
async def test_once_step_that_was_under_way_ends_as_unknown_under_the_next_owner(way, durability):
    store = MemoryStore()
    asked = submission(three(durability, effects="once", on_error="continue"))

    async def reply(attempt):
        return await never(attempt) if attempt.step == "b" else answer(attempt)

    async with running(store, lambda a: reply(a)) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 2)
        if way == "drain":
            await engine.drain()
    async with running(store) as (_, second):
        outcome = await ended(store, asked.execution_id)
        assert [attempt.step for attempt in second.calls] == ["c"]
    assert outcome.status == "completed"
    assert [e["type"] for e in outcome.final_state["errors"]] == ["UnknownOutcome"]


@pytest.mark.parametrize("durability", ONCE)
async def test_once_step_whose_worker_died_ends_as_unknown(durability):
    store, asked = MemoryStore(), submission(three(durability, effects="once"))

    def reply(attempt):
        if attempt.step == "b":
            raise WorkerLost()
        return answer(attempt)

    async with running(store, reply) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
        assert await called(workers, 2) == ["a", "b"]
    assert outcome.error["type"] == "UnknownOutcome" and outcome.error["node_id"] == "b"


@pytest.mark.parametrize("durability", ONCE)
@pytest.mark.parametrize("error", [ConnectionFailed, ProviderRateLimited])
async def test_once_step_is_tried_again_where_nothing_happened(error, durability):
    retry = {"max_attempts": 1, "initial_s": 0.001, "max_s": 0.001}
    store, asked = MemoryStore(), submission(three(durability, effects="once", retry=retry))
    tries = []

    def reply(attempt):
        if attempt.step == "b":
            starts = [e for e in store.events[asked.execution_id] if isinstance(e, ev.StepStarted)]
            assert (starts[-1].step, starts[-1].attempt) == ("b", attempt.attempt)
            tries.append(attempt.attempt)
            if len(tries) < 3:
                raise error()
        return answer(attempt)

    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        assert (await ended(store, asked.execution_id)).status == "completed"
    assert tries == [1, 2, 3]


async def test_once_step_is_not_tried_again_where_a_call_was_answered_before_another_was_refused():
    store, asked = MemoryStore(), submission(three("strict", effects="once"))

    async def reply(attempt):
        if attempt.step == "b":
            error = describe(ConnectionFailed())
            workers.report(Failed(attempt.id, error, (ModelCall("m", "local", "x"),), Worker(1)))
        return answer(attempt)

    async with running(store, lambda a: reply(a)) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
        assert await called(workers, 2) == ["a", "b"]
    assert outcome.error["type"] == "ConnectionFailed"


async def test_once_step_is_not_tried_again_after_an_error_that_may_hide_an_effect():
    retry = {"max_attempts": 5, "initial_s": 0.001}
    store, asked = MemoryStore(), submission(three("strict", effects="once", retry=retry))

    def reply(attempt):
        if attempt.step == "b":
            raise ProviderUnavailable("503")
        return answer(attempt)

    async with running(store, reply) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
        assert await called(workers, 2) == ["a", "b"]
    assert outcome.error["type"] == "ProviderUnavailable"


@pytest.mark.parametrize("durability", ONCE)
async def test_once_step_that_passes_its_limit_is_not_called_again(durability):
    document = three(durability, effects="once", timeout_s=0.05, on_error="continue")
    store, asked = MemoryStore(), submission(document)

    async def reply(attempt):
        return await never(attempt) if attempt.step == "b" else answer(attempt)

    async with running(store, lambda a: reply(a)) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
        assert await called(workers, 3) == ["a", "b", "c"]
    assert outcome.final_state["errors"][0]["type"] == "StepTimeout"


@pytest.mark.parametrize("durability", ONCE)
async def test_once_step_is_not_called_again_after_a_cancellation(durability):
    store, asked = MemoryStore(), submission(three(durability, effects="once"))

    async def reply(attempt):
        return await never(attempt) if attempt.step == "b" else answer(attempt)

    async with running(store, lambda a: reply(a)) as (engine, workers):
        await engine.accept(asked)
        await called(workers, 2)
        store.commands[1] = Command(id=1, execution_id=asked.execution_id, kind="cancel")
        engine.nudge(asked.execution_id)
        assert (await ended(store, asked.execution_id)).status == "cancelled"
    async with running(store) as (_, second):
        await settled()
        assert second.calls == []
