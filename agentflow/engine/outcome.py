"""What an ended execution leaves in its row, and its steps in the projection."""

from __future__ import annotations

from typing import Any

from agentflow.execution.journal import Outcome
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.views import (
    all_steps,
    cost,
    executed,
    execution_time,
    final_state,
    timestamp,
    tokens,
)

Json = Any


def outcome_of(state: ExecutionState) -> Outcome:
    """The row of an execution that is over."""
    steps = executed(state)
    return Outcome(
        status=state.status,
        final_state=final_state(state),
        output=state.output,
        error=error_of(state),
        tokens_used=tokens(steps),
        cost=cost(steps),
        execution_time=execution_time(state),
        nodes_executed=len({step.node for step in steps}),
        ended_at=state.ended_at or state.created_at,
        steps=steps_of(state),
    )


def error_of(state: ExecutionState) -> dict[str, Json] | None:
    """Why the execution did not complete: ``{type, message, node_id}``."""
    if state.error is not None:
        return {
            "type": state.error.type,
            "message": state.error.message,
            "node_id": state.error_node,
        }
    if state.status == "timed_out":
        limit = state.plan.settings.timeout_s
        message = f"The execution did not end within settings.timeout_s = {limit:g} s"
        return {"type": "ExecutionTimedOut", "message": message, "node_id": None}
    if state.status == "cancelled":
        return {"type": "ExecutionCancelled", "message": "Cancelled by a caller", "node_id": None}
    return None


def steps_of(state: ExecutionState) -> tuple[dict[str, Json], ...]:
    """Rows of the ``steps`` projection, in canonical order, skipped steps included."""
    return tuple(_row(state, step) for step in all_steps(state))


def _row(state: ExecutionState, step: Step) -> dict[str, Json]:
    node = state.node_of(step)
    ended = step.ended_at
    return {
        "step": step.key,
        "node_id": node.id,
        "type": node.type,
        "iteration": ".".join(map(str, step.iterations)) or None,
        "index": None,
        "generation": step.generation,
        "status": step.status,
        "started_at": timestamp(step.started_at),
        "ended_at": timestamp(ended) if ended is not None else None,
        "queued_s": 0.0,
        "duration_s": round(ended - step.started_at, 6) if ended is not None else None,
        "attempts": step.attempt,
        "tokens": tokens([step]),
        "cost": cost([step]),
        "cached": _cached(step),
        "worker": {"pid": step.worker.pid, "node": step.worker.node, "pool": step.worker.pool}
        if step.worker
        else None,
        "error": {"type": step.error.type, "message": step.error.message} if step.error else None,
    }


def _cached(step: Step) -> dict[str, Json] | None:
    """Where the step's result came from, and what it took then; None where it was worked for."""
    earlier = step.cached
    if earlier is None:
        return None
    return {
        "execution_id": earlier.execution_id,
        "at": timestamp(earlier.at),
        "tokens": earlier.tokens,
        "cost": earlier.cost,
    }
