"""A fork: a new execution that begins with the recorded steps of another one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from agentflow.errors import InvalidInput, NotSupported
from agentflow.execution.events import ExecutionCreated, StepCompleted
from agentflow.execution.journal import ExecutionRecord, Submission
from agentflow.ids import new_id
from agentflow.plan.plan import Plan

if TYPE_CHECKING:
    from agentflow.flow.history import History

Json = Any


class Fork(msgspec.Struct, frozen=True, kw_only=True):
    """What a fork reuses and what it does anew. ``estimated_cost``: what the steps that are done anew
    cost in the original, in US dollars; ``saved_cost``: what the reused ones did. A step that the
    original never came to is in neither."""

    submission: Submission
    plan: Plan
    reused_steps: tuple[str, ...]
    repeated_steps: tuple[str, ...]
    estimated_cost: float
    saved_cost: float


async def fork(
    history: History,
    record: ExecutionRecord,
    from_node: str,
    state: dict[str, Json],
    other: tuple[dict[str, Json], Plan] | None,
) -> Fork:
    """What to submit for a fork of an execution. ``other``: another workflow for it.

    Raises InvalidInput, NotSupported.
    """
    from agentflow.engine.forking import reusable
    from agentflow.execution.views import cost, executed

    spec, plan = other or await history.document(record.id)
    if plan.unsupported:
        raise NotSupported("; ".join(plan.unsupported))
    if from_node not in plan.ids:
        known = ", ".join(node.id for node in plan.nodes[:20])
        raise InvalidInput(f"The workflow has no node {from_node!r}; its nodes are: {known}")
    submission = Submission(
        execution_id=new_id("exec"),
        tenant=record.tenant,
        content_hash=plan.content_hash,
        spec=spec,
        initial_state=overridden(record.initial_state, state),
        metadata=record.metadata,
        workflow_name=plan.name,
        priority=record.priority,
        forked_from=record.id,
    )
    folding, events = await history.whole(record.id)
    created = ExecutionCreated(
        at=time.time(),
        execution_id=submission.execution_id,
        tenant=record.tenant,
        content_hash=plan.content_hash,
        initial_state=submission.initial_state,
        metadata=record.metadata,
    )
    copies = reusable(folding, events, plan, created, from_node)
    reused = {event.step for event in copies if isinstance(event, StepCompleted)}
    done = executed(folding.state)
    repeated = [step for step in done if step.key not in reused]
    return Fork(
        submission=msgspec.structs.replace(submission, reused=copies),
        plan=plan,
        reused_steps=tuple(step.key for step in done if step.key in reused),
        repeated_steps=tuple(step.key for step in repeated),
        estimated_cost=cost(repeated),
        saved_cost=cost(step for step in done if step.key in reused),
    )


def overridden(initial_state: dict[str, Json], values: dict[str, Json]) -> dict[str, Json]:
    """The initial state with these values at their dotted paths. Raises InvalidInput."""
    found = dict(initial_state)
    for path, value in values.items():
        place, *names = path.split(".")
        if not all((place, *names)):
            raise InvalidInput(f"{path!r} is no path of a field; write field or field.key")
        found[place] = _set(found.get(place), names, value, path)
    return found


def _set(at: Json, names: list[str], value: Json, path: str) -> Json:
    if not names:
        return value
    if at is not None and not isinstance(at, dict):
        raise InvalidInput(f"{path!r} leads into a value that is no object; set the whole of it")
    inside = at or {}
    return {**inside, names[0]: _set(inside.get(names[0]), names[1:], value, path)}
