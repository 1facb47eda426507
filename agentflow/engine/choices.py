"""Evaluating what authors wrote, once: outgoing conditions and the published output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow.errors import NoRouteTaken
from agentflow.execution.views import after
from agentflow.plan.plan import Field, Plan, PlanEdge, PlanNode
from agentflow.spec.expressions import compile_expression
from agentflow.spec.reads import ON_EDGES, declared_names
from agentflow.spec.templates import resolve_values

Json = Any


def choose(
    plan: Plan,
    fields: Mapping[str, Field],
    node: PlanNode,
    seen: dict[str, Json],
    result: Json,
    delta: dict[str, Json],
) -> tuple[int, ...]:
    """Indices of the outgoing edges to take when this step completes.

    Unconditional edges; those whose condition is true or that the dispatch selects; the else edge when
    neither chose any. Raises ConditionError, and NoRouteTaken for a router without a way out.
    """
    edges = [plan.edges[index] for index in node.outgoing]
    if all(edge.kind == "always" for edge in edges):
        return node.outgoing
    names = after(seen, fields, node, result, delta)
    read = (fields[read.field] for read in node.reads if read.field in fields)
    declared = {**declared_names(read), **ON_EDGES}
    chosen = {edge.index for edge in edges if _holds(plan, edge, names, declared)}
    if not chosen:
        chosen = {edge.index for edge in edges if edge.kind == "else"}
    taken = tuple(edge.index for edge in edges if edge.kind == "always" or edge.index in chosen)
    if not taken and node.type == "router":
        raise NoRouteTaken(
            f"Router {node.id!r} took no edge: no condition was true, and it has no else edge"
        )
    return taken


def _holds(plan: Plan, edge: PlanEdge, names: dict[str, Json], declared: Mapping[str, str]) -> bool:
    if edge.kind == "dispatch":
        value = names.get(edge.field or "")
        target = plan.nodes[edge.target].id if edge.target >= 0 else "end"
        return value is not None and value in (edge.key, target)
    if edge.kind != "cel":
        return False
    return compile_expression(edge.condition or "", declared).test(names)


def publish(plan: Plan, final: dict[str, Json], execution_id: str) -> Json:
    """The published result: ``output`` shaped by the author, else final_output, else the state.

    Raises ExpressionError.
    """
    if plan.output is None:
        chosen = final.get("final_output")
        return chosen if chosen is not None else final
    names = {
        **final,
        "execution": {"id": execution_id, "attempt": 1, "workflow_id": None, "version": None},
    }
    return resolve_values(plan.output, names, declared_names(plan.fields))
