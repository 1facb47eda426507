"""Random workflows, as their authors would write them: JSON documents that pass the checker.

A region is an entry and, behind it, parts in order; a part is a node or a loop, which is a region with
edges back to its entry. Edges lead from any node of a part to the head of a later part, so a loop has
one entry, and edges may leave several loops at once.
"""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
from hypothesis import strategies as st

Json = Any
LOCAL = {"provider": "local", "model": "smollm2"}
RULES = ("last", "first", "sum", "concat", "merge", "max", "min")
TYPES = {"sum": "int", "max": "int", "min": "int", "concat": "list", "merge": "object"}
EVERYTHING = (
    "{f_last} {f_first} {f_sum} {f_concat} {f_merge} {f_max} {f_min} {pick} "
    "{outputs} {errors} {execution_path} {tokens_used} {cost}"
)
SOME = ("{f_last} {f_sum} {outputs}", "{f_concat} {f_max} {errors}", "{f_merge} {f_min}", "-")
CONDITIONS = (
    "f_sum % 2 == 0",
    "f_max > 9",
    "size(execution_path) % 3 != 0",
    "int(result) % 3 != 0",
    "size(outputs) % 2 == 1",
    "size(f_concat) < 3",
    "f_min < 15 || f_sum > 4",
    "size(execution_path) / int(result) < 3",
)


class Workflow(msgspec.Struct, frozen=True):
    """A document, the caller's state, and how often each node fails: in one of so many steps."""

    document: dict[str, Json]
    initial_state: dict[str, Json]
    fails: dict[str, int]


def workflows() -> st.SearchStrategy[Workflow]:
    """Workflows that Hypothesis can make simpler."""
    return st.randoms(use_true_random=False).map(make)


def make(chance: Random) -> Workflow:
    """One workflow, a function of what ``chance`` says."""
    return _Author(chance).workflow()


class _Part(msgspec.Struct):
    """What edges may lead to, and from where they may leave."""

    head: str
    members: list[str]


