"""The engine over a journal in memory and scripted workers: what callers and watchers see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agentflow.engine.engine import Engine
from agentflow.engine.stream import Stream, TokenDelta
from agentflow.engine.workers import Delta
from agentflow.errors import (
    Conflict,
    ProviderRejected,
    ProviderUnavailable,
    StoreUnavailable,
)
from agentflow.execution import events as ev
from agentflow.execution.journal import Command, Outcome, Recorded
from agentflow.flow import open_nodes
from agentflow.nodes.base import StepResult
from agentflow.testing import (
    FreeLease,
    MemoryJournal,
    MemoryStore,
    ScriptedWorkers,
    memory_engine,
)
from tests.crash.test_resume_from_every_prefix import DIAMOND, SOURCE, answer, llm, submission


@asynccontextmanager
async def running(
    store: MemoryStore, reply: Callable = answer, **options
) -> AsyncIterator[tuple[Engine, ScriptedWorkers]]:
    workers = ScriptedWorkers(reply)
    engine = memory_engine(store, workers, open_nodes(), **options)
    await engine.start()
    try:
        yield engine, workers
    finally:
        await engine.close()


async def ended(store: MemoryStore, execution_id: str) -> Outcome:
    await store.until(lambda: execution_id in store.outcomes)
    return store.outcomes[execution_id]


def one(**more) -> dict:
    return {"nodes": [llm("a", **more)], "sources": [SOURCE], "start_node": "a"}


def kinds(store: MemoryStore, execution_id: str) -> list[str]:
    return [ev.kind(event) for event in store.events[execution_id]]


async def test_nothing_leaves_before_its_start_is_committed():
    store, asked = MemoryStore(), submission(DIAMOND)
    seen: list[set[str]] = []

    def reply(attempt):
        committed = store.events[asked.execution_id]
        seen.append({e.step for e in committed if isinstance(e, ev.StepStarted)})
        assert attempt.step in seen[-1]
        return answer(attempt)

    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    assert len(seen) == 3


async def test_steps_released_together_leave_in_one_batch():
    store = MemoryStore()
    asked = submission(DIAMOND)
    async with running(store) as (engine, workers):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    assert workers.batches[0] == 2


async def test_fast_branch_goes_on_while_a_slow_sibling_works():
    store, asked = MemoryStore(), submission(DIAMOND)
    slow = asyncio.Event()

    async def reply(attempt):
        if attempt.step == "right":
            await slow.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        await store.until(
            lambda: any(
                isinstance(e, ev.StepCompleted) and e.step == "deep"
                for e in store.events[asked.execution_id]
            )
        )
        slow.set()
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_failed_execution_keeps_its_partial_state_and_names_the_node():
    store, asked = MemoryStore(), submission(DIAMOND)

    def reply(attempt):
        if attempt.step == "deep":
            raise ProviderRejected("The model does not exist")
        return answer(attempt)

    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "failed"
    assert outcome.error == {
        "type": "ProviderRejected",
        "message": "The model does not exist",
        "node_id": "deep",
    }
    assert (
        outcome.final_state["left_text"] and outcome.final_state["errors"][0]["node_id"] == "deep"
    )


async def test_retryable_error_is_tried_again_and_the_result_counts_once():
    store = MemoryStore()
    asked = submission(one(retry={"max_attempts": 3, "initial_s": 0.001}))
    tries: list[str] = []

    def reply(attempt):
        tries.append(attempt.id)
        if len(tries) < 3:
            raise ProviderUnavailable("503")
        return answer(attempt)

    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed" and outcome.tokens_used == 7
    assert [key.rsplit("/", 1)[1] for key in tries] == ["1", "2", "3"]


async def test_cancel_ends_the_execution_and_stops_its_attempts():
    store, asked = MemoryStore(), submission(DIAMOND)
    never = asyncio.Event()

    async def reply(attempt):
        await never.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        store.commands[1] = Command(
            id=1, execution_id=asked.execution_id, kind="cancel", payload={"reason": "enough"}
        )
        engine.nudge(asked.execution_id)
        outcome = await ended(store, asked.execution_id)
        assert outcome.status == "cancelled" and not store.commands
        assert len(workers.cancelled) == 2
        assert engine.active == 0
    assert kinds(store, asked.execution_id)[-3:] == [
        "step.cancelled",
        "step.cancelled",
        "execution.cancelled",
    ]


@pytest.mark.parametrize(
    ("step_s", "execution_s"), [(5.0, 60.0), (60.0, 5.0), (None, 5.0)], ids=str
)
async def test_attempt_travels_with_what_is_left_to_its_step_and_to_its_execution(
    step_s, execution_s
):
    document = {**one(timeout_s=step_s), "settings": {"timeout_s": execution_s}}
    store, asked = MemoryStore(), submission(document)
    async with running(store) as (engine, workers):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
    (attempt,) = workers.calls
    assert 4.0 < attempt.timeout_s <= 5.0


async def test_step_limit_ends_a_hanging_step():
    store, asked = MemoryStore(), submission(one(timeout_s=0.05))
    never = asyncio.Event()

    async def reply(attempt):
        await never.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "failed" and outcome.error["type"] == "StepTimeout"
    assert "'a'" in outcome.error["message"]


async def test_execution_limit_ends_it_as_timed_out():
    store = MemoryStore()
    asked = submission({**one(), "settings": {"timeout_s": 0.05}})
    never = asyncio.Event()

    async def reply(attempt):
        await never.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "timed_out" and outcome.error["type"] == "ExecutionTimedOut"


async def test_watcher_gets_every_event_once_and_deltas_in_between():
    store, asked = MemoryStore(), submission(one())
    go = asyncio.Event()

    async def reply(attempt):
        workers.report(Delta(attempt.id, 0, "he"))
        workers.report(Delta(attempt.id, 2, "llo"))
        await go.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        items = []
        async for batch in engine.watch(asked.execution_id, 0):
            items += batch
            go.set()
    seqs = [item.seq for item in items if isinstance(item, Recorded)]
    assert seqs == list(range(1, len(seqs) + 1))
    assert isinstance(items[-1].event, ev.ExecutionCompleted)


async def test_deltas_reach_a_watcher_live():
    store, asked = MemoryStore(), submission(one())
    watching, go = asyncio.Event(), asyncio.Event()

    async def reply(attempt):
        await watching.wait()
        workers.report(Delta(attempt.id, 0, "he"))
        workers.report(Delta(attempt.id, 2, "llo"))
        await go.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        texts = []
        async for batch in engine.watch(asked.execution_id, 0):
            watching.set()
            texts += [item.text for item in batch if isinstance(item, TokenDelta)]
            if len(texts) == 2:
                go.set()
    assert texts == ["he", "llo"]


async def test_watcher_that_comes_late_hears_a_reply_from_its_beginning():
    store, asked = MemoryStore(), submission(one())
    said, more, go = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def reply(attempt):
        workers.report(Delta(attempt.id, 0, "he"))
        workers.report(Delta(attempt.id, 2, "llo"))
        said.set()
        await more.wait()
        workers.report(Delta(attempt.id, 5, " you"))
        await go.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        await said.wait()
        heard = []
        async for batch in engine.watch(asked.execution_id, 0):
            heard += [(each.offset, each.text) for each in batch if isinstance(each, TokenDelta)]
            if heard:
                more.set()
            if len(heard) == 2:
                go.set()
    assert heard == [(0, "hello"), (5, " you")]


async def test_watcher_that_comes_late_hears_nothing_of_an_attempt_that_failed():
    store = MemoryStore()
    asked = submission(one(retry={"max_attempts": 2, "initial_s": 0.001}))
    again, go = asyncio.Event(), asyncio.Event()

    async def reply(attempt):
        if attempt.attempt == 1:
            workers.report(Delta(attempt.id, 0, "of the first"))
            raise ProviderUnavailable("503")
        workers.report(Delta(attempt.id, 0, "of the second"))
        again.set()
        await go.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        async with asyncio.timeout(10):
            await again.wait()
        heard = []
        async for batch in engine.watch(asked.execution_id, 0):
            heard += [each.text for each in batch if isinstance(each, TokenDelta)]
            if heard:
                go.set()
    assert heard == ["of the second"]


async def test_reply_that_is_too_long_to_be_kept_is_heard_from_where_the_watcher_came():
    store, asked = MemoryStore(), submission(one())
    said, more, go = asyncio.Event(), asyncio.Event(), asyncio.Event()
    long = "x" * (Stream.KEPT + 1)

    async def reply(attempt):
        workers.report(Delta(attempt.id, 0, long))
        said.set()
        await more.wait()
        workers.report(Delta(attempt.id, len(long), "end"))
        await go.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, workers):
        await engine.accept(asked)
        await said.wait()
        heard = []
        async for batch in engine.watch(asked.execution_id, 0):
            more.set()
            heard += [(each.offset, each.text) for each in batch if isinstance(each, TokenDelta)]
            if heard:
                go.set()
    assert heard == [(len(long), "end")]


async def test_watching_an_ended_execution_replays_and_ends():
    store, asked = MemoryStore(), submission(one())
    async with running(store) as (engine, _):
        await engine.accept(asked)
        await ended(store, asked.execution_id)
        async with asyncio.timeout(5):
            seen = [item async for batch in engine.watch(asked.execution_id, 2) for item in batch]
    assert [item.seq for item in seen] == [3, 4, 5]


async def test_same_id_is_not_accepted_twice():
    store, asked = MemoryStore(), submission(one())
    async with running(store) as (engine, _):
        await engine.accept(asked)
        with pytest.raises(Conflict):
            await engine.accept(asked)


async def test_drained_engine_accepts_nothing_and_gives_its_executions_up():
    store, asked = MemoryStore(), submission(one())
    never = asyncio.Event()

    async def reply(attempt):
        await never.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, _):
        await engine.accept(asked)
        await engine.drain()
        with pytest.raises(StoreUnavailable):
            await engine.accept(submission(one()))
        assert store.owners[asked.execution_id] == 0
    async with running(store) as (_, workers):
        assert (await ended(store, asked.execution_id)).status == "completed"


async def test_engine_keeps_what_is_still_its_own_after_its_lease_lapsed():
    store, asked, lease = MemoryStore(), submission(one()), FreeLease()
    go = asyncio.Event()

    async def reply(attempt):
        await go.wait()
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt), lease=lease) as (engine, workers):
        await engine.accept(asked)
        before = store.epoch
        lease.lose()
        async with asyncio.timeout(5):
            while store.epoch == before or not engine.available:
                await asyncio.sleep(0)
        go.set()
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed" and len(workers.calls) == 1


async def test_node_code_that_breaks_fails_its_step_and_nothing_else():
    store, asked = MemoryStore(), submission(one())

    def reply(attempt):
        return StepResult(result={"text": "x"}, delta={"a_text": "x"})

    class Broken:
        def run_inline(self, context):
            raise ZeroDivisionError("inside")

    nodes = open_nodes()
    bad = submission(
        {
            "nodes": [{"id": "in", "type": "input"}],
            "start_node": "in",
        }
    )
    workers = ScriptedWorkers(reply)
    from agentflow.nodes.base import NodeSet

    engine = memory_engine(
        store, workers, NodeSet({"input": Broken(), "llm": nodes.of_type("llm")})
    )
    await engine.start()
    try:
        await engine.accept(bad)
        await engine.accept(asked)
        broken = await ended(store, bad.execution_id)
        assert (
            broken.error["type"] == "NodeFailed" and "ZeroDivisionError" in broken.error["message"]
        )
        assert (await ended(store, asked.execution_id)).status == "completed"
    finally:
        await engine.close()


async def test_condition_that_fails_is_an_error_and_never_false():
    document = {
        "nodes": [llm("a"), llm("b")],
        "edges": [{"from": "a", "to": "b", "condition": "int(a_text) == 1"}],
        "sources": [SOURCE],
        "start_node": "a",
    }
    store, asked = MemoryStore(), submission(document)
    async with running(store) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "failed" and outcome.error["type"] == "ConditionError"


async def test_output_is_shaped_by_the_author():
    document = {**one(), "output": {"shout": "${outputs.a.text}", "n": "${tokens_used}"}}
    store, asked = MemoryStore(), submission(document)
    async with running(store) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.output["n"] == 7 and outcome.output["shout"].startswith("a<")


async def test_acceptance_that_the_database_leaves_open_is_refused_and_never_begins():
    store, asked = MemoryStore(), submission(one())
    back = asyncio.Event()

    class Away(MemoryJournal):
        async def append(self, batch):
            await back.wait()
            await super().append(batch)

    workers = ScriptedWorkers(answer)
    engine = memory_engine(store, workers, open_nodes(), journal=Away(store), accept_s=0.05)
    await engine.start()
    try:
        with pytest.raises(StoreUnavailable):
            await engine.accept(asked)
        back.set()
        outcome = await ended(store, asked.execution_id)
    finally:
        await engine.close()
    assert outcome.status == "cancelled" and workers.calls == []
