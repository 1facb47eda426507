"""The canonical form of a spec: one spelling for everything, and the content hash made from it."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

from agentflow.errors import SpecInvalid
from agentflow.spec.problems import Part, Parts, Problem, problem

Json = Any

LAYOUT = frozenset(
    (
        *("x", "y", "z", "position", "positionAbsolute", "width", "height", "measured", "zoom"),
        *("color", "colour", "colors", "colours", "backgroundColor", "borderColor", "icon"),
        *("style", "ui", "layout", "viewport", "selected", "dragging", "collapsed"),
    )
)
"""Keys of an editor's drawing. The content hash leaves them out of the document itself, its nodes,
edges, queues (and their sub-queues) and sources; inside ``metadata``, ``config``, ``state`` and other
free objects every key counts."""

_NULL_IS_ABSENT = {
    "document": "name description metadata state input_schema output settings expose edges queues"
    " sources spec_version version",
    "node": "description metadata timeout_s retry on_error effects resources cache join queue",
    "edge": "condition default key queue",
    "queue": "bandwidth sub_queues shared",
    "source": "config name",
}


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
    if not isinstance(document, dict):
        return result
    top = _without_nulls(document, "document")
    rewrites = {"nodes": _node, "edges": _edge, "queues": _queue, "sources": _source}
    for name, rewrite in rewrites.items():
        items = top.get(name)
        if isinstance(items, list):
            top[name] = [
                rewrite(result, item, (name, index)) if isinstance(item, dict) else item
                for index, item in enumerate(items)
            ]
    result.document = top
    return result


def content_hash(normal: dict[str, Json]) -> str:
    """SHA-256, in hex, of the canonical JSON of a normalised document without its layout keys."""
    kept = {key: value for key, value in normal.items() if key not in LAYOUT}
    for name in ("nodes", "edges", "queues", "sources"):
        if isinstance(kept.get(name), list):
            kept[name] = [_bare(item) for item in kept[name]]
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
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return value


def _without_nulls(item: dict[str, Json], model: str) -> dict[str, Json]:
    optional = _NULL_IS_ABSENT[model].split()
    return {k: v for k, v in item.items() if v is not None or k not in optional}


def _rename(result: Canonical, item: dict[str, Json], at: Parts, old: str, new: str) -> None:
    """Move ``old`` to ``new``; different values in both are a conflict."""
    if old not in item:
        return
    value = item.pop(old)
    if item.get(new) is None:
        item[new] = value
        result.origins[(*at, new)] = result.origin((*at, old))
    elif value is not None and value != item[new]:
        _conflict(result, item, at, old, new)


def _conflict(result: Canonical, item: dict[str, Json], at: Parts, old: Part, new: Part) -> None:
    result.conflicts.append(
        problem(
            "E003",
            f"{old!r} and {new!r} are two spellings of one thing, but their values differ",
            result.origin((*at, old)),
            node_id=item.get("id"),
            hint=f"Keep {new!r} only",
        )
    )


def _node(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    node = _without_nulls(raw, "node")
    if node.get("type") == "api":
        node["type"] = "http"
    metadata = node.get("metadata", {})
    if isinstance(metadata, dict):
        node["metadata"] = _metadata(result, node, metadata, (*at, "metadata"))
    return node


def _metadata(
    result: Canonical, node: dict[str, Json], raw: dict[str, Json], at: Parts
) -> dict[str, Json]:
    metadata = dict(raw)
    if isinstance(metadata.get("config"), dict) and node.get("type") not in ("plugin", "langgraph"):
        for key, value in metadata.pop("config").items():
            result.origins[(*at, "config", key)] = (*at, "config", key)
            if metadata.get(key) is None:
                metadata[key] = value
                result.origins[(*at, key)] = (*at, "config", key)
            elif value is not None and value != metadata[key]:
                _conflict(result, node, (*at, "config"), key, key)
    _rename(result, metadata, at, "source_id", "source")
    _rename(result, metadata, at, "model_name", "model")
    _rename(result, metadata, at, "prompt_template", "prompt")
    _rename(result, metadata, at, "query_template", "query")
    if node.get("type") == "input":
        _rename(result, metadata, at, "validation", "validate")
    _chain(result, metadata, node, at)
    return metadata


def _chain(result: Canonical, metadata: dict[str, Json], node: dict[str, Json], at: Parts) -> None:
    """``fallbacks`` beside a single source becomes a chain in ``source``."""
    if "fallbacks" not in metadata:
        return
    source, fallbacks = metadata.get("source"), metadata["fallbacks"]
    if fallbacks is None:
        del metadata["fallbacks"]
    elif isinstance(source, str) and isinstance(fallbacks, list):
        del metadata["fallbacks"]
        metadata["source"] = [source, *fallbacks]
        head = result.origin((*at, "source"))
        result.origins[(*at, "source", 0)] = head
        for index in range(len(fallbacks)):
            result.origins[(*at, "source", index + 1)] = (*at, "fallbacks", index)
    elif isinstance(source, list):
        del metadata["fallbacks"]
        if source[1:] != fallbacks:
            _conflict(result, node, at, "fallbacks", "source")


def _edge(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    edge = _without_nulls(raw, "edge")
    _rename(result, edge, at, "from_node", "from")
    _rename(result, edge, at, "to_node", "to")
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
                    (*at, "default"),
                    edge_index=int(at[1]),
                    hint="Drop 'default' or 'condition'",
                )
            )
        else:
            edge["condition"] = "else"
            result.origins[(*at, "condition")] = (*at, "default")
    return edge


def _queue(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    queue = _without_nulls(raw, "queue")
    _rename(result, queue, at, "from_node", "from")
    _rename(result, queue, at, "to_node", "to")
    _rename(result, queue, at, "subqueues", "sub_queues")
    bandwidth = queue.get("bandwidth")
    if isinstance(bandwidth, dict):
        queue["bandwidth"] = dict(bandwidth)
        place = (*at, "bandwidth")
        _rename(result, queue["bandwidth"], place, "tokens_per_minute", "max_tokens_per_minute")
    return queue


def _source(result: Canonical, raw: dict[str, Json], at: Parts) -> dict[str, Json]:
    source = _without_nulls(raw, "source")
    if source.get("kind") == "http":
        source["kind"] = "api"
    config = source.get("config")
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if value is not None}
        place = (*at, "config")
        _rename(result, config, place, "model_name", "model")
        _rename(result, config, place, "connection_string_env", "dsn_env")
        if config.get("provider") == "google":
            config["provider"] = "gemini"
        source["config"] = config
    return source
