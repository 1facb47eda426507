"""``agentflow graph``: the shape of a workflow, drawn in the terminal, as Mermaid, SVG or JSON."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import captions, options, validate
from agentflow.cli.screen import Format, Screen

if TYPE_CHECKING:
    from agentflow.plan.plan import Plan

Json = Any


class Drawing(StrEnum):
    """How the graph is shown."""

    text = "text"
    mermaid = "mermaid"
    svg = "svg"
    json = "json"


ENDINGS = {
    ".mmd": Drawing.mermaid,
    ".mermaid": Drawing.mermaid,
    ".svg": Drawing.svg,
    ".json": Drawing.json,
}
"""What a file's name says about its format; any other name says text."""


def graph(
    context: typer.Context,
    file: options.SpecFile,
    format: Annotated[
        Drawing | None,
        typer.Option(
            "--format",
            help="text for people, mermaid and svg for pages, json for tools. "
            "By default as --out ends (.mmd, .svg, .json), else text.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it to this file.", dir_okay=False)
    ] = None,
    output: options.Output = Format.table,
) -> None:
    """Draw a workflow."""
    from agentflow.plan.compile import compile_plan

    screen = options.screen(context, output)
    if out is not None:
        _refuse(out, file)
    _, checked = validate.accepted(screen, file)
    plan = compile_plan(checked.normalized or {})
    if format is None:
        format = ENDINGS.get(out.suffix.lower(), Drawing.text) if out else Drawing.text
    if out is not None:
        _write(screen, out, _drawn(plan, format, None))
    if screen.structured or (format is Drawing.json and out is None):
        screen.document(as_json(plan))
    elif out is None:
        screen.text(_drawn(plan, format, screen))


def _drawn(plan: Plan, format: Drawing, screen: Screen | None) -> str:
    """The drawing, for a file in UTF-8, or for what this screen can show."""
    from agentflow.cli import drawing, mermaid, svg

    encoding = (screen.out.encoding if screen else None) or "utf-8"
    able = drawing.can_draw(encoding)
    if format is Drawing.json:
        return json.dumps(as_json(plan), indent=2, ensure_ascii=False)
    if format is Drawing.svg:
        found = svg.as_svg(plan)
        return found if able else found.encode("ascii", "xmlcharrefreplace").decode()
    if format is Drawing.mermaid:
        found = mermaid.as_mermaid(plan)
        return found if able else mermaid.in_ascii(found)
    on_terminal = screen is not None and screen.out.isatty()
    found = drawing.as_text(plan, get_terminal_size().columns if on_terminal else drawing.WIDTH)
    return found if able else drawing.in_ascii(found, encoding)


def _refuse(out: Path, file: str) -> None:
    """Raises a usage error for a place that no drawing should be written to."""
    if not out.exists():
        return
    if not out.is_file():
        raise typer.BadParameter(f"--out {out} is not a regular file; name one, or a new one.")
    if file != "-" and Path(file).exists() and out.samefile(file):
        raise typer.BadParameter(f"--out {out} is the workflow itself; name another file.")


def _write(screen: Screen, out: Path, text: str) -> None:
    replaced = out.exists()
    try:
        out.write_text(text.rstrip("\n") + "\n", encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"--out {out} cannot be written: {error.strerror}.") from None
    screen.say(f"{'Replaced' if replaced else 'Written to'} {out}")


def as_json(plan: Plan) -> Json:
    """Nodes in canonical order, edges, and loops."""
    nodes = [
        {
            "id": node.id,
            "type": node.type,
            "placement": node.placement,
            "sources": list(node.sources),
            "join": {"n_of": node.needed} if node.join == "n_of" else node.join,
            "loops": list(node.loops),
        }
        for node in (plan.nodes[index] for index in plan.order)
    ]
    edges = [
        {
            "from": plan.nodes[edge.source].id,
            "to": captions.name(plan, edge.target),
            "kind": edge.kind,
            "condition": captions.when(plan, edge) or None,
            "back": edge.back,
        }
        for edge in plan.edges
    ]
    loops = [
        {
            "entry": plan.nodes[loop.entry].id,
            "members": [plan.nodes[member].id for member in loop.members],
            "parent": loop.parent if loop.parent >= 0 else None,
            "max_iterations": loop.bound,
        }
        for loop in plan.loops
    ]
    return {
        "name": plan.name,
        "content_hash": plan.content_hash,
        "start_node": plan.nodes[plan.start].id,
        "nodes": nodes,
        "edges": edges,
        "loops": loops,
    }
