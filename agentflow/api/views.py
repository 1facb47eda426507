"""What the wire shows of executions and events, where it differs from the records."""

from __future__ import annotations

from typing import Any

import msgspec

from agentflow.engine.stream import TokenDelta
from agentflow.execution.events import kind
from agentflow.execution.journal import ExecutionRecord, Outcome, Recorded
from agentflow.execution.views import timestamp
from agentflow.flow.forking import Fork
from agentflow.flow.waits import Resumed

Json = Any

Ended = ExecutionRecord | Outcome
"""How an execution ended, as its row has it or as it was told when that was committed."""

_COMMON = ("type", "at", "step", "attempt", "generation")


def execution_url(execution_id: str) -> str:
    """The canonical address of an execution."""
    return f"/api/v1/executions/{execution_id}"


def accepted_body(execution_id: str, status: str) -> Json:
    """What a caller gets that does not wait for the end."""
    return {"execution_id": execution_id, "status": status}


def result_body(execution_id: str, ended: Ended) -> Json:
    """What a caller gets that waited for a completed execution."""
    return {
        "status": "success",
        "execution_id": execution_id,
        "final_state": ended.final_state,
        "output": ended.output,
        "metrics": metrics_of(ended),
    }


def metrics_of(ended: Ended) -> Json:
    """Seconds, tokens, US dollars and nodes of an execution."""
    return {
        "execution_time": ended.execution_time,
        "tokens_used": ended.tokens_used,
        "cost": ended.cost,
        "nodes_executed": ended.nodes_executed,
    }


def errors_of(ended: Ended) -> list[Json]:
    """Why the execution did not complete: the errors in its state, else that of the execution."""
    found = (ended.final_state or {}).get("errors") or []
    return list(found) or ([ended.error] if ended.error else [])


def summary_body(record: ExecutionRecord) -> Json:
    """An execution in a list."""
    return {
        "id": record.id,
        "workflow_id": None,
        "workflow_name": record.workflow_name,
        "version": None,
        "content_hash": record.content_hash,
        "status": record.status,
        "priority": record.priority,
        "metadata": record.metadata,
        "created_at": _time(record.created_at),
        "started_at": _time(record.started_at),
        "completed_at": _time(record.completed_at),
        "error": record.error,
        "metrics": metrics_of(record),
    }


def execution_body(record: ExecutionRecord) -> Json:
    """An execution in full."""
    url = execution_url(record.id)
    return {
        **summary_body(record),
        "initial_state": record.initial_state,
        "final_state": record.final_state,
        "output": record.output,
        "steps": list(record.steps),
        "waits": list(record.waits),
        "owner": record.owner,
        "parent": None,
        "links": {
            "self": url,
            **{
                name: f"{url}/{name}"
                for name in ("events", "steps", "state", "resume", "cancel", "retry")
            },
        },
    }


def resumed_body(taken: Resumed) -> Json:
    """An answer that was taken."""
    return {
        "execution_id": taken.execution_id,
        "wait_id": taken.wait_id,
        "status": "kept" if taken.wait_id is None else "answered",
    }


def fork_body(made: Fork, *, begun: bool = True) -> Json:
    """A new execution that goes on from another one, or what it would be."""
    execution_id = made.submission.execution_id if begun else None
    return {
        "execution_id": execution_id,
        "status": "pending" if begun else None,
        "forked_from": made.submission.forked_from,
        "reused_steps": list(made.reused_steps),
        "repeated_steps": list(made.repeated_steps),
        "estimated_cost": made.estimated_cost,
        "saved_cost": made.saved_cost,
    }


def event_body(execution_id: str, recorded: Recorded) -> Json:
    """A durable event."""
    event = recorded.event
    fields = msgspec.to_builtins(event)
    body: dict[str, Json] = {
        "type": kind(event),
        "seq": recorded.seq,
        "execution_id": execution_id,
    }
    step = getattr(event, "step", None)
    if step is not None:
        body |= _place(step)
        body["attempt"] = event.attempt  # type: ignore[union-attr]
        body["generation"] = event.generation  # type: ignore[union-attr]
    body["ts"] = timestamp(event.at)
    body["data"] = {name: value for name, value in fields.items() if name not in _COMMON}
    return body


def delta_body(execution_id: str, delta: TokenDelta) -> Json:
    """A piece of a model's reply: no seq, for it is not stored."""
    return {
        "type": "message.delta",
        "execution_id": execution_id,
        **_place(delta.step),
        "attempt": delta.attempt,
        "data": {
            "step": delta.step,
            "attempt": delta.attempt,
            "offset": delta.offset,
            "text": delta.text,
        },
    }


def _place(step: str) -> dict[str, Json]:
    """The step, its node, and its iteration when it is in a loop: ``node@2.5[17]``."""
    name, _, _ = step.partition("[")
    node_id, _, iteration = name.partition("@")
    place: dict[str, Json] = {"step": step, "node_id": node_id}
    if iteration:
        place["iteration"] = iteration
    return place


def _time(at: float | None) -> str | None:
    return None if at is None else timestamp(at)
