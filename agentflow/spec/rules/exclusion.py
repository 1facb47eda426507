"""Which nodes can never both run, because one choice leads to either."""

from __future__ import annotations

import msgspec

from agentflow.spec import graph
from agentflow.spec.expressions import is_bare_name
from agentflow.spec.rules.draft import Draft, Link


class Outcome(msgspec.Struct, frozen=True):
    """What an edge's choice was: else, one of some values (``dispatch``), or a condition."""

    source: int
    kind: str
    values: frozenset[str] = frozenset()

    def excludes(self, other: Outcome) -> bool:
        """Whether the two outcomes of one node cannot both be; only what is certain counts."""
        if self.source != other.source or self == other:
            return False
        if "else" in (self.kind, other.kind):
            return True
        return self.kind == other.kind == "dispatch" and not self.values & other.values


class Exclusion:
    """Pairs of nodes behind outcomes of one node that exclude each other."""

    def __init__(self, draft: Draft) -> None:
        self._outcomes: list[Outcome] = []
        self._masks = self._guards(draft)

    def between(self, a: int, b: int) -> bool:
        """Whether the two nodes exclude each other."""
        left, right = self._masks[a], self._masks[b]
        of_source: dict[int, list[Outcome]] = {}
        for i in graph.bits(left & ~right):
            of_source.setdefault(self._outcomes[i].source, []).append(self._outcomes[i])
        for i in graph.bits(right & ~left):
            outcome = self._outcomes[i]
            if any(outcome.excludes(rival) for rival in of_source.get(outcome.source, ())):
                return True
        return False

    def _guards(self, draft: Draft) -> list[int]:
        """For every node, the outcomes without which it cannot run, as bits."""
        numbers: dict[Outcome, int] = {}
        incoming: dict[int, list[Link]] = {}
        for link in draft.links:
            incoming.setdefault(link.target, []).append(link)
        masks = [0] * len(draft.targets)
        for position in draft.order:
            mask: int | None = None
            for link in incoming.get(position, ()):
                own = masks[link.source]
                outcome = _outcome(draft, link)
                if outcome is not None:
                    if outcome not in numbers:
                        numbers[outcome] = len(self._outcomes)
                        self._outcomes.append(outcome)
                    own |= 1 << numbers[outcome]
                mask = own if mask is None else mask & own
            masks[position] = mask or 0
        return masks


def _outcome(draft: Draft, link: Link) -> Outcome | None:
    if link.condition is None:
        return None
    if link.condition == "else":
        return Outcome(link.source, "else")
    if is_bare_name(link.condition):
        field = draft.fields.get(link.condition)
        if field is None or field.type != "bool":
            target = draft.nodes[link.target]["id"] if link.target >= 0 else "end"
            values = {target} if link.key is None else {target, link.key}
            return Outcome(link.source, "dispatch", frozenset(values))
    return Outcome(link.source, f"cel {link.condition}")
