"""What executions wait for, and how it is answered, for Flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agentflow.errors import Conflict, InvalidInput, NotFound

if TYPE_CHECKING:
    from agentflow.plan.plan import Plan, PlanNode
    from agentflow.store.tenant import TenantStore
    from agentflow.store.waits import Wait

Json = Any


class Resumed(msgspec.Struct, frozen=True):
    """An answer or a signal that was taken: the wait it is for, None where a signal is kept for a wait
    that has not begun."""

    execution_id: str
    wait_id: str | None


async def open_waits(store: TenantStore, execution_id: str) -> tuple[dict[str, Json], ...]:
    """What an execution waits for at present, oldest first, as people see it."""
    from agentflow.execution.views import timestamp

    return tuple(
        {
            "wait_id": wait.wait_id,
            "step": wait.step,
            "node_id": wait.node_id,
            "kind": wait.kind,
            "signal": wait.signal,
            "prompt": wait.prompt,
            "form": wait.form,
            "assignees": list(wait.assignees),
            "due_at": None if wait.due_at is None else timestamp(wait.due_at),
            "created_at": timestamp(wait.created_at),
        }
        for wait in await store.waits(execution_id)
        if wait.open
    )


async def answer(
    store: TenantStore,
    plan: Plan,
    execution_id: str,
    data: Json,
    by: str,
    *,
    wait_id: str | None = None,
    node_id: str | None = None,
) -> Resumed:
    """Answer the wait of this name, or the open one of this node.

    Raises NotFound, Conflict, InvalidInput (the answer does not fit), StoreUnavailable.
    """
    wait = _meant(plan, await store.waits(execution_id), wait_id, node_id)
    if wait.kind == "timer":
        raise InvalidInput(f"Wait {wait.wait_id!r} is for a time; nobody can answer it")
    if not wait.open:
        how = "was answered before" if wait.answered_at is not None else "has expired or ended"
        raise Conflict(f"Wait {wait.wait_id!r} {how}")
    _check_fit(plan, plan.node(wait.node_id), wait.form, data)
    await store.answer(execution_id, wait.wait_id, data, by)
    return Resumed(execution_id, wait.wait_id)


async def signal(
    store: TenantStore, plan: Plan, execution_id: str, name: str, data: Json, by: str
) -> Resumed:
    """Send a signal to the oldest open wait for it, or have it kept for the next one that begins.

    Raises NotFound, Conflict, InvalidInput (the payload does not fit its field), StoreUnavailable.
    """
    nodes = [node for node in plan.nodes if node.type == "wait" and node.options.get("signal")]
    waiting = [node for node in nodes if node.options["signal"] == name]
    if not waiting:
        names = ", ".join(sorted({repr(node.options["signal"]) for node in nodes})) or "none"
        raise NotFound(
            f"The workflow of this execution waits for no signal {name!r}; its signals are: {names}"
        )
    for node in waiting:
        _check_fit(plan, node, None, data)
    wait_id = await store.signal(
        execution_id,
        name,
        data,
        by,
        nodes=[node.id for node in waiting],
        repeated=[node.id for node in waiting if node.loops],
    )
    return Resumed(execution_id, wait_id)


def _meant(plan: Plan, waits: list[Wait], wait_id: str | None, node_id: str | None) -> Wait:
    """The wait that is meant. Raises NotFound, Conflict, InvalidInput."""
    if wait_id is not None:
        found = [wait for wait in waits if wait.wait_id == wait_id]
        if not found:
            raise NotFound(f"This execution has no wait {wait_id!r}")
        return found[0]
    if node_id not in plan.ids:
        raise NotFound(f"The workflow of this execution has no node {node_id!r}")
    of_node = [wait for wait in waits if wait.node_id == node_id]
    if not of_node:
        raise NotFound(f"Node {node_id!r} does not wait in this execution, or has not begun to")
    still_open = [wait for wait in of_node if wait.open]
    if len(still_open) > 1:
        names = ", ".join(wait.wait_id for wait in still_open)
        raise InvalidInput(f"Node {node_id!r} has several open waits; name one as wait_id: {names}")
    return still_open[0] if still_open else of_node[-1]


def _check_fit(plan: Plan, node: PlanNode, form: Json, data: Json) -> None:
    """Raises InvalidInput."""
    from agentflow.engine.evaluation import require_fit
    from agentflow.spec.jsonschema import compile_schema

    if form is not None:
        wrong = compile_schema(form).problems(data, limit=5)
        if wrong:
            raise InvalidInput(f"data does not fit the form: {'; '.join(wrong)}"[:1000])
    if node.output_key is not None:
        fields = {field.name: field for field in plan.fields}
        require_fit(fields, node, {node.output_key: data})
