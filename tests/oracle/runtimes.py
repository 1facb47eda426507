"""The two runtimes: LangGraph's own over the projection, and our engine with work that ends in any order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import msgspec

from agentflow.engine.choices import choose
from agentflow.engine.engine import Engine
from agentflow.engine.workers import Attempt
from agentflow.errors import ConditionError, NoRouteTaken, StepError
from agentflow.execution.journal import Submission
from agentflow.ids import new_id
from agentflow.nodes.base import NodeSet, StepContext, StepResult
from agentflow.plan import langgraph
from agentflow.plan.compile import compile_plan
from agentflow.plan.langgraph import StepAnswer, StepCall, StepFault
from agentflow.plan.plan import Plan
from agentflow.spec.check import check
from agentflow.testing import MemoryStore, ScriptedWorkers, memory_engine
from tests.oracle.happened import Happened
from tests.oracle.script import Script, without_times
from tests.oracle.workflows import Workflow

Json = Any
OF_THE_CLOCK = ("execution_id", "start_time", "end_time")


class Ended(msgspec.Struct, frozen=True):
    """How an execution ended on one of them: its steps' statuses by key, and what each of them saw."""

    failed: bool
    state: dict[str, Json]
    statuses: dict[str, str]
    views: dict[str, dict[str, Json]]


def compiled(workflow: Workflow) -> tuple[dict[str, Json], Plan]:
    """The normalised document and its plan; the checker must find nothing."""
    checked = check(workflow.document)
    assert checked.valid and checked.normalized is not None, checked.errors
    return checked.normalized, compile_plan(checked.normalized)


async def on_langgraph(plan: Plan, workflow: Workflow) -> tuple[Ended, dict[str, Happened]]:
    """The execution on LangGraph's runtime, and its steps in canonical order."""
    script = Script(workflow)
    fields = {field.name: field for field in plan.fields}

    async def do_step(call: StepCall) -> StepAnswer:
        tokens, cost = 0, 0.0
        try:
            given = script.work(call.node, call.key, call.view)
            tokens = sum(made.usage.total for made in given.calls)
            cost = sum(made.cost for made in given.calls)
            taken = choose(plan, fields, call.node, call.view, given.result, given.delta)
        except StepError as error:
            fault = StepFault(error.type, error.message)
            taken = () if isinstance(error, (ConditionError, NoRouteTaken)) else after_fault(call)
            return StepAnswer(error=fault, taken=taken, tokens=tokens, cost=cost)
        return StepAnswer(
            result=given.result, delta=given.delta, taken=taken, tokens=tokens, cost=cost
        )

    def after_fault(call: StepCall) -> tuple[int, ...]:
        if call.node.on_error != "continue":
            return ()
        try:
            return choose(plan, fields, call.node, call.view, None, {})
        except StepError:
            return ()

    graph = langgraph.to_langgraph(plan, do_step)
    values = await graph.ainvoke(langgraph.start_values(workflow.initial_state))
    steps = {
        key: Happened(
            plan.nodes[step["node"]].id,
            tuple(step["iteration"]),
            step["status"],
            tuple(step["counted"]),
            step["delta"],
            step["error"] and step["error"]["type"],
        )
        for key, step in langgraph.steps_of(plan, values)
    }
    ended = Ended(
        langgraph.failure_of(plan, values) is not None,
        comparable(langgraph.final_state_of(plan, values)),
        {key: step.status for key, step in steps.items()},
        script.views,
    )
    return ended, steps


class OurEngine:
    """Our engine over a journal in memory. Work outside of the coordinator ends in random order."""

    def __init__(self, engine: Engine, store: MemoryStore) -> None:
        self._engine = engine
        self._store = store
        self._script: Script | None = None
        self._chance = Random(0)

    async def execute(self, normalized: Json, workflow: Workflow, chance: Random) -> Ended:
        """One execution, to its end."""
        self._script, self._chance = Script(workflow), chance
        submission = Submission(
            execution_id=new_id("exec"),
            tenant="ten_oracle",
            content_hash=compile_plan(normalized).content_hash,
            spec=normalized,
            initial_state=workflow.initial_state,
        )
        await self._engine.accept(submission)
        key = submission.execution_id
        await self._store.until(lambda: key in self._store.outcomes, timeout_s=10)
        outcome = self._store.outcomes[key]
        return Ended(
            outcome.status == "failed",
            comparable(outcome.final_state),
            {step["step"]: step["status"] for step in outcome.steps},
            self._script.views,
        )

    async def answer(self, attempt: Attempt) -> StepResult:
        """The work of an attempt, after some turns of the loop in which others may end."""
        for _ in range(self._chance.randrange(8)):
            await asyncio.sleep(0)
        return self._worked().work(attempt.node, attempt.step, attempt.view)

    def run_inline(self, context: StepContext) -> StepResult:
        """The work of a step inside the coordinator."""
        return self._worked().work(context.node, context.step, dict(context.view))

    def _worked(self) -> Script:
        assert self._script is not None
        return self._script


@asynccontextmanager
async def our_engine() -> AsyncIterator[OurEngine]:
    """An engine for any number of executions, one after the other."""
    store = MemoryStore()
    opened: OurEngine

    class Inline:
        def run_inline(self, context: StepContext) -> StepResult:
            return opened.run_inline(context)

    workers = ScriptedWorkers(lambda attempt: opened.answer(attempt))
    nodes = NodeSet(dict.fromkeys(("input", "router", "aggregator"), Inline()))
    engine = memory_engine(store, workers, nodes)
    opened = OurEngine(engine, store)
    await engine.start()
    try:
        yield opened
    finally:
        await engine.close()


def comparable(state: dict[str, Json]) -> dict[str, Json]:
    """A final state without what only a clock or a name gives."""
    kept = {name: value for name, value in state.items() if name != "execution_time"}
    kept["errors"] = without_times(kept["errors"])
    kept["metadata"] = {
        name: value for name, value in kept["metadata"].items() if name not in OF_THE_CLOCK
    }
    return kept


def differences(ours: Ended, theirs: Ended) -> list[str]:
    """Where two executions of one workflow do not agree.

    What had been done when a failure ended an execution is a matter of time; what both did is not.
    """
    found = []
    if ours.failed != theirs.failed:
        found.append(f"failed: {ours.failed} here, {theirs.failed} on LangGraph")
    elif not ours.failed:
        found += _unequal("final_state", ours.state, theirs.state)
        found += _unequal("status", ours.statuses, theirs.statuses)
        found += _unequal("view", ours.views, theirs.views)
        return found
    both = ours.views.keys() & theirs.views.keys()
    for key in sorted(both):
        found += _unequal(f"view of {key}", ours.views[key], theirs.views[key])
    return found


def _unequal(what: str, ours: dict[str, Json], theirs: dict[str, Json]) -> list[str]:
    names = sorted(ours.keys() | theirs.keys())
    absent = "(nothing)"
    return [
        f"{what} {name}: {ours.get(name, absent)!r} here, {theirs.get(name, absent)!r} on LangGraph"
        for name in names
        if ours.get(name, absent) != theirs.get(name, absent)
    ]
