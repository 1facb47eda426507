"""What the LangGraph form of a plan carries in its state, and what can be read from it.

Plain data, so that any checkpointer of LangGraph can keep it. The causal past of a step is not stored:
each step names those that released it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypedDict

from agentflow.plan.plan import Plan, PlanEdge, PlanNode, Read
from agentflow.spec.state import merge

Json = Any
Values = Mapping[str, Any]
"""The graph's state, by channel. The names of the channels cannot be ids of nodes."""

STATE, STEPS, EDGES = "$state", "$steps", "$edges"
ITERATIONS, FAILED = "$iterations", "$failed"


class StepRecord(TypedDict):
    """A step that is over, as the graph's state keeps it: plain data, so that any checkpointer can.

    ``status``: completed, failed or skipped. ``counted``: keys of the steps whose edges released it;
    they and what they were released by are its causal past.
    """

    node: int
    iteration: list[int]
    status: str
    counted: list[str]
    result: Json
    delta: dict[str, Json]
    error: dict[str, Json] | None
    tokens: int
    cost: float


def steps_of(plan: Plan, values: Values) -> list[tuple[str, StepRecord]]:
    """The steps that are over, by key, in canonical order."""
    return _sorted(plan, values[STEPS], values[STEPS])


def failure_of(plan: Plan, values: Values) -> tuple[str, dict[str, Json]] | None:
    """The step that failed the execution (the first in canonical order) and its error, or None."""
    for key, step in _sorted(plan, values[STEPS], values[FAILED]):
        return key, step["error"] or {}
    return None


def final_state_of(plan: Plan, values: Values) -> dict[str, Json]:
    """The fold of all steps, in canonical order, over the initial state; ``execution_time`` and the
    times in ``metadata`` are for whoever keeps the clock."""
    steps = [step for _, step in steps_of(plan, values)]
    written = {name for step in steps for name in step["delta"]}
    names = {field.name for field in plan.fields}
    extra = sorted((written | set(values[STATE])) - names)
    return {
        name: _folded(plan, name, steps, values[STATE])
        for name in (*(field.name for field in plan.fields), *extra)
    }


def view_of(
    plan: Plan,
    node: PlanNode,
    steps: Mapping[str, StepRecord],
    initial_state: Mapping[str, Json],
    counted: Iterable[str],
) -> dict[str, Json]:
    """What a step of this node sees: the fields it reads, folded over its causal past, which the steps
    ``counted`` and what released them make up."""
    past = [step for _, step in _sorted(plan, steps, _past(steps, counted))]
    known = {field.name for field in plan.fields}
    written = {name for step in past for name in step["delta"]}
    present = known | written | set(initial_state)
    return {
        read.field: _read(plan, read, past, initial_state)
        for read in node.reads
        if read.field in present
    }


def _read(
    plan: Plan, read: Read, past: list[StepRecord], initial_state: Mapping[str, Json]
) -> Json:
    """A field as the past left it; of ``outputs`` only the results that the node refers to."""
    if read.field == "outputs":
        past = [step for step in past if step["node"] in read.writers]
    return _folded(plan, read.field, past, initial_state)


def _past(steps: Mapping[str, StepRecord], counted: Iterable[str]) -> set[str]:
    found: set[str] = set()
    todo = list(counted)
    while todo:
        key = todo.pop()
        if key not in found:
            found.add(key)
            todo += steps[key]["counted"]
    return found


def _folded(
    plan: Plan, name: str, steps: Iterable[StepRecord], initial_state: Mapping[str, Json]
) -> Json:
    """A field after these steps, which are in canonical order."""
    field = next((field for field in plan.fields if field.name == name), None)
    value = initial_state.get(name, field.default if field is not None else None)
    if name == "cost":
        return round(float(value or 0.0) + sum(step["cost"] for step in steps), 6)
    rule = field.merge if field is not None else "last"
    for delta in _deltas(plan, name, steps):
        value = merge(rule, value, delta)
    return value


def _deltas(plan: Plan, name: str, steps: Iterable[StepRecord]) -> Iterator[Json]:
    for step in steps:
        if step["status"] == "skipped":
            continue
        node = plan.nodes[step["node"]].id
        if name == "outputs":
            yield {node: step["result"]}
        elif name == "execution_path":
            yield [node]
        elif name == "tokens_used":
            yield step["tokens"]
        elif name == "errors":
            yield [{"node_id": node, **step["error"]}] if step["error"] else None
        elif name in step["delta"]:
            yield step["delta"][name]


def _sorted(
    plan: Plan, steps: Mapping[str, StepRecord], keys: Iterable[str]
) -> list[tuple[str, StepRecord]]:
    """Steps in canonical order: each loop around a node, then the iteration of it, then the node."""

    def position(found: tuple[str, StepRecord]) -> tuple[int, ...]:
        place, iteration = plan.nodes[found[1]["node"]].place, found[1]["iteration"]
        outer = [part for pair in zip(place, iteration, strict=False) for part in pair]
        return (*outer, place[-1])

    return sorted(((key, steps[key]) for key in keys), key=position)


def error_before(
    plan: Plan, steps: Mapping[str, StepRecord], taken: list[tuple[PlanEdge, Any]]
) -> Json:
    """The failure that led to a step by an error edge; of several, the first in canonical order."""
    failed = [token["by"] for edge, token in taken if edge.kind == "error"]
    for _, step in _sorted(plan, steps, failed):
        error = step["error"] or {}
        node = plan.nodes[step["node"]].id
        return {"node_id": node, "type": error["type"], "message": error["message"]}
    return None
