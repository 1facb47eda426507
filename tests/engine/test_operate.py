"""An operator's retry and release, obeyed by whoever claims the execution."""

from __future__ import annotations

import asyncio

import pytest

from agentflow.engine.engine import Engine
from agentflow.errors import ProviderRejected
from agentflow.execution import events as ev
from agentflow.execution.journal import Command
from agentflow.testing import MemoryStore
from tests.crash.test_resume_from_every_prefix import DIAMOND, SOURCE, answer, llm, submission
from tests.engine.test_engine import ended, kinds, one, running


def ask(store: MemoryStore, execution_id: str, kind: str, number: int = 1) -> None:
    """What the store does in one transaction: open the row, and keep the command."""
    store.outcomes.pop(execution_id, None)
    store.owners[execution_id] = 0
    store.commands[number] = Command(id=number, execution_id=execution_id, kind=kind)


class Mendable:
    """A model that refuses one step until it is mended."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.mended = False

    def __call__(self, attempt):
        if attempt.step == self.step and not self.mended:
            raise ProviderRejected("no")
        return answer(attempt)


async def failed(engine: Engine, store: MemoryStore, spec: dict) -> str:
    asked = submission(spec)
    await engine.accept(asked)
    assert (await ended(store, asked.execution_id)).status == "failed"
    return asked.execution_id


async def test_retry_goes_on_from_what_failed_and_calls_nothing_again():
    store, model = MemoryStore(), Mendable("deep")
    async with running(store, model) as (engine, workers):
        key = await failed(engine, store, DIAMOND)
        model.mended = True
        ask(store, key, "retry")
        engine.nudge(key)
        outcome = await ended(store, key)
    assert outcome.status == "completed" and outcome.error is None
    calls = [attempt.step for attempt in workers.calls]
    assert calls.count("left") == 1 and calls.count("deep") == 2
    assert store.commands == {}
    resumed = kinds(store, key).index("execution.resumed")
    assert kinds(store, key)[resumed - 1] == "execution.failed"
    generations = {e.step: e.generation for e in store.events[key] if isinstance(e, ev.StepStarted)}
    assert generations["deep"] == 1 and generations["left"] == 0


async def test_retry_that_fails_again_ends_again_and_may_be_retried_again():
    store, model = MemoryStore(), Mendable("a")
    async with running(store, model) as (engine, _):
        key = await failed(engine, store, one())
        for number in range(2):
            ask(store, key, "retry", number)
            engine.nudge(key)
            assert (await ended(store, key)).status == "failed"
        model.mended = True
        ask(store, key, "retry", 5)
        engine.nudge(key)
        assert (await ended(store, key)).status == "completed"
    assert kinds(store, key).count("execution.failed") == 3


async def test_retry_is_obeyed_by_another_coordinator():
    store, model = MemoryStore(), Mendable("a")
    async with running(store, model) as (engine, _):
        key = await failed(engine, store, one())
    model.mended = True
    ask(store, key, "retry")
    async with running(store, model):
        assert (await ended(store, key)).status == "completed"


async def test_retry_that_ends_within_its_own_turn_keeps_its_outcome():
    router = {
        "id": "a",
        "type": "router",
        "metadata": {"strategy": "keyword", "routes": [{"intent": "x", "keywords": ["zebra"]}]},
    }
    spec = {
        "nodes": [router, llm("b")],
        "edges": [{"from": "a", "to": "b", "condition": "intent == 'x'"}],
        "sources": [SOURCE],
        "start_node": "a",
    }
    store = MemoryStore()
    async with running(store) as (engine, _):
        key = await failed(engine, store, spec)
        ask(store, key, "retry")
        engine.nudge(key)
        outcome = await ended(store, key)
    assert outcome.error["type"] == "NoRouteTaken"
    assert kinds(store, key)[-3:] == ["execution.resumed", "step.failed", "execution.failed"]


async def test_clock_of_the_execution_starts_anew_with_a_retry():
    now = [1000.0]
    store, model = MemoryStore(), Mendable("a")
    async with running(store, model, clock=lambda: now[0]) as (engine, _):
        key = await failed(engine, store, one() | {"settings": {"timeout_s": 60}})
        now[0] += 3600
        model.mended = True
        ask(store, key, "retry")
        engine.nudge(key)
        assert (await ended(store, key)).status == "completed"


async def test_cancel_after_a_retry_that_was_not_obeyed_yet_ends_it():
    store, model = MemoryStore(), Mendable("a")
    async with running(store, model) as (engine, workers):
        key = await failed(engine, store, one())
    ask(store, key, "retry", 1)
    ask(store, key, "cancel", 2)
    async with running(store, model) as (_, workers):
        assert (await ended(store, key)).status == "cancelled"
        assert workers.calls == []
    assert store.commands == {}


async def test_retry_while_the_ended_execution_lingers_for_a_late_result():
    store, open_ = MemoryStore(), asyncio.Event()

    async def reply(attempt):
        if attempt.step == "right" and attempt.generation == 0:
            try:
                await open_.wait()
            except asyncio.CancelledError:
                await open_.wait()
        if attempt.step == "left" and attempt.generation == 0:
            raise ProviderRejected("no")
        return answer(attempt)

    async with running(store, lambda attempt: reply(attempt)) as (engine, _):
        key = await failed(engine, store, DIAMOND)
        ask(store, key, "retry")
        engine.nudge(key)
        outcome = await ended(store, key)
        open_.set()
    assert outcome.status == "completed"
    ends = [e for e in store.events[key] if isinstance(e, ev.TERMINAL_STEP)]
    places = [(e.step, e.generation) for e in ends]
    assert len(places) == len(set(places))


async def test_released_execution_says_so_and_goes_on():
    store, started, model = MemoryStore(), asyncio.Event(), asyncio.Event()

    async def reply(attempt):
        started.set()
        await model.wait()
        return answer(attempt)

    asked = submission(one())
    async with running(store, lambda attempt: reply(attempt)) as (engine, _):
        await engine.accept(asked)
        await started.wait()
    key = asked.execution_id
    model.set()
    ask(store, key, "release")
    async with running(store):
        assert (await ended(store, key)).status == "completed"
    (resumed,) = [e for e in store.events[key] if isinstance(e, ev.ExecutionResumed)]
    assert resumed.reason == "release" and store.commands == {}


@pytest.mark.parametrize(("durability", "called_twice"), [("relaxed", {"deep"}), ("none", None)])
async def test_retry_does_again_what_its_durability_did_not_keep(durability, called_twice):
    store, model = MemoryStore(), Mendable("deep")
    spec = DIAMOND | {"settings": {"durability": durability}}
    async with running(store, model) as (engine, workers):
        key = await failed(engine, store, spec)
        first = {attempt.step for attempt in workers.calls}
        model.mended = True
        ask(store, key, "retry")
        engine.nudge(key)
        assert (await ended(store, key)).status == "completed"
    calls = [attempt.step for attempt in workers.calls]
    assert {step for step in calls if calls.count(step) == 2} == (called_twice or first)
