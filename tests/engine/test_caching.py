"""Reuse of results: executed with the database and a provider on a real socket, and where look-ups fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.engine.engine import Engine
from agentflow.engine.workers import Attempt
from agentflow.errors import StoreUnavailable
from agentflow.execution import events as ev
from agentflow.execution.caching import Kept, Wanted
from agentflow.execution.fold import fold
from agentflow.execution.journal import Command, ExecutionRecord
from agentflow.execution.state import ExecutionState
from agentflow.flow import Flow, open_local, open_nodes
from agentflow.nodes.base import StepResult
from agentflow.settings import load
from agentflow.store.retention import erase
from agentflow.testing import MemoryStore, ScriptedWorkers, memory_engine
from tests.crash.test_resume_from_every_prefix import SOURCE, answer, llm, submission
from tests.fake_provider import FakeProvider, Text

Json = Any
LONG = "long " * 30_000
KEPT = "SELECT count(*) FROM cached_results"


def document(provider: FakeProvider, **changes: Json) -> dict[str, Json]:
    """Two model calls, of which the first may be reused; ``changes`` are the first one's."""
    config = {
        "provider": "openai-compatible",
        "model": "m",
        "base_url": f"http://127.0.0.1:{provider.port}/v1",
        "price": {"input_per_mtok": 1000.0, "output_per_mtok": 1000.0},
    }
    first = {"source": "m", "prompt": "about {user_input}", "stream": False, "output_key": "facts"}
    second = {"source": "m", "prompt": "sum up {facts}", "stream": False}
    return {
        "name": "twice",
        "nodes": [
            {"id": "ask", "type": "llm", "metadata": first, "cache": {"ttl_s": 60}, **changes},
            {"id": "sum", "type": "llm", "metadata": second},
        ],
        "edges": [{"from": "ask", "to": "sum"}],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "ask",
    }


@pytest.fixture
async def flow(dsn: str, tmp_path: Path) -> AsyncIterator[Flow]:
    opened = await open_local(
        load(
            {
                "DATABASE_URL": dsn,
                "AGENTFLOW_DATA_DIR": str(tmp_path),
                "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
            }
        )
    )
    yield opened
    await opened.close()


async def executed(flow: Flow, asked: dict[str, Json], text: str = "bees") -> ExecutionRecord:
    state = {"user_input": text}
    execution_id = await flow.submit(DEFAULT_TENANT, asked, initial_state=state)
    record = await flow.wait(DEFAULT_TENANT, execution_id, 30)
    assert record.status == "completed", record.error
    return await flow.get(DEFAULT_TENANT, execution_id)


async def until_kept(pool: asyncpg.Pool, count: int) -> None:
    """A result is kept just after its execution went on."""
    async with asyncio.timeout(10):
        while await pool.fetchval(KEPT) != count:
            pass


async def test_a_result_is_reused_costs_nothing_and_says_where_it_is_from(flow, pool):
    with FakeProvider(default=Text("an answer", usage=(10, 5, 0))) as provider:
        first = await executed(flow, document(provider))
        await until_kept(pool, 1)
        again = await executed(flow, document(provider))
        calls = len(provider.requests)
    assert calls == 3
    assert (first.tokens_used, again.tokens_used) == (30, 15)
    assert again.cost == pytest.approx(first.cost / 2) and first.cost > 0
    asked, summed = again.steps
    assert first.steps[0]["cached"] is None and summed["cached"] is None
    assert asked["cached"]["execution_id"] == first.id
    assert (asked["cached"]["tokens"], asked["cached"]["cost"]) == (15, first.steps[0]["cost"])
    assert (asked["tokens"], asked["cost"], asked["worker"]) == (0, 0, None)
    assert again.final_state["outputs"]["ask"] == first.final_state["outputs"]["ask"]
    metrics = await flow.metrics()
    for name in ("hits", "misses"):
        (line,) = [one for one in metrics.splitlines() if one.startswith(f"agentflow_cache_{name}")]
        assert 'cache="steps"' in line and line.endswith(" 1.0")


async def test_the_journal_alone_gives_back_a_reused_result(flow, pool):
    with FakeProvider(default=Text("an answer")) as provider:
        asked = document(provider)
        await executed(flow, asked)
        await until_kept(pool, 1)
        again = await executed(flow, asked)
        plan = flow.plan(asked)
    await pool.execute("DELETE FROM cached_results")
    events = [recorded.event for recorded in await flow.events(DEFAULT_TENANT, again.id)]
    (done,) = [e for e in events if isinstance(e, ev.StepCompleted) and e.step == "ask"]
    assert done.cached is not None and (done.calls, done.worker) == ((), None)
    step = fold(ExecutionState(plan, again.id), events).steps["ask"]
    assert (step.result["text"], step.cached) == ("an answer", done.cached)


