"""Workflows inside workflows: bodies of map nodes, inline workflows, and those that are named by id."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from agentflow.spec.expressions import ExpressionInvalid, compile_expression
from agentflow.spec.kinds.map import OWN_NAMES, body_form
from agentflow.spec.normal import Canonical, canonical
from agentflow.spec.problems import Parts, Problem
from agentflow.spec.reads import declared_names
from agentflow.spec.rules.draft import Draft, Outside
from agentflow.spec.templates import Embedded, compact, expressions_in

Json = Any
MAX_DEPTH = 16
"""How deep bodies and workflows may lie inside each other."""
MANY_FIELDS = 200
_WORD = re.compile(r"\w+")

Resolver = Callable[[str], Json]
"""Id of a workflow -> its document, or None when it is not known."""


class Inner(msgspec.Struct, frozen=True):
    """A document inside the options of a node, and its place. ``form``: one of the forms of a body;
    ``names``: those of the item and its position, in the body of a map."""

    at: Parts
    form: str
    value: dict[str, Json]
    names: tuple[str, ...] = ()


class _Inside(Canonical):
    """An inner document; its places are told as those of the document around it."""

    around: Canonical
    inner: Inner

    def origin(self, at: Parts) -> Parts:
        if self.inner.form != "workflow" and at[:1] == ("settings",):
            return self.around.origin(at)
        own = at[2:] if self.inner.form == "node" else at
        return self.around.origin((*self.inner.at, *own))


def check_bodies(draft: Draft, examine: Callable[[Draft], None]) -> None:
    """Find what is wrong in every inner document, as ``examine`` finds it in a draft; E026 where they
    lie too deep; E019 and E024 in the expressions of map nodes."""
    written = [name for name in draft.writers if name not in draft.fields]
    declared = declared_names(draft.fields.values(), written)
    for position in draft.kinds:
        node = draft.nodes[position]
        if node["type"] == "map":
            _expressions(draft, position, declared)
        for inner in inner_documents(node, ("nodes", position)):
            if draft.outside.depth >= MAX_DEPTH:
                text = f"Node {node['id']!r} lies deeper than {MAX_DEPTH} bodies and workflows"
                draft.add("E026", text, inner.at, node_id=node["id"])
            else:
                draft.found += _examined(draft, position, inner, examine)


def inner_documents(node: Mapping[str, Json], at: Parts) -> Iterator[Inner]:
    """The documents written out in the options of a node that is at this place."""
    metadata = node.get("metadata") or {}
    place = (*at, "metadata")
    if node.get("type") == "subworkflow" and isinstance(metadata.get("workflow"), dict):
        yield Inner((*place, "workflow"), "workflow", metadata["workflow"])
    body = metadata.get("body") if node.get("type") == "map" else None
    if not isinstance(body, dict):
        return
    given = (metadata.get("item_var"), metadata.get("index_var"))
    names = tuple(
        name if isinstance(name, str) and name else own
        for name, own in zip(given, OWN_NAMES, strict=True)
    )
    form = body_form(body)
    if form in ("node", "graph"):
        yield Inner((*place, "body"), form, body, names)
    elif form == "workflow" and isinstance(body["workflow"], dict):
        yield Inner((*place, "body", "workflow"), "workflow", body["workflow"], names)


def _examined(
    draft: Draft, position: int, inner: Inner, examine: Callable[[Draft], None]
) -> list[Problem]:
    child = Draft(
        _Inside(_document(draft, position, inner), {}, [], draft.canonical, inner),
        stored_sources=draft.stored_sources,
        allowed_env=draft.allowed_env,
        present_env=draft.present_env,
        outside=_outside(draft, position, inner),
    )
    examine(child)
    return [
        msgspec.structs.replace(found, edge_index=None)
        for found in child.found
        if inner.form == "workflow" or found.code != "W007"
    ]


def _document(draft: Draft, position: int, inner: Inner) -> dict[str, Json]:
    """The inner document as a whole one. A body has the durability of the workflow around it."""
    if inner.form == "workflow":
        return inner.value
    settings = draft.document.get("settings")
    volatile = isinstance(settings, dict) and settings.get("durability") == "none"
    around: dict[str, Json] = {"settings": {"durability": "none"}} if volatile else {}
    if inner.form == "graph":
        return {**inner.value, **around}
    node = {"id": draft.nodes[position]["id"], **inner.value}
    return {"nodes": [node], "start_node": node["id"], **around}


def _outside(draft: Draft, position: int, inner: Inner) -> Outside:
    """What an inner document can refer to: the item and its position; a body also to all that its map
    node can."""
    depth = draft.outside.depth + 1
    own = dict(zip(inner.names, ({"type": "any"}, {"type": "int"}), strict=False))
    if inner.form == "workflow":
        return Outside(fields=own, depth=depth)
    return Outside(
        fields={**_visible(draft, inner.value), **own},
        shows=_upstream(draft, position),
        sources=draft.source_ids,
        queues=draft.queue_ids,
        depth=depth,
    )


def _visible(draft: Draft, body: Json) -> dict[str, Json]:
    """The state fields that a body can refer to; of very many only those whose names it holds."""
    names: Iterable[str] = dict.fromkeys((*draft.declared, *draft.writers))
    if len(draft.declared) + len(draft.writers) > MANY_FIELDS:
        words = dict.fromkeys(_WORD.findall(compact(body)))
        names = [name for name in words if name in draft.declared or name in draft.writers]
    return {
        name: draft.declared.get(name, {"type": "any"})
        for name in names
        if name in draft.declared or name not in draft.fields
    }


def _upstream(draft: Draft, position: int) -> Callable[[str], bool | None]:
    """Whether the result of a node is there when this node starts, None when there is no such node; of
    all, when that is not known."""
    if not draft.complete or draft.has("E005", "E006", "E009", "E012", "E013"):
        return lambda node_id: True
    before = draft.ancestors[position]

    def shows(node_id: str) -> bool | None:
        other = draft.index.get(node_id)
        return draft.outside.shows(node_id) if other is None else bool(before >> other & 1)

    return shows


def _expressions(draft: Draft, position: int, declared: Mapping[str, str]) -> None:
    """The types that the expressions of a map give; those that do not compile are found elsewhere."""
    options = draft.options.get(position)
    if options is None:
        return
    own = dict.fromkeys(("result", options["item_var"], options["index_var"]), "any")
    parts = [part for part in expressions_in(options["items"]) if isinstance(part, Embedded)]
    _gives(draft, position, "items", parts[0].text, declared, "list")
    if options.get("until") is not None:
        _gives(draft, position, "until", options["until"], {**declared, **own}, "bool")


def _gives(
    draft: Draft, position: int, key: str, text: str, declared: Mapping[str, str], wanted: str
) -> None:
    try:
        returns = compile_expression(text, declared).returns
    except ExpressionInvalid:
        return
    if returns not in (wanted, "any"):
        node = draft.nodes[position]
        expected = "a list" if wanted == "list" else "true or false"
        draft.add(
            "E024" if wanted == "list" else "E019",
            f"Node {node['id']!r} of type 'map': {key!r} gives {returns}, not {expected}",
            ("nodes", position, "metadata", key),
            node_id=node["id"],
        )


def check_recursion(draft: Draft, workflows: Resolver, own_id: str | None) -> None:
    """Find E012 where a workflow leads back to itself by ids, and E026 where ids lead too deep.

    ``own_id``: the id of the workflow that is checked, if it has one.
    """
    known: dict[str, int] = {}
    path = () if own_id is None else (own_id,)
    for at, name, depth in references(draft.document):
        try:
            below = _depth(name, path, workflows, known)
        except _Circle as circle:
            chain = " -> ".join(repr(part[:100]) for part in circle.chain)
            text = f"The workflow leads back to itself: {chain}"
            draft.add("E012", text, at, node_id=_owner(draft, at))
            continue
        if depth + below > MAX_DEPTH:
            text = f"{name[:100]!r} leads deeper than {MAX_DEPTH} workflows"
            draft.add("E026", text, at, node_id=_owner(draft, at))


def references(document: Json, at: Parts = (), depth: int = 0) -> Iterator[tuple[Parts, str, int]]:
    """(place, id, depth) of every stored workflow that a canonical document executes."""
    nodes = document.get("nodes") if isinstance(document, dict) else None
    for position, node in enumerate(nodes if isinstance(nodes, list) else ()):
        if isinstance(node, dict):
            yield from _references_of(node, (*at, "nodes", position), depth)


def _references_of(
    node: Mapping[str, Json], at: Parts, depth: int
) -> Iterator[tuple[Parts, str, int]]:
    metadata = node.get("metadata")
    if not isinstance(metadata, dict):
        return
    holder: Json = metadata
    place: Parts = (*at, "metadata")
    if node.get("type") == "map":
        holder, place = metadata.get("body"), (*place, "body")
    elif node.get("type") != "subworkflow":
        return
    name = holder.get("workflow_id") if isinstance(holder, dict) else None
    if isinstance(name, str):
        yield (*place, "workflow_id"), name, depth
    for inner in inner_documents(node, at):
        if inner.form == "node":
            yield from _references_of(inner.value, inner.at, depth + 1)
        else:
            yield from references(inner.value, inner.at, depth + 1)


class _Circle(Exception):
    def __init__(self, chain: tuple[str, ...]) -> None:
        self.chain = chain
        super().__init__()


def _depth(name: str, path: tuple[str, ...], workflows: Resolver, known: dict[str, int]) -> int:
    """How many workflows deep this one leads, itself included. Raises _Circle."""
    if name in path:
        raise _Circle((*path[path.index(name) :], name))
    if name in known or len(path) > MAX_DEPTH:
        return known.get(name, 1)
    document = workflows(name)
    if not isinstance(document, dict):
        return 1
    deeper = [
        depth + _depth(inner, (*path, name), workflows, known)
        for _, inner, depth in references(canonical(document).document)
    ]
    known[name] = 1 + max(deeper, default=0)
    return known[name]


def _owner(draft: Draft, at: Parts) -> Json:
    return draft.nodes[at[1]]["id"] if isinstance(at[1], int) and at[1] in draft.nodes else None
