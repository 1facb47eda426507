"""What a step sees, and the final state: folds of deltas in canonical order over ``initial_state``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from agentflow.execution.events import ModelCall
from agentflow.execution.state import ExecutionState, Step
from agentflow.plan.plan import Field, PlanNode
from agentflow.spec.state import merge

Json = Any


def view(state: ExecutionState, node: PlanNode) -> dict[str, Json]:
    """The fields this node reads, each folded over its writers in the node's causal past."""
    fields = state.fields
    seen: dict[str, Json] = {}
    for read in node.reads:
        field, writers = fields.get(read.field), _steps(state, read.writers)
        if field is not None or _exists(state, read.field, writers):
            seen[read.field] = _value(state, field, read.field, writers)
    seen["execution"] = {
        "id": state.execution_id,
        "attempt": 1,
        "workflow_id": None,
        "version": None,
    }
    return seen


def after(
    seen: dict[str, Json], fields: Mapping[str, Field], node: PlanNode, result: Json, delta: Json
) -> dict[str, Json]:
    """What the outgoing conditions of a step see: its view, its own delta and its result."""
    written = {
        name: merge(_rule(fields.get(name)), seen.get(name), value) for name, value in delta.items()
    }
    outputs = {**(seen.get("outputs") or {}), node.id: result}
    return {**seen, **written, "outputs": outputs, "result": result}


def final_state(state: ExecutionState) -> dict[str, Json]:
    """The fold of all steps in canonical order; partial while the execution is not over."""
    steps = _steps(state, state.plan.order)
    written: dict[str, list[Json]] = {}
    for step in steps:
        for name, value in step.delta.items():
            written.setdefault(name, []).append(value)
    fields = state.fields
    names = [*fields, *sorted((state.initial_state.keys() | written.keys()) - fields.keys())]
    final = {
        name: _OF_ENGINE[name](state, steps)
        if name in _OF_ENGINE
        else _folded(state, fields.get(name), name, written.get(name, ()))
        for name in names
    }
    end = state.ended_at
    final["execution_time"] = execution_time(state)
    final["metadata"] = {
        **(final.get("metadata") or {}),
        "execution_id": state.execution_id,
        "start_time": timestamp(state.created_at),
        "end_time": timestamp(end) if end is not None else None,
    }
    return final


def execution_time(state: ExecutionState) -> float:
    """Seconds from acceptance to the end; 0 while the execution is open."""
    return round((state.ended_at or state.created_at) - state.created_at, 6)


def timestamp(at: float) -> str:
    """RFC 3339, UTC, milliseconds."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def tokens(steps: Iterable[Step]) -> int:
    """Tokens used by these steps, failed attempts included."""
    return sum(call.usage.total for call in _calls(steps))


def cost(steps: Iterable[Step]) -> float:
    """US dollars spent by these steps, failed attempts included."""
    return round(sum(call.cost for call in _calls(steps)), 6)


def executed(state: ExecutionState) -> list[Step]:
    """Steps that were worked on, in canonical order."""
    return [step for step in _steps(state, state.plan.order) if step.status != "skipped"]


def _calls(steps: Iterable[Step]) -> Iterable[ModelCall]:
    return (call for step in steps for call in step.calls)


def _steps(state: ExecutionState, nodes: Iterable[int]) -> list[Step]:
    """The steps of these nodes that exist, in the order given."""
    plan = state.plan
    found = (state.steps.get(plan.nodes[index].id) for index in nodes)
    return [step for step in found if step is not None]


def _exists(state: ExecutionState, name: str, writers: list[Step]) -> bool:
    """Whether an undeclared field has a value: an absent one stays verbatim in templates."""
    written = any(name in step.delta for step in writers)
    return written or name in state.initial_state or name in _OF_ENGINE


def _value(state: ExecutionState, field: Field | None, name: str, steps: list[Step]) -> Json:
    of_engine = _OF_ENGINE.get(name)
    if of_engine is not None:
        return of_engine(state, steps)
    return _folded(state, field, name, (s.delta[name] for s in steps if name in s.delta))


def _folded(state: ExecutionState, field: Field | None, name: str, written: Iterable[Json]) -> Json:
    """What was written to a field, in canonical order, over what it began with."""
    rule = _rule(field)
    value = state.initial_state.get(name, field.default if field else None)
    for delta in written:
        value = merge(rule, value, delta)
    return value


def _rule(field: Field | None) -> str:
    return field.merge if field is not None else "last"


def _outputs(state: ExecutionState, steps: list[Step]) -> Json:
    results = {
        state.node_of(step).id: step.result
        for step in steps
        if step.status in ("completed", "failed", "timed_out")
    }
    return {**(state.initial_state.get("outputs") or {}), **results}


def _errors(state: ExecutionState, steps: list[Step]) -> Json:
    found: list[dict[str, Json]] = [
        {
            "node_id": state.node_of(step).id,
            "type": step.error.type,
            "message": step.error.message,
            "at": timestamp(step.ended_at or state.created_at),
        }
        for step in steps
        if step.error is not None and step.status in ("failed", "timed_out")
    ]
    if state.error is not None and state.error_node is None:
        at = timestamp(state.ended_at or state.created_at)
        found.append(
            {"node_id": None, "type": state.error.type, "message": state.error.message, "at": at}
        )
    return merge("concat", state.initial_state.get("errors") or [], found)


def _path(state: ExecutionState, steps: list[Step]) -> Json:
    ran = [
        state.node_of(step).id
        for step in steps
        if step.status in ("completed", "failed", "timed_out")
    ]
    return merge("concat", state.initial_state.get("execution_path") or [], ran)


def _tokens_used(state: ExecutionState, steps: list[Step]) -> Json:
    return int(state.initial_state.get("tokens_used") or 0) + tokens(steps)


def _cost(state: ExecutionState, steps: list[Step]) -> Json:
    return round(float(state.initial_state.get("cost") or 0.0) + cost(steps), 6)


_OF_ENGINE: dict[str, Callable[[ExecutionState, list[Step]], Json]] = {
    "outputs": _outputs,
    "errors": _errors,
    "execution_path": _path,
    "tokens_used": _tokens_used,
    "cost": _cost,
}
