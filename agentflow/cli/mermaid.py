"""A workflow as a Mermaid flowchart.

Nodes are called by number, so no id can be a word of the language; every text is quoted, and what
Mermaid or Markdown could read as more than text is written as a character code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from agentflow.cli import captions

if TYPE_CHECKING:
    from agentflow.plan.plan import Loop, Plan, PlanEdge, PlanNode

END = -1
SHAPES = {
    "input": ("([", "])"),
    "router": ("{{", "}}"),
    "db": ("[(", ")]"),
    "http": ("[/", "/]"),
    "aggregator": ("[[", "]]"),
    "map": ("[[", "]]"),
    "human": ("(", ")"),
    "wait": ("(", ")"),
}
"""What surrounds a node's text, by type; all others are rectangles."""
_PLAIN = re.compile(r"[A-Za-z0-9 ,'()=/!?]|(?<=[A-Za-z0-9])[-_.](?=[A-Za-z0-9])|[^\x00-\x7f°¶]")
_LIST = re.compile(r"^(\s*\d+)\)")
_DIRECTION = re.compile(r"(?<=direction) +(?=TB|BT|RL|LR|TD)")
"""Mermaid reads a line with these two words as a command, even where they are quoted."""


def as_mermaid(plan: Plan) -> str:
    """The flowchart, from the top down."""
    lines = ["flowchart TD", *_nodes(plan)]
    if any(edge.target == END for edge in plan.edges):
        lines.append('    finish(("end"))')
    lines += (f"    {_edge(plan, edge)}" for edge in plan.edges)
    return "\n".join(lines)


def _nodes(plan: Plan) -> Iterator[str]:
    """A line per node, inside the loops it belongs to."""
    inside: dict[int, list[PlanNode]] = {}
    for node in (plan.nodes[index] for index in plan.order):
        inside.setdefault(node.loops[-1] if node.loops else -1, []).append(node)
    within: dict[int, list[Loop]] = {}
    for loop in plan.loops:
        within.setdefault(loop.parent, []).append(loop)
    yield from (f"    {_node(node)}" for node in inside.get(-1, ()))
    work: list[tuple[int, Loop | None]] = [(1, loop) for loop in reversed(within.get(-1, []))]
    while work:
        depth, found = work.pop()
        if found is None:
            yield "    " * depth + "end"
            continue
        title = text([f"{captions.AGAIN} {captions.bound(found)}"])
        yield "    " * depth + f'subgraph loop{found.index}["{title}"]'
        pad = "    " * (depth + 1)
        yield from (f"{pad}{_node(node)}" for node in inside.get(found.index, ()))
        work.append((depth, None))
        work += [(depth + 1, loop) for loop in reversed(within.get(found.index, []))]


def _node(node: PlanNode) -> str:
    opens, closes = SHAPES.get(node.type, ("[", "]"))
    lines = [captions.plain(node.id), captions.work(node), captions.join(node)]
    return f'n{node.index}{opens}"{text(line for line in lines if line)}"{closes}'


def _edge(plan: Plan, edge: PlanEdge) -> str:
    arrow = "==>" if edge.back else "-->"
    if edge.kind == "error":
        arrow = "-.->"
    mark = f"{captions.AGAIN} " if edge.back else ""
    label = f"{mark}{captions.when(plan, edge)}".strip()
    shown = f'|"{text([label])}"|' if label else ""
    target = "finish" if edge.target == END else f"n{edge.target}"
    return f"n{edge.source} {arrow}{shown} {target}"


def text(lines: Iterable[str]) -> str:
    """Lines of text for between quotes."""
    return "<br/>".join(_escaped(line) for line in lines)


def _escaped(line: str) -> str:
    codes = {'"': "#quot;"}
    found = (
        char if _PLAIN.match(line, at) else codes.get(char, f"#{ord(char)};")
        for at, char in enumerate(line)
    )
    return _DIRECTION.sub("#32;", _LIST.sub(r"\1#41;", "".join(found)))


def in_ascii(drawing: str) -> str:
    """The same flowchart for an output that can hold nothing else."""
    return "".join(char if char.isascii() else f"#{ord(char)};" for char in drawing)
