"""The plan: what will be done. Immutable, integer-indexed, picklable, identified by a content hash."""

from __future__ import annotations

from typing import Any

import msgspec

Json = Any
END = -1
"""Target of an edge that finishes its branch."""
OUTSIDE = -1
"""In place of a loop: around no loop."""


class Retry(msgspec.Struct, frozen=True):
    """How often and when a failed step is tried again; delays in seconds."""

    max_attempts: int = 1
    initial_s: float = 1.0
    multiplier: float = 2.0
    max_s: float = 30.0
    jitter: bool = True


class Resources(msgspec.Struct, frozen=True):
    """What one attempt needs on the cluster. ``labels`` are sorted (name, value) pairs that must match."""

    num_cpus: float | None = None
    num_gpus: float = 0.0
    memory_mb: int | None = None
    labels: tuple[tuple[str, str], ...] = ()


class PlanEdge(msgspec.Struct, frozen=True):
    """A single-target edge. ``kind``: always | cel | dispatch | else | error.

    ``condition`` is the CEL text of a ``cel`` edge; a ``dispatch`` edge is taken when the value of
    ``field`` equals ``key`` or the target's id; an ``error`` edge is what a ``goto`` is compiled to:
    taken when the node fails, skipped when it does not.
    ``level``: the innermost loop around both ends, or :data:`OUTSIDE`. ``back``: leads to the entry
    of that loop from inside it, so it starts the next iteration.
    """

    index: int
    source: int
    target: int
    kind: str = "always"
    condition: str | None = None
    field: str | None = None
    key: str | None = None
    level: int = OUTSIDE
    back: bool = False


class Loop(msgspec.Struct, frozen=True):
    """A strongly connected component with one entry, executed iteration by iteration.

    ``members``: its nodes, those of loops inside it included, in canonical order. ``parent``: the loop
    around it, or :data:`OUTSIDE`. ``parts``: how many nodes and loops lie directly in it. ``back`` and
    ``exits``: indices of the edges to its entry, and of all edges that leave it. ``bound``: how many
    iterations it may have each time it is entered.
    """

    index: int
    entry: int
    members: tuple[int, ...]
    parent: int
    parts: int
    back: tuple[int, ...]
    exits: tuple[int, ...]
    bound: int


class Read(msgspec.Struct, frozen=True):
    """One state field that a node reads, and who may have written it.

    ``writers``: indices of the nodes that may be in the causal past and write it, in canonical order. For the
    field ``outputs`` they are the nodes whose results are read; for the fields written by the engine
    (``tokens_used``, ``cost``, ``errors``, ``execution_path``) the whole past.
    """

    field: str
    writers: tuple[int, ...] = ()


class Cache(msgspec.Struct, frozen=True):
    """That the results of a node may be reused for ``ttl_s`` seconds. ``paths``: the paths of its view
    that its templates and expressions read, sorted; conditions of its edges play no part."""

    ttl_s: float
    paths: tuple[tuple[str, ...], ...] = ()


class PlanNode(msgspec.Struct, frozen=True):
    """A node, ready to be executed.

    ``placement``: inline (in the coordinator), io, cpu, or pool (a pool of its own, by ``resources``).
    ``options``: the node's validated options in canonical spelling, defaults filled in.
    ``rank``: position in canonical order. ``reads`` covers its templates and expressions and the
    conditions of its outgoing edges. ``on_error``: fail | continue | skip | goto.
    ``join``: all | any | n_of | first_success; ``needed``: the k of n_of; ``awaited``: how many
    incoming edges the join waits for (all but those back to the entry of a loop); ``catches``: whether
    some incoming edge is an error edge.
    ``loops``: the loops around it, outermost first; ``place``: the rank of each of their entries, then
    its own. ``branch``: of a first_success join, the nodes that lead only to it; ``races``: the
    first_success joins to whose branches this node belongs. ``cache``: of nodes that leave the
    coordinator, as far as their author asked for it.
    """

    index: int
    id: str
    type: str
    options: dict[str, Json]
    rank: int
    placement: str
    effects: str
    retry: Retry
    on_error: str = "fail"
    timeout_s: float | None = None
    resources: Resources | None = None
    output_key: str | None = None
    sources: tuple[str, ...] = ()
    incoming: tuple[int, ...] = ()
    outgoing: tuple[int, ...] = ()
    reads: tuple[Read, ...] = ()
    join: str = "all"
    needed: int = 1
    awaited: int = 0
    catches: bool = False
    loops: tuple[int, ...] = ()
    place: tuple[int, ...] = ()
    branch: tuple[int, ...] = ()
    races: tuple[int, ...] = ()
    cache: Cache | None = None


class Field(msgspec.Struct, frozen=True):
    """A state field: its CEL type name, default and merge rule (section State of docs/spec.md)."""

    name: str
    type: str
    merge: str
    default: Json = None


class PlanSource(msgspec.Struct, frozen=True):
    """A connection, resolved: ``config`` in canonical spelling; names of credentials, never values."""

    id: str
    kind: str
    provider: str
    config: dict[str, Json]


class Settings(msgspec.Struct, frozen=True):
    """Execution-wide options that the engine needs. ``max_events``: the length of a journal at which the
    execution fails with EventLimit; no spec can set it."""

    timeout_s: float = 3600.0
    max_parallel: int = 1000
    durability: str = "strict"
    priority: int = 3
    max_events: int = 1_000_000


class Plan(msgspec.Struct, frozen=True):
    """The compiled form of one version. ``order`` lists node indices in canonical order; ``loops`` a
    loop before those inside it. ``fixed``: every join is ``all`` and there is no loop, so the causal
    past of each node is known beforehand.
    """

    content_hash: str
    name: str | None
    nodes: tuple[PlanNode, ...]
    edges: tuple[PlanEdge, ...]
    start: int
    order: tuple[int, ...]
    fields: tuple[Field, ...]
    sources: tuple[PlanSource, ...]
    settings: Settings
    output: dict[str, str] | None = None
    loops: tuple[Loop, ...] = ()
    fixed: bool = True
    unsupported: tuple[str, ...] = ()
    """Features that validate but that this version cannot execute, each named in one sentence."""
    ids: dict[str, int] = {}
    """Node id -> index; filled in when the plan is made."""
    named: dict[str, Field] = {}
    """Name -> state field; filled in when the plan is made."""

    def __post_init__(self) -> None:
        if not self.ids:
            msgspec.structs.force_setattr(self, "ids", {node.id: node.index for node in self.nodes})
        if not self.named:
            msgspec.structs.force_setattr(self, "named", {each.name: each for each in self.fields})

    def node(self, node_id: str) -> PlanNode:
        """The node of this id. Raises KeyError."""
        return self.nodes[self.ids[node_id]]

    def source(self, source_id: str) -> PlanSource:
        """The source of this id. Raises KeyError."""
        for source in self.sources:
            if source.id == source_id:
                return source
        raise KeyError(source_id)
