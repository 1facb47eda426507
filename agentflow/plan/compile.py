"""Spec -> Plan, in passes, each a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentflow.plan.plan import (
    END,
    Field,
    Plan,
    PlanEdge,
    PlanNode,
    PlanSource,
    Read,
    Resources,
    Retry,
    Settings,
)
from agentflow.plan.reading import Reader
from agentflow.plan.topology import Topology
from agentflow.plan.unsupported import unsupported_features
from agentflow.spec.expressions import is_bare_name
from agentflow.spec.kinds.base import NodeKind
from agentflow.spec.kinds.catalogue import node_kind
from agentflow.spec.kinds.sources import CONFIGS, provider_of
from agentflow.spec.normal import content_hash
from agentflow.spec.rules.options import options_of
from agentflow.spec.state import StateField, fields_of

Json = Any
_ENDS = ("end", "__end__")
_STOPPING = ("fail", "skip")
"""Policies after which nothing behind a failed step runs."""


class _Work(msgspec.Struct):
    """One node while it is compiled."""

    spec: dict[str, Json]
    kind: NodeKind
    options: dict[str, Json]


def compile_plan(normalized: dict[str, Json]) -> Plan:
    """The plan of a normalised document in which :func:`agentflow.spec.check.check` found no errors.

    Features that validate but cannot be executed by this version are named in ``Plan.unsupported``.
    Deterministic: equal documents give equal plans.
    """
    works = _options(normalized)
    fields = _fields(normalized, works)
    sources = _sources(normalized)
    edges = _edges(normalized, fields)
    topology = Topology(len(works), edges)
    ids = {work.spec["id"]: index for index, work in enumerate(works)}
    texts = [work.kind.texts(work.options) for work in works]
    settings = normalized.get("settings") or {}
    certain = [work.kind.always_writes and _policy(work, settings) in _STOPPING for work in works]
    reads = Reader(texts, _writes(works), fields, edges, topology, ids, certain).reads()
    by_id = {source.id: source for source in sources}
    nodes = tuple(
        _node(index, work, by_id, settings, topology, reads[index])
        for index, work in enumerate(works)
    )
    output = normalized.get("output")
    return Plan(
        content_hash=content_hash(normalized),
        name=normalized.get("name"),
        nodes=nodes,
        edges=edges,
        start=ids[normalized["start_node"]],
        order=topology.order,
        fields=tuple(Field(f.name, f.type, f.merge, f.default) for f in fields.values()),
        sources=sources,
        settings=Settings(
            timeout_s=float(settings.get("timeout_s", 3600.0)),
            max_parallel=settings.get("max_parallel", 1000),
            durability=settings.get("durability", "strict"),
            priority=settings.get("priority", 3),
        ),
        output=dict(output) if output else None,
        unsupported=unsupported_features(normalized, nodes, sources, topology),
    )


def _writes(works: Sequence[_Work]) -> list[str | None]:
    """For every node, the state field it writes."""
    return [work.kind.writes(work.options) for work in works]


def _options(normalized: dict[str, Json]) -> list[_Work]:
    works = []
    for spec in normalized["nodes"]:
        kind = node_kind(spec["type"])
        if kind is None:
            raise ValueError(f"unknown node type {spec['type']!r}: check the document first")
        works.append(_Work(spec, kind, options_of(kind, spec.get("metadata") or {})))
    return works


def _fields(normalized: dict[str, Json], works: Sequence[_Work]) -> dict[str, StateField]:
    fields = fields_of(normalized)
    for name in _writes(works):
        if name is not None and name not in fields:
            fields[name] = StateField(name)
    return fields


def _sources(normalized: dict[str, Json]) -> tuple[PlanSource, ...]:
    found = []
    for source in normalized.get("sources") or ():
        config = dict(source.get("config") or {})
        model = CONFIGS[source["kind"]].model_validate(config)
        filled = model.model_dump(by_alias=True, exclude_none=True, warnings=False)
        found.append(
            PlanSource(source["id"], source["kind"], provider_of(source["kind"], config), filled)
        )
    return tuple(found)


def _edges(normalized: dict[str, Json], fields: Mapping[str, StateField]) -> tuple[PlanEdge, ...]:
    """List edges split, one PlanEdge per target, in the order of the document."""
    index = {node["id"]: position for position, node in enumerate(normalized["nodes"])}
    edges: list[PlanEdge] = []
    for edge in normalized.get("edges") or ():
        kind, condition, field = _choice(edge.get("condition"), fields)
        for target in edge["to"] if isinstance(edge["to"], list) else [edge["to"]]:
            edges.append(
                PlanEdge(
                    index=len(edges),
                    source=index[edge["from"]],
                    target=END if target in _ENDS else index[target],
                    kind=kind,
                    condition=condition,
                    field=field,
                    key=edge.get("key") if kind == "dispatch" else None,
                )
            )
    return tuple(edges)


def _choice(
    condition: str | None, fields: Mapping[str, StateField]
) -> tuple[str, str | None, str | None]:
    """(kind, CEL text, dispatch field) of an edge's condition."""
    if condition is None:
        return "always", None, None
    if condition == "else":
        return "else", None, None
    if is_bare_name(condition) and (condition not in fields or fields[condition].type != "bool"):
        return "dispatch", None, condition
    return "cel", condition, None


