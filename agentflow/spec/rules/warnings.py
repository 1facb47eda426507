"""What is allowed, but probably not meant."""

from __future__ import annotations

from agentflow.spec.rules.draft import Draft
from agentflow.spec.rules.exclusion import Exclusion
from agentflow.spec.rules.references import source_places


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
        for _, name in source_places(node.get("metadata") or {})
    }
    for source in draft.sources.values():
        fallbacks = (source.get("config") or {}).get("fallbacks")
        if isinstance(fallbacks, list):
            used.update(name for name in fallbacks if isinstance(name, str))
    free = str([n.get("metadata") for n in draft.nodes.values() if n["type"] not in _PLAIN])
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
        if queue["id"] not in named and (queue["from"], target) not in ends:
            what = f"Queue {queue['id']!r} is declared, but no edge or node uses it"
            draft.add("W004", what, ("queues", index), node_id=queue["id"])


_PLAIN = ("input", "router", "llm", "image", "db", "http", "aggregator")


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
    for position, node in draft.nodes.items():
        retry = node.get("retry")
        attempts = retry.get("max_attempts") if isinstance(retry, dict) else None
        if node.get("effects") == "once" and isinstance(attempts, int) and attempts > 1:
            draft.add(
                "W012",
                f"Node {node['id']!r} has effects 'once' and {attempts} attempts: after an "
                "interrupted call it is not tried again",
                ("nodes", position, "retry"),
                node_id=node["id"],
            )
