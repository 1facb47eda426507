"""Which nodes can never both run, because one choice leads to either."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import and_

import msgspec

from agentflow.spec import graph
from agentflow.spec.expressions import is_bare_name
from agentflow.spec.rules.draft import Draft, Link


class Outcome(msgspec.Struct, frozen=True):
    """What an edge's choice was: error, always (as against error), else, one of some values
    (``dispatch``), or a condition."""

    source: int
    kind: str
    values: frozenset[str] = frozenset()

    def excludes(self, other: Outcome) -> bool:
        """Whether the two outcomes of one node cannot both be; only what is certain counts."""
        if self.source != other.source or self == other:
            return False
        if "error" in (self.kind, other.kind):
            return True
        if "always" in (self.kind, other.kind):
            return False
        if "else" in (self.kind, other.kind):
            return True
        return self.kind == other.kind == "dispatch" and not self.values & other.values


class Exclusion:
    """Pairs of nodes behind outcomes of one node that exclude each other."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._outcomes: list[Outcome] = []
        self._numbers: dict[Outcome, int] = {}
        self._caught = {link.source for link in draft.links if link.goto}
        self._masks = self._guards()

    def between(self, a: int, b: int) -> bool:
        """Whether the two nodes exclude each other."""
        return self._exclude(self._masks[a], self._masks[b])

    def most(self, links: Sequence[Link]) -> int:
        """At most so many of these links can be taken together."""
        groups: list[list[int]] = []
        for mask in (self._guard(link) for link in links):
            group = next((g for g in groups if all(self._exclude(mask, m) for m in g)), None)
            if group is None:
                groups.append([mask])
            else:
                group.append(mask)
        return len(groups)

    def _exclude(self, left: int, right: int) -> bool:
        of_source: dict[int, list[Outcome]] = {}
        for i in graph.bits(left & ~right):
            of_source.setdefault(self._outcomes[i].source, []).append(self._outcomes[i])
        for i in graph.bits(right & ~left):
            outcome = self._outcomes[i]
            if any(outcome.excludes(rival) for rival in of_source.get(outcome.source, ())):
                return True
        return False

    def _guards(self) -> list[int]:
        """For every node, the outcomes without which it cannot run, as bits."""
        draft = self._draft
        rank = {node: position for position, node in enumerate(draft.order)}
        incoming: dict[int, list[Link]] = {}
        for link in draft.links:
            if link.target >= 0 and rank[link.source] < rank[link.target]:  # not back in a loop
                incoming.setdefault(link.target, []).append(link)
        self._masks = [0] * len(draft.targets)
        for position in draft.order:
            guards = [self._guard(link) for link in incoming.get(position, ())]
            self._masks[position] = reduce(and_, guards) if guards else 0
        return self._masks

    def _guard(self, link: Link) -> int:
        """The outcomes without which a link cannot be taken, as bits."""
        mask = self._masks[link.source]
        outcome = _outcome(self._draft, link, link.source in self._caught)
        if outcome is None:
            return mask
        if outcome not in self._numbers:
            self._numbers[outcome] = len(self._outcomes)
            self._outcomes.append(outcome)
        return mask | 1 << self._numbers[outcome]


def _outcome(draft: Draft, link: Link, caught: bool) -> Outcome | None:
    if link.goto:
        return Outcome(link.source, "error")
    if link.condition is None:
        return Outcome(link.source, "always") if caught else None
    if link.condition == "else":
        return Outcome(link.source, "else")
    if is_bare_name(link.condition):
        field = draft.fields.get(link.condition)
        if field is None or field.type != "bool":
            target = draft.nodes[link.target]["id"] if link.target >= 0 else "end"
            values = {target} if link.key is None else {target, link.key}
            return Outcome(link.source, "dispatch", frozenset(values))
    return Outcome(link.source, f"cel {link.condition}")
