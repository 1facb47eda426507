"""``agentflow graph``: the shape of a workflow, drawn in the terminal, as Mermaid, or as JSON."""

from __future__ import annotations

import json
from enum import StrEnum
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import drawing, options, validate
from agentflow.cli.screen import Format

if TYPE_CHECKING:
    from agentflow.plan.plan import Plan, PlanEdge

Json = Any
END = -1
WIDTH = 160
"""Columns of a drawing that goes to a file or a pipe."""
MAX_DRAWN = 60


class Drawing(StrEnum):
    """How the graph is shown."""

    text = "text"
    mermaid = "mermaid"
    json = "json"


def graph(
    context: typer.Context,
    file: options.SpecFile,
    format: Annotated[
        Drawing,
        typer.Option("--format", help="text for people, mermaid for pages, json for tools."),
    ] = Drawing.text,
    output: options.Output = Format.table,
) -> None:
    """Draw a workflow."""
    from agentflow.plan.compile import compile_plan

    screen = options.screen(context, output)
    _, checked = validate.accepted(screen, file)
    plan = compile_plan(checked.normalized or {})
    if screen.structured or format is Drawing.json:
        screen.document(as_json(plan))
    elif format is Drawing.mermaid:
        screen.text(as_mermaid(plan))
    else:
        width = get_terminal_size().columns if screen.out.isatty() else WIDTH
        screen.text(as_text(plan, width))


def as_text(plan: Plan, width: int = WIDTH) -> str:
    """The drawing, and below it the conditions."""
    order = list(plan.order)
    place = {index: number for number, index in enumerate(order)}
    ids = [plan.nodes[index].id for index in order]
    labels = [f"{plan.nodes[index].id} · {plan.nodes[index].type}" for index in order]
    edges = [(place[edge.source], place[edge.target]) for edge in plan.edges if edge.target != END]
    start = place[plan.start]
    drawn = drawing.draw(labels, edges, start, width) if len(ids) <= MAX_DRAWN else None
    text = drawn or drawing.outline(ids, edges, start)
    notes = [
        f"{plan.nodes[edge.source].id} → {_target(plan, edge)}: {_when(plan, edge)}"
        for edge in plan.edges
        if edge.kind != "always"
    ]
    return text + ("\n\n" + "\n".join(notes) if notes else "")


def as_mermaid(plan: Plan) -> str:
    """A Mermaid flowchart."""
    lines = ["flowchart TD"]
    for node in plan.nodes:
        lines.append(f'    n{node.index}["{_quoted(node.id)}<br/>{_quoted(node.type)}"]')
    if any(edge.target == END for edge in plan.edges):
        lines.append("    fin((end))")
    for edge in plan.edges:
        target = "fin" if edge.target == END else f"n{edge.target}"
        label = "" if edge.kind == "always" else f'|"{_quoted(_when(plan, edge))}"|'
        lines.append(f"    n{edge.source} -->{label} {target}")
    return "\n".join(lines)


def as_json(plan: Plan) -> Json:
    """Nodes, in canonical order, and edges."""
    nodes = [
        {"id": node.id, "type": node.type, "placement": node.placement}
        for node in (plan.nodes[index] for index in plan.order)
    ]
    edges = [
        {
            "from": plan.nodes[edge.source].id,
            "to": _target(plan, edge),
            "kind": edge.kind,
            "condition": None if edge.kind == "always" else _when(plan, edge),
        }
        for edge in plan.edges
    ]
    return {
        "name": plan.name,
        "content_hash": plan.content_hash,
        "start_node": plan.nodes[plan.start].id,
        "nodes": nodes,
        "edges": edges,
    }


def _target(plan: Plan, edge: PlanEdge) -> str:
    return "end" if edge.target == END else plan.nodes[edge.target].id


def _when(plan: Plan, edge: PlanEdge) -> str:
    if edge.kind == "dispatch":
        return f"{edge.field} is {json.dumps(edge.key or _target(plan, edge))}"
    return edge.condition or edge.kind


def _quoted(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace("\n", " ")
