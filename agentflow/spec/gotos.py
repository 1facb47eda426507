"""Where failed steps go to: ``on_error: {goto}`` of nodes and of the settings, ``on_expire: {goto}`` of
human nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentflow.spec import graph

Json = Any


def goto_targets(
    nodes: Mapping[str, Mapping[str, Json]], edges: Iterable[Mapping[str, Json]], default: Json
) -> dict[str, str]:
    """Node id -> the node that its failure leads to, in the order of ``nodes`` (by id).

    ``default``, the policy of the settings, holds for every node that says nothing. As a ``goto`` it leaves
    out its own target and what follows that target by edges or ``goto``: their failure would lead back
    to where errors are met. Targets that do not exist are left out.
    """
    found = {name: goto_of(node.get("on_error")) or expiry_of(node) for name, node in nodes.items()}
    target = goto_of(default)
    if target is not None and target in nodes:
        exempt = _following(nodes, edges, found, target)
        for name, node in nodes.items():
            if node.get("on_error") is None and found[name] is None and name not in exempt:
                found[name] = target
    return {name: goto for name, goto in found.items() if goto is not None and goto in nodes}


def goto_of(policy: Json) -> str | None:
    """The target of a policy ``{goto: node}``, or None."""
    target = policy.get("goto") if isinstance(policy, dict) else None
    return target if isinstance(target, str) else None


def expiry_of(node: Mapping[str, Json]) -> str | None:
    """The node that the expiry of a human node leads to, or None."""
    metadata = node.get("metadata") if node.get("type") == "human" else None
    return goto_of(metadata.get("on_expire")) if isinstance(metadata, dict) else None


def _following(
    nodes: Mapping[str, Mapping[str, Json]],
    edges: Iterable[Mapping[str, Json]],
    gotos: Mapping[str, str | None],
    start: str,
) -> set[str]:
    position = {name: index for index, name in enumerate(nodes)}
    links = [(name, goto) for name, goto in gotos.items() if goto is not None]
    for edge in edges:
        targets = edge["to"] if isinstance(edge["to"], list) else [edge["to"]]
        links += [(edge["from"], target) for target in targets]
    targets_of: list[list[int]] = [[] for _ in nodes]
    for source, target in links:
        if source in position and target in position:
            targets_of[position[source]].append(position[target])
    names = list(nodes)
    return {names[index] for index in graph.reachable(targets_of, position[start])}
