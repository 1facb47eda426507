"""The words of a drawing: what is written on nodes, edges and loops, in every format alike."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import TYPE_CHECKING

from agentflow.cli.screen import printable

if TYPE_CHECKING:
    from agentflow.plan.plan import Loop, Plan, PlanEdge, PlanNode

END = -1
AGAIN = "↺"


def name(plan: Plan, index: int) -> str:
    """The id of a node, or ``end``."""
    return "end" if index == END else plain(plan.nodes[index].id)


def work(node: PlanNode) -> str:
    """What a node is: its type and its sources."""
    return plain(" · ".join((node.type, *node.sources)))


def join(node: PlanNode) -> str:
    """What a join waits for; empty for one that waits for everything."""
    if node.join == "n_of":
        return f"join {node.needed} of {node.awaited}"
    return "" if node.join == "all" else f"join {node.join.replace('_', ' ')}"


def when(plan: Plan, edge: PlanEdge) -> str:
    """When an edge is taken; empty for always."""
    if edge.kind == "always":
        return ""
    if edge.kind == "error":
        return "on error"
    if edge.kind == "dispatch":
        key = edge.key if edge.key is not None else name(plan, edge.target)
        return plain(f"{edge.field} is {json.dumps(key, ensure_ascii=False)}")
    return plain(edge.condition or edge.kind)


def bound(loop: Loop) -> str:
    """How often a loop may go round."""
    return f"at most {loop.bound} iteration{'' if loop.bound == 1 else 's'}"


def link(plan: Plan, edge: PlanEdge) -> str:
    """An edge in one line."""
    mark = f"{AGAIN} " if edge.back else ""
    ends = f"{mark}{name(plan, edge.source)} → {name(plan, edge.target)}"
    condition = when(plan, edge)
    return f"{ends}: {condition}" if condition else ends


def summary(plan: Plan) -> str:
    """How large a workflow is and where it begins."""
    counts = [(len(plan.nodes), "node"), (len(plan.edges), "edge"), (len(plan.loops), "loop")]
    sizes = [f"{count} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count]
    return f"{', '.join(sizes)}; begins at {name(plan, plan.start)}"


def plain(text: str) -> str:
    """One line without control characters."""
    return printable(" ".join(text.split()))


def cells(text: str) -> int:
    """How many columns of a terminal, or widths of a letter of fixed width, a text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def wrapped(text: str, width: int, lines: int) -> list[str]:
    """A text on at most ``lines`` lines of ``width`` columns, broken where it reads well.

    What does not fit is left out and ends in an ellipsis.
    """
    found: list[str] = []
    rest = text
    while rest and cells(rest) > width:
        if len(found) == lines - 1:
            return [*found, _fitting(rest, width - 1).rstrip() + "…"]
        head = _fitting(rest, width)
        breaks = [match.end() for match in re.finditer(r"[\s\-_.,/:]+", head)]
        whole = rest[len(head)].isspace() or not breaks or breaks[-1] <= width // 3
        cut = len(head) if whole else breaks[-1]
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*found, rest] if rest or not found else found


def _fitting(text: str, width: int) -> str:
    used = 0
    for position, char in enumerate(text):
        used += _cells(char)
        if used > width:
            return text[: max(1, position)]
    return text
