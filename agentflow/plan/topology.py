"""The graph of a plan: canonical order, loops, causal past, and who can have written what."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from agentflow.plan.plan import END, OUTSIDE, Loop, PlanEdge
from agentflow.spec import graph


class Topology:
    """Order, loops and past of a plan's nodes, by node index.

    ``edges``: those given, with their place among the loops. ``order``: indices in canonical order;
    ``rank``: index -> position in it. ``around``: index -> the loops around a node, outermost first.
    ``past`` of a node is its causal past where every join is ``all``: all nodes upstream of it.
    """

    def __init__(self, size: int, edges: Sequence[PlanEdge], start: int, bound: int) -> None:
        self.targets: list[list[int]] = [[] for _ in range(size)]
        self.incoming: list[list[int]] = [[] for _ in range(size)]
        self.outgoing: list[list[int]] = [[] for _ in range(size)]
        for edge in edges:
            self.outgoing[edge.source].append(edge.index)
            if edge.target != END:
                self.targets[edge.source].append(edge.target)
                self.incoming[edge.target].append(edge.index)
        arranged = graph.arrange(self.targets, start)
        self.order = arranged.order
        self.rank = [0] * size
        for position, node in enumerate(self.order):
            self.rank[node] = position
        self._regions = arranged.regions
        self.around = graph.around(arranged.regions, size)
        entries = [region.entry for region in arranged.regions]
        self.edges = tuple(self._placed(edge, entries) for edge in edges)
        self.loops = self._loops(arranged.regions, bound)
        ranked = [[] for _ in range(size)]  # type: list[list[int]]
        for node, following in enumerate(self.targets):
            ranked[self.rank[node]] = [self.rank[target] for target in following]
        self._past = graph.ancestors(ranked, range(size))
        self._memo: dict[int, tuple[int, ...]] = {}

    def place(self, node: int) -> tuple[int, ...]:
        """The ranks of the entries of the loops around a node, outermost first, then its own."""
        entries = (self.loops[loop].entry for loop in self.around[node])
        return (*(self.rank[entry] for entry in entries), self.rank[node])

    def awaited(self, node: int) -> int:
        """How many incoming edges the join of a node waits for."""
        return sum(1 for index in self.incoming[node] if not self.edges[index].back)

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
            first = max(0, (mask & -mask).bit_length() - 1)  # few bits, all far up, are the rule
            found = tuple([self.order[first + place] for place in graph.bits(mask >> first)])
            self._memo[mask] = found
        return found

    @cached_property
    def dominators(self) -> list[int]:
        """Node -> the nearest node that lies on every way to it from the start, or -1.

        Cooper, Harvey, Kennedy: A Simple, Fast Dominance Algorithm (2001), on the forward edges.
        """
        found = [-1] * len(self.order)
        for node in self.order:
            sources = [self.edges[index].source for index in self.incoming[node]]
            nearest = -1
            for source in sources:
                if self.rank[source] < self.rank[node]:
                    nearest = source if nearest < 0 else self._common(found, nearest, source)
            found[node] = nearest
        return found

    def _common(self, dominators: list[int], a: int, b: int) -> int:
        while a != b and a >= 0 and b >= 0:
            if self.rank[a] > self.rank[b]:
                a = dominators[a]
            else:
                b = dominators[b]
        return a if a == b else -1

    def branch(self, join: int) -> tuple[int, ...]:
        """The nodes that lead only to this join, in the same iteration, in canonical order."""
        return tuple(sorted(self._branches.to(join), key=self.rank.__getitem__))

    @cached_property
    def _branches(self) -> graph.Branches:
        targets = [[self.edges[edge].target for edge in outgoing] for outgoing in self.outgoing]
        return graph.Branches(targets, self._regions)

    def _placed(self, edge: PlanEdge, entries: Sequence[int]) -> PlanEdge:
        around = self.around[edge.source]
        if not around or edge.target == END:
            return edge
        level = OUTSIDE
        for ours, theirs in zip(around, self.around[edge.target], strict=False):
            if ours != theirs:
                break
            level = ours
        back = level != OUTSIDE and entries[level] == edge.target
        return msgspec.structs.replace(edge, level=level, back=back)

    def _loops(self, regions: Sequence[graph.Region], bound: int) -> tuple[Loop, ...]:
        inner = Counter(region.parent for region in regions)
        direct = Counter(around[-1] for around in self.around if around)
        found: list[Loop] = []
        for index, region in enumerate(regions):
            inside = set(region.members)
            leaving = [e for n in region.members for e in self.outgoing[n]]
            found.append(
                Loop(
                    index=index,
                    entry=region.entry,
                    members=tuple(sorted(region.members, key=self.rank.__getitem__)),
                    parent=region.parent,
                    parts=direct[index] + inner[index],
                    back=tuple(sorted(e for e in leaving if self._back_to(e, index))),
                    exits=tuple(sorted(e for e in leaving if self.edges[e].target not in inside)),
                    bound=bound,
                )
            )
        return tuple(found)

    def _back_to(self, edge: int, loop: int) -> bool:
        return self.edges[edge].back and self.edges[edge].level == loop
