"""What every node reads, and who in its causal past may have written it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agentflow.plan.plan import PlanEdge, Read
from agentflow.plan.topology import Topology
from agentflow.spec.kinds.base import CEL, Text
from agentflow.spec.reads import NOT_FIELDS, ON_EDGES, declared_names, uses
from agentflow.spec.state import StateField

SHORT = 64
"""Lists of writers up to this length are kept whole."""


class Reader:
    """Resolves the reads of all nodes of one plan. ``texts`` and ``writes`` are by node index;
    ``ids``: node id -> index; ``certain``: whether a node, when what follows it runs, has
    surely written a value into the first of its fields."""

    def __init__(
        self,
        texts: Sequence[tuple[Text, ...]],
        writes: Sequence[tuple[str, ...]],
        fields: Mapping[str, StateField],
        edges: Sequence[PlanEdge],
        topology: Topology,
        ids: Mapping[str, int],
        certain: Sequence[bool],
    ) -> None:
        self._ids = ids
        self._certain = certain
        self._writes = writes
        self._shadows: dict[tuple[int, str], int] = {}
        self._texts = texts
        self._fields = fields
        self._topology = topology
        self._names = declared_names(fields.values())
        self._edge_names = {**self._names, **ON_EDGES}
        self._writers: dict[str, int] = {}
        for node, written in enumerate(writes):
            for field in written:
                bit = 1 << topology.rank[node]
                self._writers[field] = self._writers.get(field, 0) | bit
        self._edges: list[list[PlanEdge]] = [[] for _ in texts]
        for edge in edges:
            self._edges[edge.source].append(edge)

    def reads(self) -> list[tuple[Read, ...]]:
        """Node index -> its reads, sorted by field."""
        return [self._of(node) for node in range(len(self._texts))]

    def _of(self, node: int) -> tuple[Read, ...]:
        masks: dict[str, int] = {}
        past = self._topology.past(node)
        for path in self._paths(node):
            for field, writers in self._resolve(path):
                masks[field] = masks.get(field, 0) | (writers & past)
        return tuple(
            Read(field, self._topology.nodes(self._visible(node, field, masks[field])))
            for field in sorted(masks)
        )

    def _visible(self, node: int, field: str, writers: int) -> int:
        """The writers without those that a later one has surely overwritten.

        Only long lists are shortened: it keeps the plan of a long chain from growing as its square.
        """
        known = self._fields.get(field)
        if known is None or known.engine or known.merge != "last":
            return writers
        if writers.bit_count() <= SHORT:
            return writers
        last = self._shadow(node, field)
        return writers if last < 0 else writers & ~self._topology.past(last)

    def _shadow(self, node: int, field: str) -> int:
        """The nearest node on every way to this one that surely wrote the field, or -1."""
        walked = [node]
        while (found := self._shadows.get((walked[-1], field))) is None:
            before = self._topology.dominators[walked[-1]]
            if before < 0 or (self._certain[before] and self._writes[before][0] == field):
                found = before
                break
            walked.append(before)
        for passed in walked:
            self._shadows[passed, field] = found
        return found

    def _paths(self, node: int) -> Iterable[tuple[str, ...]]:
        for text in self._texts[node]:
            for use in uses(text, self._names):
                yield use.path
        for edge in self._edges[node]:
            if edge.field is not None:
                yield (edge.field,)
            elif edge.condition is not None:
                for use in uses(Text((), CEL, edge.condition), self._edge_names):
                    yield use.path

    def _resolve(self, path: tuple[str, ...]) -> Iterable[tuple[str, int]]:
        """(field, who may have written it, as bits) for one path."""
        root = path[0]
        if root == "state":
            return self._resolve(path[1:]) if len(path) > 1 else self._everything()
        if root in NOT_FIELDS:
            return ()
        if root == "outputs":
            node = self._ids.get(path[1]) if len(path) > 1 else None
            return ((root, -1 if node is None else 1 << self._topology.rank[node]),)
        field = self._fields.get(root)
        if field is not None and field.engine:
            return ((root, -1),)
        return ((root, self._writers.get(root, 0)),)

    def _everything(self) -> Iterable[tuple[str, int]]:
        for name, field in self._fields.items():
            yield name, -1 if field.engine else self._writers.get(name, 0)