class _Author:
    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.nodes: list[dict[str, Json]] = []
        self.edges: list[dict[str, Json]] = []
        self.fails: dict[str, int] = {}
        self.closed: set[str] = set()
        self.loops: list[_Part] = []
        self.counters: dict[str, Json] = {}
        self.bound = chance.choice((2, 6, 6, 7, 7))
        self.written = [f"f_{rule}" for rule in chance.sample(RULES, 4)]

    def workflow(self) -> Workflow:
        plain = self.chance.random() < 0.2
        whole = self.region(self.chance.randint(6, 9), depth=2 if plain else 0)
        last = self.node("aggregator")
        self.edge(self.chance.choice(whole.members), last)
        for node in whole.members:
            if self.chance.random() < 0.15 and self.open(node):
                self.edge(node, last)
        self.gotos(last)
        settings: dict[str, Json] = {"max_iterations": self.bound}
        if self.chance.random() < 0.2:
            settings["on_error"] = self.policy(last)
        state = {
            f"f_{rule}": {"type": TYPES.get(rule, "any"), "merge": rule, **self.default(rule)}
            for rule in RULES
        }
        document = {
            "name": "generated",
            "start_node": whole.head,
            "nodes": self.nodes,
            "edges": self.edges,
            "state": {
                **state,
                "pick": {"type": "string", "merge": "last", "default": "0"},
                **self.counters,
            },
            "sources": [{"id": "small", "kind": "llm", "config": LOCAL}],
            "settings": settings,
        }
        return Workflow(document, self.initial_state(), self.fails)

    def policy(self, last: str) -> Json:
        """One for all nodes. A ``goto`` does not hold for its own target and a node behind that."""
        policy = self.chance.choice(("skip", "continue", {"goto": last}, {"goto": last}))
        for node in self.nodes:
            if "on_error" not in node and self.chance.random() < 0.15:
                self.fails[node["id"]] = 3
        if isinstance(policy, dict):
            behind = self.node("aggregator", steady=True)
            self.edge(last, behind)
            self.fails[behind] = 4
        return policy

    def default(self, rule: str) -> dict[str, Json]:
        """Fields that conditions name have a value from the start."""
        return {"default": {"sum": 0, "max": 0, "min": 30, "concat": []}.get(rule)}

    def initial_state(self) -> dict[str, Json]:
        given: dict[str, Json] = {"user_input": "Hello", "f_sum": 1, "f_concat": ["given"]}
        given |= {"f_merge": {"k0": "given"}, "f_first": None, "unheard_of": 7}
        given |= {"tokens_used": 5, "cost": 0.5}
        return {name: value for name, value in given.items() if self.chance.random() < 0.3}

    def region(self, size: int, depth: int) -> _Part:
        """An entry and ``size`` parts behind it, joined by edges."""
        entry = self.node(steady=True)
        parts = [_Part(entry, [entry])]
        for _ in range(size):
            loop = depth < 2 and self.chance.random() < (0.4 if depth == 0 else 0.7)
            part = self.loop(depth + 1) if loop else self.plain()
            for before in self.some(parts):
                self.edge(self.leaving(before), part.head)
            parts.append(part)
        return _Part(entry, [node for part in parts for node in part.members])

    def plain(self) -> _Part:
        node = self.node()
        return _Part(node, [node])

    def loop(self, depth: int) -> _Part:
        """A region whose nodes lead back to its entry, and a node behind it where it goes on."""
        part = self.region(self.chance.randint(0, 2), depth)
        turns = self.counter(part.head)
        if self.bound == 2 and self.chance.random() < 0.5:
            self.spec(part.head)["on_error"] = self.chance.choice(
                ("skip", "skip", "skip", "skip", "skip", "continue")
            )
        closing = self.chance.choice([part.head, *filter(self.open, part.members)])
        again = self.chance.choice((f"{turns} % 2 != 0", f"{turns} % 3 != 0", f"{turns} < 4"))
        self.edges.append({"from": closing, "to": part.head, "condition": again})
        self.loops.append(part)
        after = self.node()
        way_out = self.chance.choice(("else", "else", f"{turns} > 1"))
        self.edges.append({"from": closing, "to": after, "condition": way_out})
        self.closed.add(closing)
        for node in part.members:
            if self.chance.random() < 0.15 and self.open(node):
                self.edges.append({"from": node, "to": part.head, "condition": f"{turns} < 5"})
        return _Part(part.head, [*part.members, after])

    def counter(self, entry: str) -> str:
        """A field in which the entry of a loop counts the iterations."""
        name = f"turns_{entry}"
        self.counters[name] = {"type": "int", "merge": "sum", "default": 0}
        self.spec(entry)["metadata"]["output_key"] = name
        return name

    def spec(self, name: str) -> dict[str, Json]:
        return next(node for node in self.nodes if node["id"] == name)

    def node(self, kind: str | None = None, steady: bool = False) -> str:
        """A node; a steady one is no router and seldom fails."""
        name = f"n{len(self.nodes)}"
        weights = (4, 4, 1, 0 if steady else 1)
        kind = kind or self.chance.choices(("aggregator", "llm", "input", "router"), weights)[0]
        wrote = self.chance.choice([*self.written * 3, "pick"])
        reads = self.chance.choice((EVERYTHING, EVERYTHING, *SOME))
        metadata: dict[str, Json] = {"output_key": wrote}
        if kind == "aggregator":
            metadata |= {"strategy": "template", "template": reads}
        elif kind == "llm":
            metadata |= {"source": "small", "prompt": reads}
        elif kind == "router":
            metadata = {"routes": [{"intent": "a", "keywords": ["hello"]}]}
        node: dict[str, Json] = {"id": name, "type": kind, "metadata": metadata}
        if steady and self.chance.random() < 0.85:
            self.nodes.append(node)
            return name
        if self.chance.random() < 0.17:
            node["on_error"] = self.chance.choice(("continue", "skip"))
            self.fails[name] = self.chance.choice((1, 2, 3, 3))
        elif self.chance.random() < 0.01:
            self.fails[name] = 3
        self.nodes.append(node)
        return name

    def edge(self, source: str, target: str) -> None:
        """An edge with a condition that goes with those its source has."""
        edge: dict[str, Json] = {"from": source, "to": target}
        kind = self.chance.random()
        if kind < 0.15:
            edge["condition"] = self.chance.choice(CONDITIONS)
        elif kind < 0.2:
            edge |= {"condition": "pick", "key": self.chance.choice("01")}
        elif kind < 0.3 and any("condition" in e for e in self.edges if e["from"] == source):
            edge["condition"] = "else"
        self.edges.append(edge)

    def gotos(self, last: str) -> None:
        """Failures that lead on: to the last node, to one that is there for nothing else, or back to
        the entry of a loop around the node."""
        heads = [loop.head for loop in self.loops if self.bound == 2]
        for node in list(self.nodes):
            if node["id"] == last or "on_error" in node:
                continue
            if node["id"] in heads and self.chance.random() < 0.5:  # met at the bound
                node["on_error"] = {"goto": last}
                continue
            if self.chance.random() > 0.18:
                continue
            target, often = last, (1, 2, 3, 4)
            entries = [loop.head for loop in self.loops if node["id"] in loop.members]
            if entries and self.chance.random() < 0.5:
                target, often = self.chance.choice(entries), (2, 3, 4)
            elif self.chance.random() < 0.5:
                target = self.node("aggregator")
                self.edge(target, last)
            node["on_error"] = {"goto": target}
            self.fails[node["id"]] = self.chance.choice(often)

    def leaving(self, part: _Part) -> str:
        return self.chance.choice([node for node in part.members if self.open(node)])

    def open(self, node: str) -> bool:
        """Whether more edges may leave a node."""
        return node not in self.closed

    def some(self, parts: list[_Part]) -> list[_Part]:
        first = self.chance.choice(parts)
        return [part for part in parts if part is first or self.chance.random() < 0.5]
