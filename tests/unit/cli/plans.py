"""Plans to draw: compiled from random workflows with branches, nested loops, goto and every join."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan
from agentflow.spec.check import check

Json = Any
ROOT = Path(__file__).resolve().parents[3]
NASTY = [
    "end", "subgraph", "graph", "direction LR", "click n0 href", "style x:#f;", "classDef a:#f;",
    '"', "'", "`", "[", "]", "{", "}", "(", ")", "<", ">", "</title>", "<br/>", "]]>", "<!--", "&",
    "&amp;", "#", "#quot;", "#35;", "|", "-->", "%%", "%%{init: {}}%%", "\\n", "\\", "$$x$$", "@{",
    "1. a", "1) a", "- a", "_i_", "**b**", "http://x.y", "é", "日本語", "😀", "\n", "\t", " ", "",
    "\x00", "\x07", "\x1b[31m", "\ufffe", "\ud800", "\u202e", "fa:fa-car", "a", "b" * 90,
]  # fmt: skip
texts = st.lists(st.sampled_from(NASTY) | st.text(max_size=8), max_size=4).map("".join)


def compiled(document: Json) -> Plan:
    """The plan of a workflow that has no errors."""
    checked = check(document)
    assert checked.errors == ()
    return compile_plan(checked.normalized)


def example(name: str) -> Plan:
    """The plan of a file of the repository."""
    return compiled(json.loads((ROOT / name).read_text()))


class _Maker:
    """Draws one workflow: blocks in a row, with side branches and shortcuts; a block may be a loop."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.nodes: list[Json] = []
        self.edges: list[Json] = []

    def node(self) -> str:
        name = f"n{len(self.nodes)}"
        kind = self.draw(st.sampled_from(["input", "router", "aggregator"]))
        routes = {"routes": [{"intent": "a", "keywords": ["a"]}]} if kind == "router" else {}
        self.nodes.append({"id": name, "type": kind, "metadata": routes})
        return name

    def edge(self, source: str, target: str, condition: str | None = None) -> None:
        found = {"from": source, "to": target}
        self.edges.append(found | ({"condition": condition} if condition else {}))

    def row(self, depth: int) -> tuple[str, str]:
        """Blocks one after another; the first node and the last."""
        first = before = self.node()
        passed = [first]
        for _ in range(self.draw(st.integers(0, 3))):
            blocks = [self.single, self.wide, self.loop if depth else self.single]
            entry, leave = self.draw(st.sampled_from(blocks))(depth)
            self.edge(before, entry)
            if self.draw(st.booleans()):
                self.edge(self.draw(st.sampled_from(passed)), entry, "cost < 1.0")
            before = leave
            passed.append(leave)
        return first, before

    def single(self, depth: int) -> tuple[str, str]:
        name = self.node()
        return name, name

    def loop(self, depth: int) -> tuple[str, str]:
        entry, leave = self.row(depth - 1)
        self.edge(leave, entry, "cost < 0.5")
        after = self.node()
        self.edge(leave, after, "else")
        return entry, after

    def wide(self, depth: int) -> tuple[str, str]:
        entry, leave = self.node(), self.node()
        for _ in range(self.draw(st.integers(1, 4))):
            middle = self.node()
            self.edge(entry, middle)
            self.edge(middle, leave)
        self.nodes[-1]["on_error"] = {"goto": leave}
        self.nodes[int(leave[1:])]["join"] = self.draw(
            st.sampled_from(["all", "any", "first_success", {"n_of": 1}])
        )
        return entry, leave


@st.composite
def workflows(draw: st.DrawFn) -> Json:
    """Workflows without errors."""
    maker = _Maker(draw)
    start, last = maker.row(depth=2)
    if draw(st.booleans()):
        maker.edge(last, "end")
    return {"nodes": maker.nodes, "edges": maker.edges, "start_node": start}


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans of such workflows."""
    return compiled(draw(workflows()))


@st.composite
def nasty_plans(draw: st.DrawFn) -> Plan:
    """The same, with ids, types, sources and conditions that no checker would let pass."""
    plan = draw(plans())
    nodes = tuple(
        msgspec.structs.replace(
            node, id=draw(texts), type=draw(texts | st.just(node.type)), sources=(draw(texts),)
        )
        for node in plan.nodes
    )
    edges = tuple(
        msgspec.structs.replace(edge, kind="cel", condition=draw(texts))
        if draw(st.booleans())
        else edge
        for edge in plan.edges
    )
    return msgspec.structs.replace(plan, name=draw(texts), nodes=nodes, edges=edges)
