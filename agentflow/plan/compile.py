"""Spec -> Plan, in passes, each a pure function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agentflow.plan.plan import (
    END,
    Cache,
    Field,
    Plan,
    PlanEdge,
    PlanNode,
    PlanSource,
    Resources,
    Retry,
    Settings,
)
from agentflow.plan.reading import Reader
from agentflow.plan.topology import Topology
from agentflow.plan.unsupported import unsupported_features
from agentflow.spec.expressions import is_bare_name
from agentflow.spec.gotos import goto_targets
from agentflow.spec.kinds.base import NodeKind, Text
from agentflow.spec.kinds.catalogue import node_kind
from agentflow.spec.kinds.sources import CONFIGS, provider_of
from agentflow.spec.normal import content_hash
from agentflow.spec.reads import NOT_FIELDS, declared_names, uses
from agentflow.spec.rules.options import options_of
from agentflow.spec.state import StateField, fields_of

Json = Any
_ENDS = ("end", "__end__")
_STOPPING = ("fail", "skip")
"""Policies after which nothing behind a failed step runs."""


class _Work(msgspec.Struct):
    """One node while it is compiled. ``source``: the first one it names, when it is in the document."""

    spec: dict[str, Json]
    kind: NodeKind
    options: dict[str, Json]
    sources: tuple[str, ...]
    source: PlanSource | None


def compile_plan(normalized: dict[str, Json]) -> Plan:
    """The plan of a normalised document in which :func:`agentflow.spec.check.check` found no errors.

    Features that validate but cannot be executed by this version are named in ``Plan.unsupported``.
    Deterministic: equal documents give equal plans.
    """
    sources = _sources(normalized)
    works = _options(normalized, {source.id: source for source in sources})
    writes = [work.kind.written(work.options) for work in works]
    fields = _fields(normalized, writes)
    settings = normalized.get("settings") or {}
    ids = {work.spec["id"]: index for index, work in enumerate(works)}
    gotos = goto_targets(
        {work.spec["id"]: work.spec for work in works},
        normalized.get("edges") or (),
        settings.get("on_error"),
    )
    edges = _edges(normalized, fields, gotos)
    start = ids[normalized["start_node"]]
    topology = Topology(len(works), edges, start, settings.get("max_iterations", 25))
    joins = [_join(work.spec, index, topology) for index, work in enumerate(works)]
    fixed = not topology.loops and all(join == "all" for join, _ in joins)
    texts = [work.kind.texts(work.options) for work in works]
    policies = [_policy(work, settings, gotos) for work in works]
    certain = [
        not around and work.kind.always_writes and policy in _STOPPING
        for work, policy, around in zip(works, policies, topology.around, strict=True)
    ]
    reads = Reader(texts, writes, fields, edges, topology, ids, certain).reads()
    branches, races = _branches(joins, topology)
    names = declared_names(fields.values())
    nodes = tuple(
        _node(
            index,
            work,
            topology,
            reads=reads[index],
            on_error=policies[index],
            join=joins[index][0],
            needed=joins[index][1],
            branch=branches.get(index, ()),
            races=tuple(races.get(index, ())),
            cache=_cache(work, texts[index], names),
        )
        for index, work in enumerate(works)
    )
    output = normalized.get("output")
    return Plan(
        content_hash=content_hash(normalized),
        name=normalized.get("name"),
        nodes=nodes,
        edges=topology.edges,
        start=start,
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
        loops=topology.loops,
        fixed=fixed,
        unsupported=unsupported_features(normalized, nodes, sources),
    )


def _options(normalized: dict[str, Json], sources: Mapping[str, PlanSource]) -> list[_Work]:
    works = []
    for spec in normalized["nodes"]:
        kind = node_kind(spec["type"])
        if kind is None:
            raise ValueError(f"unknown node type {spec['type']!r}: check the document first")
        options = _chained(options_of(kind, spec.get("metadata") or {}), sources)
        named = kind.sources(options)
        source = sources.get(named[0]) if named else None
        kind = kind.refined(options, source.config if source else None)
        works.append(_Work(spec, kind, options, named, source))
    return works


def _chained(options: dict[str, Json], sources: Mapping[str, PlanSource]) -> dict[str, Json]:
    """Options that name one source alone, with what that source says comes after it."""
    name = options.get("source")
    source = sources.get(name) if isinstance(name, str) else None
    fallbacks = source.config.get("fallbacks") if source else None
    return {**options, "source": [name, *fallbacks]} if fallbacks else options


def _fields(
    normalized: dict[str, Json], writes: Sequence[tuple[str, ...]]
) -> dict[str, StateField]:
    """Built-in and declared fields, and those that nodes write without a declaration."""
    fields = fields_of(normalized)
    for written in writes:
        for name in written:
            fields.setdefault(name, StateField(name))
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


def _edges(
    normalized: dict[str, Json], fields: Mapping[str, StateField], gotos: Mapping[str, str]
) -> tuple[PlanEdge, ...]:
    """List edges split, one PlanEdge per target, in the order of the document; then the error edges,
    in the order of their nodes."""
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
    for name, target in gotos.items():
        edges.append(PlanEdge(len(edges), index[name], index[target], "error"))
    return tuple(edges)


def _join(spec: dict[str, Json], node: int, topology: Topology) -> tuple[str, int]:
    """(join, how many taken edges it needs); a target of error edges alone waits for any of them."""
    given = spec.get("join")
    if isinstance(given, dict):
        return "n_of", given["n_of"]
    incoming = [topology.edges[index] for index in topology.incoming[node]]
    awaited = [edge for edge in incoming if not edge.back]
    if given is None and awaited and all(edge.kind == "error" for edge in awaited):
        return "any", 1
    return given or "all", 1


def _branches(
    joins: Sequence[tuple[str, int]], topology: Topology
) -> tuple[dict[int, tuple[int, ...]], dict[int, list[int]]]:
    """Join -> the nodes that lead only to it, and node -> such joins, of every first_success join."""
    branches: dict[int, tuple[int, ...]] = {}
    races: dict[int, list[int]] = {}
    for join in topology.order:
        if joins[join][0] == "first_success":
            branches[join] = topology.branch(join)
            for node in branches[join]:
                races.setdefault(node, []).append(join)
    return branches, races


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
    topology: Topology,
    **decided: Any,
) -> PlanNode:
    spec, kind = work.spec, work.kind
    effects = spec.get("effects") or kind.effects
    return PlanNode(
        index=index,
        id=spec["id"],
        type=spec["type"],
        options=work.options,
        rank=topology.rank[index],
        placement=_placement(spec, kind, work.source),
        effects=effects,
        retry=_retry(spec, 1 if effects == "once" else kind.attempts, work.source),
        timeout_s=spec.get("timeout_s"),
        resources=_resources(spec.get("resources")),
        output_key=kind.main_field(work.options),
        sources=work.sources,
        incoming=tuple(topology.incoming[index]),
        outgoing=tuple(topology.outgoing[index]),
        awaited=topology.awaited(index),
        catches=any(topology.edges[edge].kind == "error" for edge in topology.incoming[index]),
        loops=topology.around[index],
        place=topology.place(index),
        **decided,
    )


def _cache(work: _Work, texts: Sequence[Text], names: Mapping[str, str]) -> Cache | None:
    """What the node's author said about reuse, and what decides whether a result fits; work that is
    done inside the coordinator is done anew."""
    given = work.spec.get("cache")
    if not given or _placement(work.spec, work.kind, work.source) == "inline":
        return None
    paths: set[tuple[str, ...]] = set()
    for text in texts:
        for use in uses(text, names):
            if not use.expression or use.path[0] != "state":
                paths.add(use.path)
            elif len(use.path) > 1:
                paths.add(use.path[1:])
            else:
                paths |= {(name,) for name in names if name not in NOT_FIELDS}
    return Cache(float(given["ttl_s"]), tuple(sorted(paths)))


def _policy(work: _Work, settings: dict[str, Json], gotos: Mapping[str, str]) -> str:
    """What happens when the node has failed. Behind the target of a default ``goto``: fail."""
    if work.spec["id"] in gotos:
        return "goto"
    policy = work.spec.get("on_error") or settings.get("on_error") or "fail"
    return policy if isinstance(policy, str) else "fail"


def _placement(spec: dict[str, Json], kind: NodeKind, source: PlanSource | None) -> str:
    if kind.placement == "inline":
        return "inline"
    if spec.get("resources"):
        return "pool"
    if kind.placement == "io" and source is not None and source.provider == "local":
        return "cpu"
    return kind.placement


def _retry(spec: dict[str, Json], by_type: int, source: PlanSource | None) -> Retry:
    """How the node is tried again. ``by_type``: attempts where neither it nor its source says."""
    given = spec.get("retry") or {}
    attempts = given.get("max_attempts")
    if attempts is None and source is not None and source.config.get("max_retries") is not None:
        attempts = source.config["max_retries"] + 1
    return Retry(
        max_attempts=by_type if attempts is None else attempts,
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
