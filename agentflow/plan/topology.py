"""The graph of a plan: canonical order, causal past, and who can have written what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentflow.plan.plan import END, PlanEdge
from agentflow.spec import graph


class Topology:
    """Order and past of a plan's nodes, by node index.

    ``order``: indices in canonical order; ``rank``: index -> position in it. ``past`` of a node is
    its causal past where every join is ``all``: all nodes upstream of it.
    """

    def __init__(self, size: int, edges: Sequence[PlanEdge]) -> None:
        self.targets: list[list[int]] = [[] for _ in range(size)]
        self.incoming: list[list[int]] = [[] for _ in range(size)]
        self.outgoing: list[list[int]] = [[] for _ in range(size)]
        for edge in edges:
            self.outgoing[edge.source].append(edge.index)
            if edge.target != END:
                self.targets[edge.source].append(edge.target)
                self.incoming[edge.target].append(edge.index)
        self.order = tuple(graph.canonical_order(self.targets))
        self.rank = [0] * size
        for position, node in enumerate(self.order):
            self.rank[node] = position
        ranked = [[] for _ in range(size)]  # type: list[list[int]]
        for node, following in enumerate(self.targets):
            ranked[self.rank[node]] = [self.rank[target] for target in following]
        self._past = graph.ancestors(ranked, range(size))
        self._memo: dict[int, tuple[int, ...]] = {}

    @property
    def loops(self) -> list[list[int]]:
        """The components that hold a cycle."""
        return graph.loops(self.targets)

    def mask(self, nodes: Iterable[int]) -> int:
        """A set of nodes as bits, by rank."""
        found = 0
        for node in nodes:
            found |= 1 << self.rank[node]
        return found

    def past(self, node: int) -> int:
        """The causal past of a node as bits, by rank."""
        return self._past[self.rank[node]]

    def nodes(self, mask: int) -> tuple[int, ...]:
        """The nodes of a set, in canonical order. Equal sets give the same tuple."""
        found = self._memo.get(mask)
        if found is None:
            found = tuple(self.order[position] for position in graph.bits(mask))
            self._memo[mask] = found
        return found
