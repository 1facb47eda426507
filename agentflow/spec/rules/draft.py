"""A document under examination: its sound parts, and the problems found so far."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec

from agentflow.spec import graph
from agentflow.spec.gotos import expiry_of, goto_of, goto_targets
from agentflow.spec.kinds.base import NodeKind
from agentflow.spec.normal import Canonical
from agentflow.spec.problems import Part, Problem, problem
from agentflow.spec.state import StateField, fields_of

Json = Any
ENDS = ("end", "__end__")


class Link(msgspec.Struct, frozen=True):
    """One edge with one target; -1 stands for ``end``, None for a node that does not exist.

    ``index``: position in ``edges``, or -1 for the error edge of a ``goto``. ``at``: its place.
    """

    index: int
    at: tuple[Part, ...]
    source: int
    target: int
    condition: str | None = None
    key: str | None = None
    goto: bool = False


def _nothing_there(node_id: str) -> bool | None:
    return None


class Outside(msgspec.Struct, frozen=True, kw_only=True):
    """What a document inside another one may refer to beside what it has itself.

    ``fields``: state fields, as they are declared. ``shows``: whether the result of a node of this id
    is there, None when there is no such node. ``sources``: id -> source. ``queues``: id -> queue.
    ``depth``: how many documents are around it.
    """

    fields: Mapping[str, dict[str, Json]] = {}
    shows: Callable[[str], bool | None] = _nothing_there
    sources: Mapping[str, dict[str, Json]] = {}
    queues: Mapping[str, dict[str, Json]] = {}
    depth: int = 0


class Draft:
    """What the stages share. ``nodes``, ``edges``, ``queues`` and ``sources`` hold, by position, the
    elements whose shape is sound; a stage looks at no others, so one cause gives one problem."""

    def __init__(
        self,
        canonical: Canonical,
        *,
        stored_sources: Collection[str] = (),
        allowed_env: Collection[str] = (),
        present_env: Collection[str] | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.canonical = canonical
        self.document: dict[str, Json] = canonical.document
        self.stored_sources = stored_sources
        self.allowed_env = allowed_env
        self.present_env = present_env
        self.outside = outside or Outside()
        self.found: list[Problem] = list(canonical.conflicts)
        self.nodes: dict[int, dict[str, Json]] = {}
        self.edges: dict[int, dict[str, Json]] = {}
        self.queues: dict[int, dict[str, Json]] = {}
        self.sources: dict[int, dict[str, Json]] = {}
        self.options: dict[int, dict[str, Json]] = {}
        self.kinds: dict[int, NodeKind] = {}
        self.complete = True
        """Whether every element is sound, so that references can be judged."""

    def add(
        self,
        code: str,
        message: str,
        at: Iterable[Part],
        *,
        node_id: Any = None,
        edge_index: int | None = None,
        hint: str | None = None,
    ) -> None:
        """Record a problem at a place of the canonical form."""
        place = self.canonical.origin(tuple(at))
        self.found.append(
            problem(code, message, place, node_id=node_id, edge_index=edge_index, hint=hint)
        )

    def has(self, *codes: str) -> bool:
        """Whether a problem with one of these codes was found."""
        return any(found.code in codes for found in self.found)

    @cached_property
    def index(self) -> dict[str, int]:
        """Node id -> position; the first one of a duplicate."""
        found: dict[str, int] = {}
        for position, node in self.nodes.items():
            found.setdefault(node["id"], position)
        return found

    @cached_property
    def source_ids(self) -> dict[str, dict[str, Json]]:
        """Source id -> the source of this document, or of the one around it."""
        found: dict[str, dict[str, Json]] = {}
        for source in self.sources.values():
            found.setdefault(source["id"], source)
        return {**self.outside.sources, **found}

    @cached_property
    def queue_ids(self) -> dict[str, dict[str, Json]]:
        """Queue id -> the queue of this document, or of the one around it."""
        return {**self.outside.queues, **{queue["id"]: queue for queue in self.queues.values()}}

    @cached_property
    def declared(self) -> dict[str, dict[str, Json]]:
        """The state fields that the document declares, and those that it has from outside."""
        return {**self.outside.fields, **self.own_state}

    @cached_property
    def own_state(self) -> dict[str, dict[str, Json]]:
        """The state fields that the document declares, sound ones only."""
        state = self.document.get("state")
        return {
            name: field
            for name, field in (state.items() if isinstance(state, dict) else ())
            if isinstance(field, dict) and isinstance(field.get("type", "any"), str | None)
        }

    @cached_property
    def fields(self) -> dict[str, StateField]:
        """Built-in and declared state fields."""
        return fields_of({"state": self.declared})

    @cached_property
    def links(self) -> list[Link]:
        """Every edge, one target each, and the error edges of ``goto``; sound ones only."""
        found: list[Link] = []
        for index, edge in self.edges.items():
            source = self.index.get(edge["from"])
            targets = edge["to"] if isinstance(edge["to"], list) else [edge["to"]]
            for position, target in enumerate(targets):
                end = -1 if target in ENDS else self.index.get(target)
                if source is None or end is None:
                    continue
                at: tuple[Part, ...] = ("edges", index, "to")
                at = (*at, position) if isinstance(edge["to"], list) else at
                found.append(Link(index, at, source, end, edge.get("condition"), edge.get("key")))
        return found + self._error_links()

    def _error_links(self) -> list[Link]:
        settings = self.document.get("settings")
        default = settings.get("on_error") if isinstance(settings, dict) else None
        own = {position: at for position, at, _ in reversed(self.gotos())}
        by_id = {name: self.nodes[position] for name, position in self.index.items()}
        found = []
        for name, target in goto_targets(by_id, self.edges.values(), default).items():
            position = self.index[name]
            at = own.get(position, ("settings", "on_error", "goto"))
            found.append(Link(-1, at, position, self.index[target], goto=True))
        return found

    def gotos(self) -> list[tuple[int, tuple[Part, ...], str]]:
        """(node position, place, target id) of every ``goto`` of a node; the one that its failure
        follows comes before another one."""
        found: list[tuple[int, tuple[Part, ...], str]] = []
        for position, node in self.nodes.items():
            if (target := goto_of(node.get("on_error"))) is not None:
                found.append((position, ("nodes", position, "on_error", "goto"), target))
            if (target := expiry_of(node)) is not None:
                place = ("nodes", position, "metadata", "on_expire", "goto")
                found.append((position, place, target))
        return found

    @cached_property
    def targets(self) -> list[list[int]]:
        """Node position -> positions of its targets; ``end`` left out."""
        found: list[list[int]] = [[] for _ in range(max(self.nodes, default=-1) + 1)]
        for link in self.links:
            if link.target >= 0:
                found[link.source].append(link.target)
        return found

    @cached_property
    def arrangement(self) -> graph.Arrangement:
        """Canonical order of the node positions, and the loops among them."""
        start = self.document.get("start_node")
        return graph.arrange(
            self.targets, self.index.get(start, -1) if isinstance(start, str) else -1
        )

    @cached_property
    def order(self) -> list[int]:
        """Node positions in canonical order."""
        return list(self.arrangement.order)

    @cached_property
    def ancestors(self) -> list[int]:
        """Node position -> bit mask of the positions upstream of it."""
        return graph.ancestors(self.targets, self.order)

    @cached_property
    def writers(self) -> dict[str, list[int]]:
        """State field -> positions of the nodes that write it, in canonical order."""
        found: dict[str, list[int]] = {}
        for position in self.order:
            kind = self.kinds.get(position)
            for field in kind.written(self.options.get(position, {})) if kind else ():
                found.setdefault(field, []).append(position)
        return found
