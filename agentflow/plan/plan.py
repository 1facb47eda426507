"""The plan: what will be done. Immutable, integer-indexed, picklable, identified by a content hash."""

from __future__ import annotations

from typing import Any

import msgspec

Json = Any
END = -1
"""Target of an edge that finishes its branch."""


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
    """A single-target edge. ``kind``: always | cel | dispatch | else.

    ``condition`` is the CEL text of a ``cel`` edge; a ``dispatch`` edge is taken when the value of
    ``field`` equals ``key`` or the target's id.
    """

    index: int
    source: int
    target: int
    kind: str = "always"
    condition: str | None = None
    field: str | None = None
    key: str | None = None


class Read(msgspec.Struct, frozen=True):
    """One state field that a node reads, and who may have written it.

    ``writers``: indices of the nodes in the causal past that write it, in canonical order. For the
    field ``outputs`` they are the nodes whose results are read; for the fields written by the engine
    (``tokens_used``, ``cost``, ``errors``, ``execution_path``) the whole past.
    """

    field: str
    writers: tuple[int, ...] = ()


class PlanNode(msgspec.Struct, frozen=True):
    """A node, ready to be executed.

    ``placement``: inline (in the coordinator), io, cpu, or pool (a pool of its own, by ``resources``).
    ``options``: the node's validated options in canonical spelling, defaults filled in.
    ``rank``: position in canonical order. ``reads`` covers its templates and expressions and the
    conditions of its outgoing edges.
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
    """Execution-wide options that the engine needs."""

    timeout_s: float = 3600.0
    max_parallel: int = 1000
    durability: str = "strict"
    priority: int = 3


class Plan(msgspec.Struct, frozen=True):
    """The compiled form of one version. ``order`` lists node indices in canonical order."""

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
    unsupported: tuple[str, ...] = ()
    """Features that validate but that this version cannot execute, each named in one sentence."""
    ids: dict[str, int] = {}
    """Node id -> index; filled in when the plan is made."""

    def __post_init__(self) -> None:
        if not self.ids:
            msgspec.structs.force_setattr(self, "ids", {node.id: node.index for node in self.nodes})

    def node(self, node_id: str) -> PlanNode:
        """The node of this id. Raises KeyError."""
        return self.nodes[self.ids[node_id]]

    def source(self, source_id: str) -> PlanSource:
        """The source of this id. Raises KeyError."""
        for source in self.sources:
            if source.id == source_id:
                return source
        raise KeyError(source_id)
