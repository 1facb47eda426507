"""Loops, races and errors that are met, driven by the engine over a journal in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agentflow.engine.scheduler import TURN
from agentflow.errors import NodeFailed
from agentflow.execution import events as ev
from agentflow.execution.journal import Append
from agentflow.testing import MemoryStore
from tests.crash.test_resume_from_every_prefix import SOURCE, answer, llm, submission
from tests.engine.test_engine import ended, one, running


def loop(times: int, **settings) -> dict:
    """A loop of one inline step, executed this often."""
    return {
        "nodes": [
            {"id": "begin", "type": "input"},
            {
                "id": "count",
                "type": "aggregator",
                "metadata": {"strategy": "custom", "expression": "1", "output_key": "n"},
            },
        ],
        "edges": [
            {"from": "begin", "to": "count"},
            {"from": "count", "to": "count", "condition": f"n < {times}"},
            {"from": "count", "to": "end", "condition": "else"},
        ],
        "state": {"n": {"type": "int", "merge": "sum"}},
        "start_node": "begin",
        "settings": {"max_iterations": 10_000, **settings},
    }


async def test_condition_that_fails_takes_no_edge_although_the_node_continues_after_errors():
    document = {
        "nodes": [llm("a", on_error="continue"), llm("b")],
        "edges": [{"from": "a", "to": "b", "condition": "a_text == '' || int(a_text) == 1"}],
        "sources": [SOURCE],
        "start_node": "a",
    }
    store, asked = MemoryStore(), submission(document)
    async with running(store) as (engine, workers):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed"
    assert [error["type"] for error in outcome.final_state["errors"]] == ["ConditionError"]
    assert [attempt.step for attempt in workers.calls] == ["a"]


class Recording(MemoryStore):
    """Remembers what was appended at once."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[Append] = []

    async def commit(self, batch: Sequence[Append]) -> None:
        await super().commit(batch)
        self.appends += batch


async def test_long_closure_is_cut_into_turns_and_others_have_theirs_in_between():
    times = 20 * TURN
    store, long, short = Recording(), submission(loop(times)), submission(one())
    async with running(store) as (engine, _):
        await asyncio.gather(engine.accept(long), engine.accept(short))
        outcome = await ended(store, long.execution_id)
    assert outcome.status == "completed" and outcome.final_state["n"] == times
    ends = [append.execution_id for append in store.appends if append.outcome is not None]
    assert ends == [short.execution_id, long.execution_id]
    assert max(len(append.events) for append in store.appends) <= TURN + 2


async def test_loser_of_a_race_is_told_to_stop_and_what_it_cost_is_kept():
    document = {
        "nodes": [
            {"id": "ask", "type": "input"},
            llm("slow"),
            llm("quick"),
            {"id": "first", "type": "aggregator", "join": "first_success"},
        ],
        "edges": [
            {"from": "ask", "to": ["slow", "quick"]},
            {"from": "slow", "to": "first"},
            {"from": "quick", "to": "first"},
        ],
        "sources": [SOURCE],
        "start_node": "ask",
    }
    stopped = asyncio.Event()

    async def reply(attempt):
        if attempt.step != "slow":
            return answer(attempt)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    store, asked = MemoryStore(), submission(document)
    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
        async with asyncio.timeout(10):
            await stopped.wait()
    assert outcome.status == "completed"
    cancelled = [e for e in store.events[asked.execution_id] if isinstance(e, ev.StepCancelled)]
    assert [(event.step, event.race) for event in cancelled] == [("slow", "first")]


async def test_target_of_a_goto_sees_the_error():
    document = {
        "nodes": [
            llm("a", on_error={"goto": "sorry"}),
            {
                "id": "sorry",
                "type": "aggregator",
                "metadata": {"strategy": "template", "template": "{error.type} of {error.node_id}"},
            },
        ],
        "sources": [SOURCE],
        "start_node": "a",
    }

    def reply(attempt):
        raise NodeFailed("no")

    store, asked = MemoryStore(), submission(document)
    async with running(store, reply) as (engine, _):
        await engine.accept(asked)
        outcome = await ended(store, asked.execution_id)
    assert outcome.status == "completed"
    assert outcome.final_state["final_output"] == "NodeFailed of a"
