"""Features that validate, but that this version cannot execute."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from agentflow.plan.plan import PlanNode, PlanSource
from agentflow.spec.kinds.catalogue import node_kind
from agentflow.spec.kinds.sources import EXECUTABLE

Json = Any


def unsupported_features(
    normalized: dict[str, Json],
    nodes: Sequence[PlanNode],
    sources: Sequence[PlanSource],
) -> tuple[str, ...]:
    """One sentence for each feature, without duplicates."""
    found = [
        *_of_settings(normalized.get("settings") or {}),
        *_of_queues(normalized.get("queues") or ()),
    ]
    by_id = {source.id: source for source in sources}
    for spec, node in zip(normalized["nodes"], nodes, strict=True):
        found += _of_node(spec, node)
        found += _of_sources(node, by_id)
    return tuple(dict.fromkeys(found))


def _of_settings(settings: dict[str, Json]) -> Iterator[str]:
    if settings.get("budget"):
        yield "settings.budget cannot be enforced yet; remove it"


def _of_queues(queues: Sequence[dict[str, Json]]) -> Iterator[str]:
    for queue in queues:
        bandwidth = queue.get("bandwidth") or {}
        if any(v is not None and k.startswith(("max_", "burst")) for k, v in bandwidth.items()):
            yield f"Queue {queue['id']!r} has limits, which cannot be enforced yet"
        if bandwidth.get("adaptive") or queue.get("sub_queues"):
            yield f"Queue {queue['id']!r} has shares or adapts, which cannot be executed yet"


def _of_node(spec: dict[str, Json], node: PlanNode) -> Iterator[str]:
    kind = node_kind(node.type)
    if kind is None or not kind.available:
        yield f"Node {node.id!r}: nodes of type {node.type!r} cannot be executed yet"
        return
    for feature in kind.unsupported(node.options):
        yield f"Node {node.id!r}: {feature} cannot be executed yet"


def _of_sources(node: PlanNode, sources: dict[str, PlanSource]) -> Iterator[str]:
    kind = node_kind(node.type)
    if kind is None or not kind.available:
        return
    for name in node.sources:
        source = sources.get(name)
        if source is None:
            yield f"Node {node.id!r}: the stored source {name!r} cannot be used yet"
            continue
        subject = f"Source {source.id!r}"
        if source.kind == "image" and source.provider == "local":
            yield (
                f"{subject}: no model that makes pictures comes along; use provider openai-compatible "
                "with the base_url of a server of yours, or a hosted one"
            )
        elif (source.provider or source.kind) not in EXECUTABLE:
            yield f"{subject}: provider {source.provider!r} cannot be called yet"
        elif source.provider == "vllm" and not source.config.get("base_url"):
            yield f"{subject}: provider 'vllm' without base_url cannot be deployed yet"
        if source.config.get("limits"):
            yield f"{subject} has limits, which cannot be enforced yet"
        if source.config.get("spill"):
            yield f"{subject}: 'spill' cannot be executed yet"
        if any(key.endswith("_ref") for key in source.config):
            yield f"{subject}: secret references cannot be resolved yet; name a variable"
