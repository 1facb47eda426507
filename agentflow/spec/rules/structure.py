"""Stage 3: the graph. Reachability, loops, joins, and who writes what."""

from __future__ import annotations

from agentflow.spec import graph
from agentflow.spec.rules.draft import Draft, Link
from agentflow.spec.rules.exclusion import Exclusion
from agentflow.spec.state import BUILTIN


def check_structure(draft: Draft) -> None:
    """Find E012, E013, E022, E023 and W001."""
    _unreachable(draft)
    _loops(draft)
    _joins(draft)
    if draft.has("E012", "E013"):
        return
    _writers(draft)


def _unreachable(draft: Draft) -> None:
    start = draft.index.get(draft.document.get("start_node", ""))
    if start is None:
        return
    seen = graph.reachable(draft.targets, start)
    for position, node in draft.nodes.items():
        if position not in seen:
            draft.add(
                "E013",
                f"Node {node['id']!r} cannot be reached from the start node "
                f"{draft.document['start_node']!r}",
                ("nodes", position),
                node_id=node["id"],
                hint="Add an edge to it, or remove it",
            )


def _loops(draft: Draft) -> None:
    start = draft.index.get(draft.document.get("start_node", ""))
    todo = [(region, draft.links) for region in graph.loops(draft.targets)]
    while todo:
        region, links = todo.pop()
        inside = set(region)
        entries = {k.target for k in links if k.target in inside and k.source not in inside}
        if start in inside:
            entries.add(start)
        entry = min(entries, default=region[0])
        closing = [k for k in links if k.source in inside and k.target == entry]
        if len(entries) > 1:
            names = " and ".join(repr(draft.nodes[e]["id"]) for e in sorted(entries))
            _bad_loop(draft, region, closing, f"has more than one entry: {names}")
            continue
        exits = [k for k in draft.links if k.source in inside and k.target not in inside]
        if not any(k.condition is not None or k.goto for k in exits):
            _bad_loop(draft, region, closing, "has no conditional edge that leaves it")
            continue
        kept = [k for k in links if k.source in inside and k.target in inside - {entry}]
        local: list[list[int]] = [[] for _ in draft.targets]
        for link in kept:
            local[link.source].append(link.target)
        inner = [link for link in links if link.target != entry or link.source not in inside]
        todo += [(part, inner) for part in graph.loops(local, region)]


def _bad_loop(draft: Draft, region: list[int], closing: list[Link], what: str) -> None:
    names = ", ".join(repr(draft.nodes[n]["id"]) for n in region[:5])
    more = ", ..." if len(region) > 5 else ""
    link = closing[-1] if closing else None
    draft.add(
        "E012",
        f"The cycle through {names}{more} {what}",
        link.at if link else ("nodes", region[0]),
        node_id=draft.nodes[link.source if link else region[0]]["id"],
        edge_index=link.index if link and link.index >= 0 else None,
        hint="A loop has one entry and an edge with a condition that leaves it",
    )


def _joins(draft: Draft) -> None:
    wanted = {
        position: node["join"]["n_of"]
        for position, node in draft.nodes.items()
        if isinstance(node.get("join"), dict)
    }
    if not wanted:
        return
    rank = {node: position for position, node in enumerate(draft.order)}
    exclusion: Exclusion | None = None
    for position, needed in wanted.items():
        links = [
            link
            for link in draft.links
            if link.target == position and rank[link.source] < rank[position]
        ]
        if needed > len(links):
            what = f"only {len(links)} lead to it"
        else:
            exclusion = exclusion or Exclusion(draft)
            most = exclusion.most(links)
            if needed <= most:
                continue
            what = f"at most {most} of the {len(links)} that lead to it can be taken together"
        name = draft.nodes[position]["id"]
        text = f"The join of node {name!r} needs {needed} edges, but {what}"
        draft.add("E023", text, ("nodes", position, "join"), node_id=name)


def _writers(draft: Draft) -> None:
    exclusion: Exclusion | None = None
    for name, writers in draft.writers.items():
        field = draft.fields.get(name)
        if len(writers) < 2 or draft.declared.get(name, {}).get("merge"):
            continue
        if field is not None and field.engine:
            continue
        earlier = 0
        for position in writers:
            unordered = earlier & ~draft.ancestors[position]
            if unordered:
                exclusion = exclusion or Exclusion(draft)
                rival = next(
                    (b for b in graph.bits(unordered) if not exclusion.between(b, position)), None
                )
                if rival is not None:
                    _unordered(draft, name, rival, position)
                    break
            earlier |= 1 << position


def _unordered(draft: Draft, field: str, first: int, second: int) -> None:
    a, b = draft.nodes[first]["id"], draft.nodes[second]["id"]
    at = ("nodes", second)
    text = f"Nodes {a!r} and {b!r} both write {field!r}, and neither comes after the other"
    if field in BUILTIN:
        draft.add(
            "W001",
            f"{text}; the last one in canonical order wins",
            at,
            node_id=b,
            hint="Set output_key, or aggregate outputs.*",
        )
    else:
        draft.add(
            "E022",
            text,
            at,
            node_id=b,
            hint=f"Declare {field!r} under 'state' with a merge rule, or write two fields",
        )
