"""What a step sees, and the final state: folds of deltas in canonical order over ``initial_state``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from agentflow.execution.events import ModelCall
from agentflow.execution.joins import failure_behind, past_of
from agentflow.execution.state import ExecutionState, Step
from agentflow.plan.plan import Field, PlanNode, Read
from agentflow.spec.state import merge

Json = Any


def view(state: ExecutionState, node: PlanNode) -> dict[str, Json]:
    """The fields this node reads, each folded over its writers in the node's causal past."""
    seen: dict[str, Json] = {}
    past = _past(state, node)
    for read in node.reads:
        if read.field in state.fields or read.field in state.initial_state:
            seen[read.field] = _value(state, node, read, past)
    seen["execution"] = {
        "id": state.execution_id,
        "attempt": 1,
        "workflow_id": None,
        "version": None,
    }
    if node.catches:
        seen["error"] = _error_behind(state, node)
    return seen


def _past(state: ExecutionState, node: PlanNode) -> int:
    """The causal past of a node's current step, or of the one that is about to begin."""
    if state.plan.fixed:
        return EVERYTHING
    step = state.current(node)
    if step is not None:
        return step.past
    return past_of(state, node, state.released.get(node.index, ()))


def _error_behind(state: ExecutionState, node: PlanNode) -> Json:
    """The error that a ``goto`` met: ``{node_id, type, message}``, or None."""
    step = state.current(node)
    released = state.released.get(node.index, ())
    failed = step.error_from if step is not None else failure_behind(state, node, released)
    if failed is None or failed.error is None:
        return None
    node_id = state.node_of(failed).id
    return {"node_id": node_id, "type": failed.error.type, "message": failed.error.message}


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
    fields, initial = state.fields, state.initial_state
    final: dict[str, Json] = {}
    for name in [*fields, *sorted((initial.keys() | written.keys()) - fields.keys())]:
        field = fields.get(name)
        value = initial.get(name, field.default if field else None)
        if name in _OF_ENGINE:
            value = _OF_ENGINE[name](state, value, steps)
        elif name in written:
            value = _merged(state, name, value, written[name])
        final[name] = value
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
    seconds, rest = divmod(round(at * 1e6), 1_000_000)
    return f"{_second(seconds)}.{rest // 1000:03d}Z"


@lru_cache(256)
def _second(at: int) -> str:
    """Most of what is told in one go happened within a few seconds."""
    return datetime.fromtimestamp(at, UTC).isoformat().removesuffix("+00:00")


def tokens(steps: Iterable[Step]) -> int:
    """Tokens used by these steps, failed attempts included."""
    return sum(call.usage.total for call in _calls(steps))


def cost(steps: Iterable[Step]) -> float:
    """US dollars spent by these steps, failed attempts included."""
    return round(sum(call.cost for call in _calls(steps)), 6)


def executed(state: ExecutionState) -> list[Step]:
    """Steps that were worked on, in canonical order."""
    return [step for step in all_steps(state) if step.status != "skipped"]


def all_steps(state: ExecutionState) -> list[Step]:
    """Every step of a node, in canonical order; those of the items of a map are left out."""
    return _steps(state, state.plan.order)


def _calls(steps: Iterable[Step]) -> Iterable[ModelCall]:
    return (call for step in steps for call in step.calls)


EVERYTHING = -1
"""A past in which every step is."""


def _steps(
    state: ExecutionState,
    nodes: Iterable[int],
    past: int = EVERYTHING,
    since: tuple[int, ...] = (),
) -> list[Step]:
    """The steps of these nodes that lie in a past, from a canonical position on, in canonical order; the
    nodes are in that order."""
    visits = state.visits
    if not state.plan.loops:
        found = [step for index in nodes if index in visits for step in visits[index]]
        return found if state.plan.fixed else [s for s in found if past >> s.ordinal & 1]
    placed = []
    for index in nodes:
        for step in reversed(visits.get(index, ())):
            at = state.position(step)
            if at < since:
                break
            if past >> step.ordinal & 1:
                placed.append((at, step))
    placed.sort(key=itemgetter(0))
    return [step for _, step in placed]


def _value(state: ExecutionState, node: PlanNode, read: Read, past: int) -> Json:
    """A field as a node sees it: what it began with, and what the steps in its past made of it."""
    value, since = _initial(state, read.field), ()  # type: tuple[Json, tuple[int, ...]]
    if node.loops and read.field not in _BILLED:
        value, since = _before(state, node, read, past)
    return _folded(state, read.field, value, _steps(state, read.writers, past, since))


def _before(
    state: ExecutionState, node: PlanNode, read: Read, past: int
) -> tuple[Json, tuple[int, ...]]:
    """A field as it was when the current iteration of the loops around a node began, and the canonical
    position of that moment; as it was in the very beginning where that is not in the node's past.

    Each iteration goes on from the one before, which does not change any more, so the cost of a step does
    not grow with their number.
    """
    value, since = _initial(state, read.field), ()  # type: tuple[Json, tuple[int, ...]]
    begin: tuple[int, ...] = ()
    for loop, rank in zip(node.loops, node.place, strict=False):
        begin += (rank, state.iterations[loop])
        carried = state.carried[loop]
        if state.iterations[loop] == 1 or carried & ~past:
            continue
        key = (node.index, read.field, loop)
        found = state.known.get(key)
        if found is not None and found[1][:-1] == begin[:-1]:
            value, since = found
        if since != begin:
            steps = _steps(state, read.writers, carried, since)
            value, since = _folded(state, read.field, value, steps), begin
            state.known[key] = value, since
    return value, since


def _initial(state: ExecutionState, name: str) -> Json:
    field = state.fields.get(name)
    return state.initial_state.get(name, field.default if field else None)


def _folded(state: ExecutionState, name: str, value: Json, steps: list[Step]) -> Json:
    """What these steps make of a field's value."""
    of_engine = _OF_ENGINE.get(name)
    if of_engine is not None:
        return of_engine(state, value, steps)
    return _merged(state, name, value, (s.delta[name] for s in steps if name in s.delta))


def _merged(state: ExecutionState, name: str, value: Json, written: Iterable[Json]) -> Json:
    """A field's value with what was written over it, in canonical order."""
    rule = state.merge_of(name)
    for delta in written:
        value = merge(rule, value, delta)
    return value


def _rule(field: Field | None) -> str:
    return field.merge if field is not None else "last"


def _outputs(state: ExecutionState, value: Json, steps: list[Step]) -> Json:
    results = {
        state.node_of(step).id: step.result
        for step in steps
        if step.status in ("completed", "failed", "timed_out")
    }
    return {**(value or {}), **results}


def _errors(state: ExecutionState, value: Json, steps: list[Step]) -> Json:
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
    return merge("concat", value or [], found)


def _path(state: ExecutionState, value: Json, steps: list[Step]) -> Json:
    ran = [
        state.node_of(step).id
        for step in steps
        if step.status in ("completed", "failed", "timed_out")
    ]
    return merge("concat", value or [], ran)


def _tokens_used(state: ExecutionState, value: Json, steps: list[Step]) -> Json:
    return int(value or 0) + tokens(steps)


def _cost(state: ExecutionState, value: Json, steps: list[Step]) -> Json:
    return round(float(value or 0.0) + cost(steps), 6)


_OF_ENGINE: dict[str, Callable[[ExecutionState, Json, list[Step]], Json]] = {
    "outputs": _outputs,
    "errors": _errors,
    "execution_path": _path,
    "tokens_used": _tokens_used,
    "cost": _cost,
}
_BILLED = ("tokens_used", "cost")
"""Fields that a late result still adds to."""
