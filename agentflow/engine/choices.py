"""Evaluating what authors wrote, once: outgoing conditions and the published output."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from agentflow.errors import NoRouteTaken
from agentflow.execution.views import after
from agentflow.plan.plan import Field, Plan, PlanEdge, PlanNode
from agentflow.spec.expressions import Expression, compile_expression
from agentflow.spec.reads import ALWAYS, ON_EDGES, declared_names
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
    neither chose any; never error edges. Raises ConditionError, and NoRouteTaken for a router without
    a way out.
    """
    edges = [plan.edges[index] for index in node.outgoing]
    if _ASKED.isdisjoint([edge.kind for edge in edges]):
        return tuple([edge.index for edge in edges if edge.kind == "always"])
    names = after(seen, fields, node, result, delta)
    read = [fields[read.field] for read in node.reads if read.field in fields]
    types = tuple([(field.name, field.type) for field in read])
    chosen = {edge.index for edge in edges if _holds(plan, edge, names, types)}
    kinds = ("always",) if chosen else ("always", "else")
    taken = tuple([edge.index for edge in edges if edge.kind in kinds or edge.index in chosen])
    if not taken and node.type == "router":
        raise NoRouteTaken(
            f"Router {node.id!r} took no edge: no condition was true, and it has no else edge"
        )
    return taken


_ASKED = frozenset(("cel", "dispatch", "else"))
Types = tuple[tuple[str, str], ...]
"""(name, type) of every field that a node reads."""


def _holds(plan: Plan, edge: PlanEdge, names: dict[str, Json], types: Types) -> bool:
    if edge.kind == "dispatch":
        value = names.get(edge.field or "")
        target = plan.nodes[edge.target].id if edge.target >= 0 else "end"
        return value is not None and value in (edge.key, target)
    if edge.kind != "cel":
        return False
    return _condition(edge.condition or "", types).test(names)


@lru_cache(maxsize=4096)
def _condition(text: str, types: Types) -> Expression:
    return compile_expression(text, {**dict(types), **ALWAYS, **ON_EDGES})


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
