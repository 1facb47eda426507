"""Stage 4, first part: the options of every node against its type's model, and its resources."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from pydantic import ValidationError

from agentflow.spec.kinds.base import Complaint, NodeKind
from agentflow.spec.problems import Part
from agentflow.spec.reads import NOT_FIELDS
from agentflow.spec.rules.draft import Draft
from agentflow.spec.rules.shape import grouped
from agentflow.spec.state import BUILTIN

Json = Any
_RESOURCE_KEYS = ("num_cpus", "num_gpus", "memory_mb", "labels")


def options_of(kind: NodeKind, metadata: dict[str, Json]) -> dict[str, Json]:
    """The options in canonical spelling with defaults filled in. Raises pydantic.ValidationError."""
    given = {key: value for key, value in metadata.items() if value is not None}
    if kind.options is None:
        return given
    filled = kind.options.model_validate(given).model_dump(by_alias=True, warnings=False)
    return kind.complete(filled)


def check_options(draft: Draft) -> None:
    """Find E024 and E025; fill in the draft's options."""
    for position, kind in draft.kinds.items():
        node = draft.nodes[position]
        metadata = node.get("metadata") or {}
        at = ("nodes", position, "metadata")
        try:
            options = options_of(kind, metadata)
        except ValidationError as error:
            for place, sentences, _ in grouped(error, metadata):
                name = ".".join(str(part) for part in place)
                _invalid(draft, node, (*at, *place), f"{name!r}: {' or '.join(sentences)}")
            continue
        complaints = (*kind.complaints(options), *_taken(kind, options))
        for place, sentence in complaints:
            name = ".".join(str(part) for part in place)
            _invalid(draft, node, (*at, *place), f"{name!r} {sentence}")
        if not complaints:
            draft.options[position] = options
        _resources(draft, position, kind.refined(options))


def _taken(kind: NodeKind, options: dict[str, Json]) -> Iterator[Complaint]:
    """Fields and names of the engine cannot be written by a node."""
    for at, field in ((("output_key",), kind.main_field(options)), *kind.more_fields(options)):
        builtin = BUILTIN.get(field or "")
        if field in NOT_FIELDS or (builtin is not None and builtin.engine):
            yield at, f"cannot be {field!r}: the engine provides that name"


def _invalid(draft: Draft, node: dict[str, Json], at: tuple[Part, ...], what: str) -> None:
    text = f"Node {node['id']!r} of type {node['type']!r}: option {what}"
    draft.add("E024", text, at, node_id=node["id"])


def _resources(draft: Draft, position: int, kind: NodeKind) -> None:
    node = draft.nodes[position]
    resources = node.get("resources")
    if not isinstance(resources, dict):
        return
    at = ("nodes", position, "resources")
    if kind.placement == "inline" and (kind.available or kind.options):
        draft.add(
            "E025",
            f"Node {node['id']!r} of type {kind.type!r} runs in the coordinator and takes no "
            "resources",
            at,
            node_id=node["id"],
            hint="Remove 'resources'",
        )
        return
    for key, sentence in _impossible(resources):
        text = f"'resources.{key}' of node {node['id']!r} {sentence}"
        draft.add("E025", text, (*at, key), node_id=node["id"])


def _impossible(resources: dict[str, Json]) -> list[tuple[str, str]]:
    found = []
    cpus, gpus = resources.get("num_cpus"), resources.get("num_gpus")
    memory = resources.get("memory_mb")
    if _number(cpus) and cpus < 0:
        found.append(("num_cpus", "must not be negative"))
    if _number(gpus) and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
        found.append(("num_gpus", "must be 0, a fraction below 1, or a whole number"))
    if _number(memory) and memory <= 0:
        found.append(("memory_mb", "must be greater than 0"))
    labels = resources.get("labels")
    for key in labels if isinstance(labels, dict) else ():
        if not key or len(key) > 128:
            found.append(("labels", "must have keys of 1 to 128 characters"))
    found += [
        (key, f"is unknown; known are {', '.join(_RESOURCE_KEYS)}")
        for key in resources
        if key not in _RESOURCE_KEYS
    ]
    return found


def _number(value: Json) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