def _node(
    index: int,
    work: _Work,
    sources: Mapping[str, PlanSource],
    settings: dict[str, Json],
    topology: Topology,
    reads: tuple[Read, ...],
) -> PlanNode:
    spec, kind = work.spec, work.kind
    named = kind.sources(work.options)
    first = sources.get(named[0]) if named else None
    return PlanNode(
        index=index,
        id=spec["id"],
        type=spec["type"],
        options=work.options,
        rank=topology.rank[index],
        placement=_placement(spec, kind, first),
        effects=spec.get("effects") or kind.effects,
        retry=_retry(spec, kind, first),
        on_error=_policy(work, settings),
        timeout_s=spec.get("timeout_s"),
        resources=_resources(spec.get("resources")),
        output_key=kind.writes(work.options),
        sources=named,
        incoming=tuple(topology.incoming[index]),
        outgoing=tuple(topology.outgoing[index]),
        reads=reads,
    )


def _policy(work: _Work, settings: dict[str, Json]) -> str:
    policy = work.spec.get("on_error") or settings.get("on_error") or "fail"
    return policy if isinstance(policy, str) else f"goto:{policy['goto']}"


def _placement(spec: dict[str, Json], kind: NodeKind, source: PlanSource | None) -> str:
    if kind.placement == "inline":
        return "inline"
    if spec.get("resources"):
        return "pool"
    if kind.placement == "io" and source is not None and source.provider == "local":
        return "cpu"
    return kind.placement


def _retry(spec: dict[str, Json], kind: NodeKind, source: PlanSource | None) -> Retry:
    given = spec.get("retry") or {}
    attempts = given.get("max_attempts")
    if attempts is None and source is not None and source.config.get("max_retries") is not None:
        attempts = source.config["max_retries"] + 1
    if attempts is None:
        attempts = 1 if spec.get("effects") == "once" else kind.attempts
    return Retry(
        max_attempts=attempts,
        initial_s=float(given.get("initial_s", 1.0)),
        multiplier=float(given.get("multiplier", 2.0)),
        max_s=float(given.get("max_s", 30.0)),
        jitter=given.get("jitter", True),
    )


def _resources(given: dict[str, Json] | None) -> Resources | None:
    if not given:
        return None
    return Resources(
        num_cpus=given.get("num_cpus"),
        num_gpus=float(given.get("num_gpus") or 0.0),
        memory_mb=given.get("memory_mb"),
        labels=tuple(sorted((given.get("labels") or {}).items())),
    )
