"""The canonical form of a spec: one spelling for everything, and the content hash made from it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from agentflow.errors import SpecInvalid
from agentflow.spec.problems import Part, Parts, Problem, problem

Json = Any

LAYOUT = frozenset(
    (
        "$schema",
        *("x", "y", "z", "position", "positionAbsolute", "width", "height", "measured", "zoom"),
        *("color", "colour", "colors", "colours", "backgroundColor", "borderColor", "icon"),
        *("style", "ui", "layout", "viewport", "selected", "dragging", "collapsed"),
    )
)
"""Keys of an editor: its drawing, and where it finds the schema. The content hash leaves them out of
the document itself, its nodes, edges, queues (and their sub-queues) and sources; inside ``metadata``,
``config``, ``state`` and other free objects every key counts."""

SPELLINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "options": (
        ("source_id", "source"),
        ("model_name", "model"),
        ("prompt_template", "prompt"),
        ("query_template", "query"),
    ),
    "options of input": (("validation", "validate"),),
    "options of http": (("path", "url"),),
    "edge": (("from_node", "from"), ("to_node", "to")),
    "queue": (("from_node", "from"), ("to_node", "to"), ("subqueues", "sub_queues")),
    "bandwidth": (("tokens_per_minute", "max_tokens_per_minute"),),
    "config": (("model_name", "model"), ("connection_string_env", "dsn_env")),
}
"""Where -> (the other spelling that is accepted there, the canonical one)."""

VALUES: Mapping[str, tuple[str, str]] = {
    "node type": ("api", "http"),
    "source kind": ("http", "api"),
    "provider": ("google", "gemini"),
}
"""Where -> (the other value that is accepted there, the canonical one)."""

OPAQUE_CONFIG = ("plugin", "langgraph")
"""The node types whose ``metadata.config`` is an option, not another place of the options."""

NULL_IS_ABSENT = {
    "document": "name description metadata state input_schema output settings expose edges queues"
    " sources spec_version version",
    "node": "description metadata timeout_s retry on_error effects resources cache join queue",
    "edge": "condition default key queue",
    "queue": "bandwidth sub_queues shared",
    "source": "config name",
}
"""Part of a document -> the members that may be null there, which means the same as leaving them out."""


class Canonical(msgspec.Struct):
    """The canonical document; where each renamed place came from; and conflicting spellings."""

    document: Json
    origins: dict[Parts, Parts]
    conflicts: list[Problem]

    def origin(self, at: Parts) -> Parts:
        """The place in the author's document that a place of the canonical form came from."""
        for length in range(len(at), 0, -1):
            found = self.origins.get(at[:length])
            if found is not None:
                return found + at[length:]
        return at


def normalize(document: Json) -> dict[str, Json]:
    """The canonical form. Raises SpecInvalid when two spellings of one thing differ (E003)."""
    result = canonical(document)
    if result.conflicts:
        raise SpecInvalid(result.conflicts)
    normal: dict[str, Json] = result.document
    return normal


def canonical(document: Json) -> Canonical:
    """The canonical form of any JSON value; parts of the wrong shape are left as they are."""
    result = Canonical(document, {}, [])
    if isinstance(document, dict):
        result.document = _document(result, document, ())
    return result