async def test_other_inputs_or_other_content_are_worked_for(flow, pool):
    with FakeProvider(default=Text("an answer")) as provider:
        asked = document(provider)
        await executed(flow, asked)
        await until_kept(pool, 1)
        other = await executed(flow, asked, "wasps")
        asked["nodes"][0]["metadata"]["temperature"] = 0.5
        changed = await executed(flow, asked)
    assert [record.steps[0]["cached"] for record in (other, changed)] == [None, None]


async def test_a_large_result_is_reused_from_its_blob(flow, pool):
    with FakeProvider(default=Text(LONG)) as provider:
        asked = document(provider)
        await executed(flow, asked)
        await until_kept(pool, 1)
        assert await pool.fetchval("SELECT max(length(content)) FROM cached_results") < 70_000
        again = await executed(flow, asked)
        assert len(provider.requests) == 3
    assert again.steps[0]["cached"] is not None
    assert again.final_state["facts"] == LONG


async def test_an_erased_execution_takes_its_result_along(flow, pool):
    with FakeProvider(default=Text("an answer")) as provider:
        asked = document(provider)
        await executed(flow, asked)
        await until_kept(pool, 1)
        await pool.execute("UPDATE executions SET ended_at = ended_at - interval '91 days'")
        async with asyncio.timeout(10):
            while (await erase(pool)).executions == 0:
                pass
        while await pool.fetchval("SELECT count(*) FROM erasures"):
            await erase(pool)
        assert await pool.fetchval(KEPT) == 0
        again = await executed(flow, asked)
    assert again.steps[0]["cached"] is None


class Gate:
    """Results whose look-ups end as a test says, when it says so."""

    def __init__(self, found: Kept | None = None, error: Exception | None = None) -> None:
        self.found, self.error = found, error
        self.asked = asyncio.Event()
        self.open = asyncio.Event()
        self.batches: list[int] = []
        self.kept: list[tuple[Wanted, Kept]] = []

    async def find(self, wanted: Sequence[Wanted]) -> list[Kept | None]:
        self.batches.append(len(wanted))
        self.asked.set()
        await self.open.wait()
        if self.error is not None:
            raise self.error
        return [self.found] * len(wanted)

    async def keep(self, results: Sequence[tuple[Wanted, Kept]]) -> None:
        self.kept += results
        if self.error is not None:
            raise self.error


EARLIER = Kept(
    result={"text": "earlier"},
    delta={"text_result": "earlier"},
    execution_id="exec_0",
    tokens=7,
    cost=0.5,
    at=12.0,
)


def wide(count: int) -> dict[str, Json]:
    """So many model calls at once, each of which may be reused, behind one that may not."""
    nodes = [llm("first")]
    nodes += [{**llm(f"n{i}", output_key=f"f{i}"), "cache": {"ttl_s": 60}} for i in range(count)]
    edges = [{"from": "first", "to": [f"n{i}" for i in range(count)]}]
    return {"nodes": nodes, "edges": edges, "sources": [SOURCE], "start_node": "first"}


@asynccontextmanager
async def running(
    store: MemoryStore, results: Gate, reply: Callable = answer
) -> AsyncIterator[tuple[Engine, ScriptedWorkers]]:
    workers = ScriptedWorkers(reply)
    engine = memory_engine(store, workers, open_nodes(), results=results)
    await engine.start()
    try:
        yield engine, workers
    finally:
        await engine.close()


def completions(store: MemoryStore, execution_id: str) -> dict[str, ev.StepCompleted]:
    return {e.step: e for e in store.events[execution_id] if isinstance(e, ev.StepCompleted)}


async def test_what_is_released_together_is_looked_up_together_and_nothing_else_is():
    store, asked, results = MemoryStore(), submission(wide(5)), Gate(EARLIER)
    results.open.set()
    async with running(store, results) as (engine, workers):
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert results.batches == [5]
    assert [attempt.step for attempt in workers.calls] == ["first"]
    done = completions(store, asked.execution_id)
    assert done["first"].cached is None
    assert {done[f"n{i}"].cached for i in range(5)} == {ev.Cached("exec_0", 12.0, 7, 0.5)}
    assert results.kept == []


