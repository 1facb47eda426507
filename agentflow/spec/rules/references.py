"""Stage 2: what refers to what, and identity."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agentflow.spec.problems import Part, near
from agentflow.spec.rules.draft import ENDS, Draft

Json = Any
_SOURCE_KIND = {"llm": "llm", "router": "llm", "image": "image", "db": "db", "http": "api"}
"""Node type -> the kind of its sources; those of agents depend on the place."""


def check_references(draft: Draft) -> None:
    """Find E005 to E011, E014 and E018."""
    _duplicates(draft)
    if not draft.complete:
        return
    _start(draft)
    _edges(draft)
    _gotos(draft)
    _queues(draft)
    _queue_names(draft)
    _sources(draft)


def _duplicates(draft: Draft) -> None:
    for name, elements, code in (
        ("nodes", draft.nodes, "E009"),
        ("sources", draft.sources, "E010"),
        ("queues", draft.queues, "E011"),
    ):
        seen: set[str] = set()
        for index, element in elements.items():
            identifier = element["id"]
            if identifier in seen:
                draft.add(
                    code,
                    f"The {name[:-1]} id {identifier!r} is used more than once",
                    (name, index, "id"),
                    node_id=identifier,
                    hint="Ids are unique within a workflow",
                )
            seen.add(identifier)
    for index, queue in draft.queues.items():
        seen = set()
        for position, sub in enumerate(queue.get("sub_queues") or ()):
            if sub["id"] in seen:
                draft.add(
                    "E011",
                    f"Queue {queue['id']!r} has two sub-queues {sub['id']!r}",
                    ("queues", index, "sub_queues", position, "id"),
                    node_id=queue["id"],
                )
            seen.add(sub["id"])


def _start(draft: Draft) -> None:
    start = draft.document.get("start_node")
    if isinstance(start, str) and start not in draft.index:
        draft.add(
            "E005",
            f"Start node {start[:100]!r} does not exist",
            ("start_node",),
            node_id=start,
            hint=near(start, draft.index),
        )


def _edges(draft: Draft) -> None:
    for index, edge in draft.edges.items():
        if edge["from"] not in draft.index:
            _missing_node(draft, "source", edge["from"], ("edges", index, "from"), index)
        listed = isinstance(edge["to"], list)
        for position, target in enumerate(edge["to"] if listed else [edge["to"]]):
            if target not in draft.index and target not in ENDS:
                at: tuple[Part, ...] = ("edges", index, "to")
                at = (*at, position) if listed else at
                _missing_node(draft, "destination", target, at, index)


def _missing_node(
    draft: Draft, role: str, name: str, at: tuple[Part, ...], edge_index: int | None
) -> None:
    draft.add(
        "E006",
        f"Edge references non-existent {role} node {name[:100]!r}",
        at,
        node_id=name,
        edge_index=edge_index,
        hint=near(name, draft.index),
    )


def _gotos(draft: Draft) -> None:
    settings = draft.document.get("settings")
    default = settings.get("on_error") if isinstance(settings, dict) else None
    found: list[tuple[tuple[Part, ...], str, str | None]] = [
        (at, target, draft.nodes[position]["id"]) for position, at, target in draft.gotos()
    ]
    if isinstance(default, dict) and isinstance(default.get("goto"), str):
        found.append((("settings", "on_error", "goto"), default["goto"], None))
    for at, target, owner in found:
        if target not in draft.index:
            draft.add(
                "E006",
                f"'goto' references non-existent destination node {target[:100]!r}",
                at,
                node_id=owner,
                hint=near(target, draft.index),
            )


def _queues(draft: Draft) -> None:
    for index, queue in draft.queues.items():
        for end, role in (("from", "source"), ("to", "destination")):
            if queue[end] not in draft.index and not (end == "to" and queue[end] in ENDS):
                draft.add(
                    "E007",
                    f"Queue {queue['id']!r} references non-existent {role} node "
                    f"{queue[end][:100]!r}",
                    ("queues", index, end),
                    node_id=queue["id"],
                    hint=near(queue[end], draft.index),
                )


def _queue_names(draft: Draft) -> None:
    known = draft.queue_ids
    for index, node in draft.nodes.items():
        if node.get("queue") is not None and node["queue"] not in known:
            draft.add(
                "E018",
                f"Node {node['id']!r} references missing queue {node['queue'][:100]!r}",
                ("nodes", index, "queue"),
                node_id=node["id"],
                hint=near(node["queue"], known),
            )
    for index, edge in draft.edges.items():
        if edge.get("queue") is not None and edge["queue"] not in known:
            draft.add(
                "E018",
                f"Edge {index} references missing queue {edge['queue'][:100]!r}",
                ("edges", index, "queue"),
                edge_index=index,
                hint=near(edge["queue"], known),
            )


def _sources(draft: Draft) -> None:
    known = (*draft.source_ids, *draft.stored_sources)
    for position, kind in draft.kinds.items():
        node = draft.nodes[position]
        metadata = node.get("metadata") or {}
        place = ("nodes", position, "metadata")
        if kind.needs_source(metadata):
            draft.add(
                "E014",
                f"Node {node['id']!r} of type {kind.type!r} needs a source",
                place,
                node_id=node["id"],
                hint="Name one in metadata.source and define it under 'sources'",
            )
        for at, name, wanted in source_places(kind.type, metadata):
            if name not in known:
                draft.add(
                    "E008",
                    f"Node {node['id']!r} references missing source {name[:100]!r}",
                    (*place, *at),
                    node_id=node["id"],
                    hint=near(name, known),
                )
            elif name in draft.source_ids:
                _fitting(draft, position, name, wanted, (*place, *at))
    for index, source in draft.sources.items():
        for at, name in followers(source.get("config") or {}):
            if name not in known:
                draft.add(
                    "E008",
                    f"Source {source['id']!r} falls back on missing source {name[:100]!r}",
                    ("sources", index, "config", *at),
                    node_id=source["id"],
                    hint=near(name, known),
                )


def _fitting(
    draft: Draft, position: int, name: str, wanted: str | None, at: tuple[Part, ...]
) -> None:
    node = draft.nodes[position]
    kind = draft.source_ids[name]["kind"]
    if wanted and kind != wanted:
        draft.add(
            "E024",
            f"Node {node['id']!r} of type {node['type']!r} needs a source of kind {wanted!r}, "
            f"but {name!r} is of kind {kind[:40]!r}",
            at,
            node_id=node["id"],
        )


def source_places(
    node_type: str, metadata: dict[str, Json]
) -> Iterator[tuple[tuple[Part, ...], str, str | None]]:
    """(place, source id, kind it must have or None) of everything in a node's options that names a
    source."""
    if node_type == "agent":
        from agentflow.spec.kinds.agent import places

        yield from places(metadata)
        return
    wanted = _SOURCE_KIND.get(node_type)
    source, spill = metadata.get("source"), metadata.get("spill")
    if isinstance(source, str) and source:
        yield ("source",), source, wanted
    elif isinstance(source, list):
        for position, item in enumerate(source):
            if isinstance(item, str):
                yield ("source", position), item, wanted
    if node_type == "llm" and isinstance(spill, dict) and isinstance(spill.get("to"), str):
        yield ("spill", "to"), spill["to"], wanted


def followers(config: dict[str, Json]) -> Iterator[tuple[tuple[Part, ...], str]]:
    """(place, source id) of the sources that a source's configuration names as next ones."""
    fallbacks, spill = config.get("fallbacks"), config.get("spill")
    for position, name in enumerate(fallbacks if isinstance(fallbacks, list) else ()):
        if isinstance(name, str):
            yield ("fallbacks", position), name
    if isinstance(spill, dict) and isinstance(spill.get("to"), str):
        yield ("spill", "to"), spill["to"]
