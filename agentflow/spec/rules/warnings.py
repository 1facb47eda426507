"""What is allowed, but probably not meant."""

from __future__ import annotations

from functools import reduce
from operator import and_, or_

from agentflow.spec import graph
from agentflow.spec.rules.draft import Draft, Link
from agentflow.spec.rules.exclusion import Exclusion
from agentflow.spec.rules.fitting import config_of, effects_of
from agentflow.spec.rules.references import followers, source_places


def check_habits(draft: Draft) -> None:
    """Find W002 to W007 and W012."""
    _ends(draft)
    _unused(draft)
    _choices(draft)
    _repeats(draft)
    if not any(node["type"] == "input" for node in draft.nodes.values()):
        draft.add("W007", "The workflow has no input node", ("nodes",))


def _ends(draft: Draft) -> None:
    leaves = [n for n in draft.order if n in draft.nodes and not draft.targets[n]]
    if len(leaves) < 2:
        return
    exclusion = Exclusion(draft)
    earlier: list[int] = []
    for position in leaves[:200]:
        if draft.nodes[position]["type"] == "aggregator":
            continue
        rival = next((e for e in earlier if not exclusion.between(e, position)), None)
        if rival is not None:
            a, b = draft.nodes[rival]["id"], draft.nodes[position]["id"]
            draft.add(
                "W002",
                f"Parallel branches end at {a!r} and {b!r} without an aggregator",
                ("nodes", position),
                node_id=b,
                hint="Lead both to an aggregator, or read both from outputs",
            )
            return
        earlier.append(position)


def _unused(draft: Draft) -> None:
    used = {
        name
        for node in draft.nodes.values()
        for _, name, _ in source_places(node["type"], node.get("metadata") or {})
    }
    for source in draft.sources.values():
        used.update(name for _, name in followers(source.get("config") or {}))
    free = str([n.get("metadata") for n in draft.nodes.values() if n["type"] in _FREE])
    for index, source in draft.sources.items():
        if source["id"] not in used and source["id"] not in free:
            what = f"Source {source['id']!r} is declared, but no node uses it"
            draft.add("W003", what, ("sources", index), node_id=source["id"])
    named = {e.get("queue") for e in (*draft.nodes.values(), *draft.edges.values())}
    ends = {
        (draft.nodes[k.source]["id"], "end" if k.target < 0 else draft.nodes[k.target]["id"])
        for k in draft.links
    }
    for index, queue in draft.queues.items():
        target = "end" if queue["to"] == "__end__" else queue["to"]
        used_inside = queue["id"] in named or queue["id"] in free
        if not used_inside and (queue["from"], target) not in ends:
            what = f"Queue {queue['id']!r} is declared, but no edge or node uses it"
            draft.add("W004", what, ("queues", index), node_id=queue["id"])


_FREE = ("map", "subworkflow", "langgraph", "plugin")
"""Node types that may name sources deep inside their options, or in code."""


def _choices(draft: Draft) -> None:
    conditions: dict[str, list[tuple[int, str | None]]] = {}
    for index, edge in draft.edges.items():
        conditions.setdefault(edge["from"], []).append((index, edge.get("condition")))
    for source, edges in conditions.items():
        real = [c for _, c in edges if c not in (None, "else")]
        for index, condition in edges:
            if condition == "else" and "true" in real:
                what = "The else edge can never be taken: another condition is always true"
            elif condition == "else" and not real:
                what = "The else edge has no conditional siblings, so it is always taken"
            else:
                continue
            draft.add("W005", what, ("edges", index), node_id=source, edge_index=index)
    for position, node in draft.nodes.items():
        if node["type"] != "router":
            continue
        edges = conditions.get(node["id"], [])
        if not edges and len(draft.nodes) > 1:
            what = f"Router {node['id']!r} has no outgoing edges"
        elif edges and all(condition is None for _, condition in edges):
            what = f"Router {node['id']!r} has no conditions on its edges: all are taken"
        else:
            continue
        draft.add("W006", what, ("nodes", position), node_id=node["id"])


def _repeats(draft: Draft) -> None:
    """Effects that may happen once, in what is tried again, or given up for another."""
    once = [p for p in draft.nodes if p in draft.kinds and effects_of(draft, p) == "once"]
    for position in once:
        node = draft.nodes[position]
        retry = node.get("retry")
        attempts = retry.get("max_attempts") if isinstance(retry, dict) else None
        if isinstance(attempts, int) and attempts > 1:
            draft.add(
                "W012",
                f"Node {node['id']!r} has effects 'once' and {attempts} attempts: after an "
                "interrupted call it is not tried again",
                ("nodes", position, "retry"),
                node_id=node["id"],
            )
        _rivals(draft, position)
    if once:
        _raced(draft, once)


def _rivals(draft: Draft, position: int) -> None:
    node, options = draft.nodes[position], draft.options.get(position, {})
    source = options.get("source")
    chain = (
        len(source) > 1 if isinstance(source, list) else config_of(draft, source).get("fallbacks")
    )
    if not chain:
        return
    race = options.get("race") is True
    what = "races several sources: each may have its effect" if race else (
        "has a chain of sources: after an interrupted call the next one is not tried"
    )  # fmt: skip
    draft.add(
        "W012",
        f"Node {node['id']!r} has effects 'once' and {what}",
        ("nodes", position, "metadata", "race" if race else "source"),
        node_id=node["id"],
    )


def _raced(draft: Draft, once: list[int]) -> None:
    """Nodes that only lead to a join of first_success, which may cancel them while they work."""
    joins = [p for p in draft.order if draft.nodes[p].get("join") == "first_success"]
    if not joins:
        return
    ways: list[list[int]] = [[] for _ in draft.targets]
    for link in draft.links:
        ways[link.source].append(link.target)
    branches = graph.Branches(ways, draft.arrangement.regions)
    over = _over_before(draft)
    told: set[int] = set()
    for join in joins:
        branch = branches.to(join)
        for position in once:
            if position in told or position not in branch or over[join] >> position & 1:
                continue
            told.add(position)
            name, rival = draft.nodes[position]["id"], draft.nodes[join]["id"]
            draft.add(
                "W012",
                f"Node {name!r} has effects 'once' and may be cancelled while it works, when "
                f"another branch reaches {rival!r} first",
                ("nodes", position),
                node_id=name,
            )


def _over_before(draft: Draft) -> list[int]:
    """Node -> those that are surely over when it starts, as bits."""
    found = [0] * len(draft.targets)
    rank = {node: place for place, node in enumerate(draft.order)}
    regions = draft.arrangement.regions
    around = graph.around(regions, len(found))
    members = [reduce(or_, (1 << node for node in region.members)) for region in regions]
    incoming: dict[int, list[Link]] = {}
    for link in draft.links:
        if link.target >= 0 and rank[link.source] < rank[link.target]:  # not back in a loop
            incoming.setdefault(link.target, []).append(link)
    for position in draft.order:
        links = incoming.get(position, [])
        masks = []
        for link in links:
            left = (members[r] for r in around[link.source] if r not in around[position])
            masks.append(reduce(or_, left, found[link.source] | 1 << link.source))
        if masks:
            found[position] = reduce(or_ if _waits_for_all(draft, position, links) else and_, masks)
    return found


def _waits_for_all(draft: Draft, position: int, links: list[Link]) -> bool:
    join = draft.nodes[position].get("join")
    if isinstance(join, dict):
        return bool(join["n_of"] == len(links))
    return join == "all" if join else not all(link.goto for link in links)