def _document(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    """The canonical form of a document, of the whole one or of one inside it."""
    top = _without_nulls(raw, "document")
    rewrites = {"nodes": _node, "edges": _edge, "queues": _queue, "sources": _source}
    for name, rewrite in rewrites.items():
        items = top.get(name)
        if isinstance(items, list):
            top[name] = [
                rewrite(result, item, (*at, name, index)) if isinstance(item, dict) else item
                for index, item in enumerate(items)
            ]
    return top


def content_hash(normal: dict[str, Json]) -> str:
    """SHA-256, in hex, of the canonical JSON of a normalised document without its layout keys."""
    kept = {key: value for key, value in normal.items() if key not in LAYOUT}
    for name in ("nodes", "edges", "queues", "sources"):
        if isinstance(kept.get(name), list):
            kept[name] = [msgspec.Raw(canonical_json(_bare(item))) for item in kept[name]]
    return hashlib.sha256(canonical_json(kept)).hexdigest()


def canonical_json(value: Json) -> bytes:
    """JSON with sorted keys, without spaces; 1.0 and 1 are the same number."""
    return msgspec.json.encode(_numbers(value), order="sorted")


def _bare(item: Json) -> Json:
    if not isinstance(item, dict):
        return item
    kept = {key: value for key, value in item.items() if key not in LAYOUT}
    if isinstance(kept.get("sub_queues"), list):
        kept["sub_queues"] = [_bare(sub) for sub in kept["sub_queues"]]
    return kept


def _numbers(value: Json) -> Json:
    if isinstance(value, float):
        whole = math.isfinite(value) and value.is_integer() and abs(value) < 2**53
        return int(value) if whole else value
    if isinstance(value, dict):
        return {k: item if isinstance(item, str) else _numbers(item) for k, item in value.items()}
    if isinstance(value, list):
        return [item if isinstance(item, str) else _numbers(item) for item in value]
    return value


def _without_nulls(item: dict[str, Json], model: str) -> dict[str, Json]:
    if None not in item.values():
        return dict(item)
    optional = NULL_IS_ABSENT[model].split()
    return {k: v for k, v in item.items() if v is not None or k not in optional}


def _rename(
    result: Canonical,
    item: dict[str, Json],
    at: Parts,
    old: str,
    new: str,
    owner: dict[str, Json],
) -> None:
    """Move ``old`` to ``new``; different values in both are a conflict of the element ``owner``."""
    if old not in item:
        return
    value = item.pop(old)
    if item.get(new) is None:
        item[new] = value
        result.origins[(*at, new)] = result.origin((*at, old))
    elif value is not None and value != item[new]:
        _conflict(result, owner, at, old, new)


def _respell(
    result: Canonical, item: dict[str, Json], at: Parts, where: str, owner: dict[str, Json]
) -> None:
    for old, new in SPELLINGS[where]:
        _rename(result, item, at, old, new, owner)


def _value(item: dict[str, Json], key: str, where: str) -> None:
    other, canonical_value = VALUES[where]
    if item.get(key) == other:
        item[key] = canonical_value


def _conflict(
    result: Canonical,
    owner: dict[str, Json],
    at: Parts,
    old: Part,
    new: Part,
    text: str = "{old!r} and {new!r} are two spellings of one thing, but their values differ",
) -> None:
    result.conflicts.append(
        problem(
            "E003",
            text.format(old=old, new=new),
            result.origin((*at, old)),
            node_id=owner.get("id"),
            edge_index=int(at[1]) if at[0] == "edges" else None,
            hint=f"Keep {new!r} only",
        )
    )


def _node(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    node = _without_nulls(raw, "node")
    _value(node, "type", "node type")
    metadata = node.get("metadata", {})
    if isinstance(metadata, dict):
        node["metadata"] = _metadata(result, node, metadata, (*at, "metadata"))
    return node


def _metadata(
    result: Canonical, node: dict[str, Json], raw: dict[str, Json], at: Parts
) -> dict[str, Json]:
    metadata = dict(raw)
    if node.get("type") not in OPAQUE_CONFIG:
        _lift(result, node, metadata, at)
    _respell(result, metadata, at, "options", node)
    own = f"options of {node.get('type')}"
    if own in SPELLINGS:
        _respell(result, metadata, at, own, node)
    _chain(result, metadata, node, at)
    if node.get("type") == "subworkflow" and isinstance(metadata.get("workflow"), dict):
        metadata["workflow"] = _document(result, metadata["workflow"], (*at, "workflow"))
    if node.get("type") == "map" and isinstance(metadata.get("body"), dict):
        metadata["body"] = _body(result, metadata["body"], (*at, "body"))
    return metadata


def _body(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    """What a map does for each item: a node, a graph, or a workflow."""
    body = {key: value for key, value in raw.items() if value is not None}
    if isinstance(body.get("workflow"), dict):
        body["workflow"] = _document(result, body["workflow"], (*at, "workflow"))
    if "type" in body:
        return _node(result, body, at)
    return _document(result, body, at)


def _lift(result: Canonical, node: dict[str, Json], metadata: dict[str, Json], at: Parts) -> None:
    """Options inside ``config`` move to the options around it."""
    place = at
    while isinstance(metadata.get("config"), dict):
        place = (*place, "config")
        for key, value in metadata.pop("config").items():
            origin = result.origin((*place, key))
            result.origins[(*place, key)] = origin
            if metadata.get(key) is None:
                metadata[key] = value
                result.origins[(*at, key)] = origin
            elif value is not None and value != metadata[key]:
                text = "{old!r} is given twice, also outside 'config', with different values"
                _conflict(result, node, place, key, key, text)


def _chain(result: Canonical, metadata: dict[str, Json], node: dict[str, Json], at: Parts) -> None:
    """``fallbacks`` beside a single source becomes a chain in ``source``."""
    if "fallbacks" not in metadata:
        return
    source, fallbacks = metadata.get("source"), metadata["fallbacks"]
    if fallbacks is None:
        del metadata["fallbacks"]
    elif not isinstance(fallbacks, list):
        text = "'fallbacks': expected a list of source ids"
        place = result.origin((*at, "fallbacks"))
        result.conflicts.append(problem("E003", text, place, node_id=node.get("id")))
    elif isinstance(source, str):
        del metadata["fallbacks"]
        metadata["source"] = [source, *fallbacks]
        first = result.origin((*at, "source"))
        rest = result.origin((*at, "fallbacks"))
        result.origins[(*at, "source", 0)] = first
        for index in range(len(fallbacks)):
            result.origins[(*at, "source", index + 1)] = (*rest, index)
    elif isinstance(source, list):
        del metadata["fallbacks"]
        if source[1:] != fallbacks:
            _conflict(result, node, at, "fallbacks", "source")


def _edge(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    edge = _without_nulls(raw, "edge")
    _respell(result, edge, at, "edge", edge)
    default = edge.get("default")
    if default is False:
        del edge["default"]
    elif default is True:
        del edge["default"]
        if edge.get("condition", "else") != "else":
            result.conflicts.append(
                problem(
                    "E003",
                    "An edge with 'default': true is the else edge and can have no other condition",
                    result.origin((*at, "default")),
                    edge_index=int(at[1]) if at[0] == "edges" else None,
                    hint="Drop 'default' or 'condition'",
                )
            )
        else:
            edge["condition"] = "else"
            result.origins[(*at, "condition")] = result.origin((*at, "default"))
    return edge


def _queue(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    queue = _without_nulls(raw, "queue")
    _respell(result, queue, at, "queue", queue)
    _bandwidth(result, queue, "bandwidth", at, queue)
    return queue


def _bandwidth(
    result: Canonical, holder: dict[str, Json], key: str, at: Parts, owner: dict[str, Json]
) -> None:
    if isinstance(holder.get(key), dict):
        holder[key] = dict(holder[key])
        _respell(result, holder[key], (*at, key), "bandwidth", owner)


def _source(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    source = _without_nulls(raw, "source")
    _value(source, "kind", "source kind")
    config = source.get("config")
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if value is not None}
        place = (*at, "config")
        _respell(result, config, place, "config", source)
        _bandwidth(result, config, "limits", place, source)
        _value(config, "provider", "provider")
        source["config"] = config
    return source
