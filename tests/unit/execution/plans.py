"""Random plans, through the real compiler: loops, nested loops, joins and policies of every kind.

A region is an entry and, behind it, parts in order; a part is a node or a loop, which is a region with
edges back to its entry. Edges lead to the head of a later part, so a loop has one entry; they may leave
several loops at once.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec

from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan
from tests.unit.execution.machine import HUMAN, map_node

Json = Any
READS = "{seen} {outputs} {errors} {execution_path} {tokens_used} {cost}"


class _Part(msgspec.Struct):
    head: str
    members: list[str]


def draw_plan(chance: Random, races: bool) -> Plan:
    """A plan; without ``races`` one whose steps and results do not depend on time."""
    return _Author(chance, races).plan()


class _Author:
    def __init__(self, chance: Random, races: bool) -> None:
        self.chance = chance
        self.races = races
        self.nodes: dict[str, Json] = {}
        self.edges: list[Json] = []
        self.loops: list[_Part] = []

    def plan(self) -> Plan:
        whole = self.region(self.chance.randint(1, 6), 0)
        for name in whole.members:
            self.join(name)
            self.policy(name, whole)
        settings: dict[str, Json] = {
            "max_iterations": self.chance.randint(1, 3),
            "max_parallel": self.chance.choice((1, 2, 3, 1000)),
        }
        if self.races and self.chance.random() < 0.1:
            settings["on_error"] = self.chance.choice(("skip", "continue"))
        return compile_plan(
            {
                "start_node": whole.head,
                "nodes": [{"id": name, **node} for name, node in self.nodes.items()],
                "edges": self.edges,
                "sources": [{"id": "model", "kind": "llm", "config": {"provider": "local"}}],
                "state": {"seen": {"type": "list", "merge": "concat", "default": []}},
                "settings": settings,
            }
        )

    def region(self, size: int, depth: int) -> _Part:
        entry = self.node()
        parts = [_Part(entry, [entry])]
        for _ in range(size):
            looped = depth < 2 and self.chance.random() < 0.3
            part = self.loop(depth + 1) if looped else self.plain()
            for before in self.some(parts):
                self.edge(self.chance.choice(before.members), part.head)
            parts.append(part)
        return _Part(entry, [name for part in parts for name in part.members])

    def plain(self) -> _Part:
        name = self.node()
        return _Part(name, [name])

    def loop(self, depth: int) -> _Part:
        part = self.region(self.chance.randint(0, 2), depth)
        for name in self.chance.sample(
            part.members, self.chance.randint(1, min(2, len(part.members)))
        ):
            self.edge(name, part.head)
        self.loops.append(part)
        return part

    def node(self) -> str:
        name = f"n{len(self.nodes)}"
        kind = self.chance.random()
        metadata = {"source": "model", "prompt": READS, "output_key": "seen"}
        node: Json = {"type": "llm", "metadata": metadata}
        if kind < 0.3:
            node = {
                "type": "aggregator",
                "metadata": {"strategy": "template", "template": READS, "output_key": "seen"},
            }
        elif kind < 0.4:
            node = dict(HUMAN)
        elif kind < 0.5:
            failed = self.chance.choice(("fail", "collect", "skip") if self.races else ("skip",))
            node = map_node(max_concurrency=self.chance.randint(1, 3), on_item_error=failed)
        if self.races and self.chance.random() < 0.2:
            node["timeout_s"] = 5.0
        if self.races and self.chance.random() < 0.1:
            node["effects"] = "once"
        self.nodes[name] = node
        return name

    def edge(self, source: str, target: str) -> None:
        self.edges.append({"from": source, "to": target})
        if self.chance.random() < 0.1:
            self.edges.append({"from": source, "to": "end"})

    def join(self, name: str) -> None:
        incoming = sum(edge["to"] == name for edge in self.edges)
        if self.races and incoming > 1 and self.chance.random() < 0.6:
            kinds = ("any", "first_success", {"n_of": self.chance.randint(1, incoming)})
            self.nodes[name]["join"] = self.chance.choice(kinds)

    def policy(self, name: str, whole: _Part) -> None:
        """What a failure leads to; back to the entry of a loop around it, or on to a later part."""
        kind = self.chance.random()
        if kind < 0.3:
            self.nodes[name]["on_error"] = self.chance.choice(("skip", "continue"))
        elif kind < 0.45:
            heads = [loop.head for loop in self.loops if name in loop.members]
            if heads:
                self.nodes[name]["on_error"] = {"goto": self.chance.choice(heads)}
        elif kind < 0.6:
            inside = {member for loop in self.loops for member in loop.members}
            later = whole.members[whole.members.index(name) + 1 :]
            targets = [other for other in later if other not in inside]
            if targets:
                self.nodes[name]["on_error"] = {"goto": self.chance.choice(targets)}

    def some(self, parts: list[_Part]) -> list[_Part]:
        first = self.chance.choice(parts)
        return [part for part in parts if part is first or self.chance.random() < 0.35]