async def test_the_loop_goes_on_while_a_look_up_is_under_way():
    store, asked, results = MemoryStore(), submission(wide(1)), Gate()
    other = submission({"nodes": [llm("a")], "sources": [SOURCE], "start_node": "a"})
    async with running(store, results) as (engine, workers):
        await engine.accept(asked)
        await asyncio.wait_for(results.asked.wait(), 10)
        await engine.accept(other)
        await store.until(lambda: other.execution_id in store.outcomes)
        assert asked.execution_id not in store.outcomes
        results.open.set()
        await store.until(lambda: asked.execution_id in store.outcomes)
    ((wanted, kept),) = results.kept
    assert (wanted.ttl_s, kept.execution_id) == (60.0, asked.execution_id)
    assert kept.result == completions(store, asked.execution_id)["n0"].result


@pytest.mark.parametrize("error", [StoreUnavailable(), RuntimeError("broken")], ids=repr)
async def test_a_failed_look_up_is_harmless(error):
    store, asked, results = MemoryStore(), submission(wide(2)), Gate(error=error)
    results.open.set()
    async with running(store, results) as (engine, workers):
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert store.outcomes[asked.execution_id].status == "completed"
    assert len(workers.calls) == 3


async def test_who_gets_no_answer_in_time_does_the_work():
    store, asked, results = MemoryStore(), submission(wide(1)), Gate(EARLIER)
    async with running(store, results) as (engine, workers):
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert [attempt.step for attempt in workers.calls] == ["first", "n0"]
    assert completions(store, asked.execution_id)["n0"].cached is None


async def test_nobody_waits_in_line_for_look_ups_that_are_not_answered():
    store, asked, results = MemoryStore(), submission(wide(250)), Gate(error=StoreUnavailable())
    results.open.set()
    async with running(store, results) as (engine, workers):
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert results.batches == [100]
    assert len(workers.calls) == 251


async def test_a_step_that_is_cancelled_while_it_is_looked_up_never_leaves():
    store, asked, results = MemoryStore(), submission(wide(1)), Gate()
    async with running(store, results) as (engine, workers):
        await engine.accept(asked)
        await asyncio.wait_for(results.asked.wait(), 10)
        store.commands[1] = Command(id=1, execution_id=asked.execution_id, kind="cancel")
        engine.nudge(asked.execution_id)
        await store.until(lambda: asked.execution_id in store.outcomes)
        results.open.set()
    assert store.outcomes[asked.execution_id].status == "cancelled"
    assert [attempt.step for attempt in workers.calls] == ["first"]


async def test_the_next_owner_looks_up_what_its_former_owner_had_not_sent():
    store, asked, results = MemoryStore(), submission(wide(1)), Gate(EARLIER)
    async with running(store, results) as (engine, _):
        await engine.accept(asked)
        await asyncio.wait_for(results.asked.wait(), 10)
        await engine.drain()
    results.open.set()
    async with running(store, results) as (_, workers):
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert workers.calls == []
    assert completions(store, asked.execution_id)["n0"].cached is not None


@pytest.mark.parametrize("down", [True, False])
async def test_a_route_that_was_taken_because_nobody_answered_is_not_kept(down):
    options = {"strategy": "llm", "source": "m", "fallback": "default"}
    node = {"id": "route", "type": "router", "metadata": options, "cache": {"ttl_s": 60}}
    store, results = MemoryStore(), Gate()
    asked = submission({"nodes": [node], "sources": [SOURCE], "start_node": "route"})
    results.open.set()

    def reply(attempt: Attempt) -> StepResult:
        result = {"intent": "text", "matched": not down, "strategy": "llm"}
        if down:
            error = {"type": "ProviderUnavailable", "message": "away"}
            result |= {"intent": "unknown", "fallback": "default", "error": error}
        return StepResult(result=result, delta={"intent": result["intent"]})

    async with running(store, results, reply) as (engine, workers):
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert len(workers.calls) == 1
    assert len(results.kept) == (0 if down else 1)


async def test_a_result_that_fits_no_condition_fails_the_step_as_it_would_have():
    document = wide(1)
    document["edges"].append({"from": "n0", "to": "end", "condition": "result.none > 1"})
    store, asked, results = MemoryStore(), submission(document), Gate(EARLIER)
    results.open.set()
    async with running(store, results) as (engine, _):
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    assert store.outcomes[asked.execution_id].error["type"] == "ConditionError"
    assert results.kept == []
