"""Stage 1: the shape of the document, element by element."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from agentflow.spec.kinds.catalogue import NODE_TYPES, node_kind
from agentflow.spec.models import (
    RESERVED_IDS,
    SPEC_VERSION,
    EdgeSpec,
    NodeSpec,
    QueueSpec,
    SourceSpec,
    WorkflowSpec,
)
from agentflow.spec.problems import Part, near
from agentflow.spec.rules.draft import Draft
from agentflow.spec.state import BUILTIN

Json = Any
MAX_NODES, MAX_EDGES = 10_000, 50_000
_TAKEN = ("state", "execution", "result", "error", "item", "index")
_TYPES: dict[str, Callable[[Json], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}
_MERGED_BY = {
    "sum": ("int", "number", "any"),
    "merge": ("object", "any"),
    "concat": ("list", "any"),
    "max": ("int", "number", "string", "any"),
    "min": ("int", "number", "string", "any"),
}
"""Merge rule -> the types it can merge; rules left out take all."""
_LISTS: dict[str, type[BaseModel]] = {
    "nodes": NodeSpec,
    "edges": EdgeSpec,
    "queues": QueueSpec,
    "sources": SourceSpec,
}


def check_shape(draft: Draft) -> None:
    """Find E001 to E004, E017, E025 and E026; fill in the sound elements of the draft."""
    document = draft.document
    sound = True
    try:
        WorkflowSpec.model_validate(document)
    except ValidationError as error:
        sound = False
        _report(draft, error)
    for name, model in _LISTS.items():
        items = document.get(name)
        if not isinstance(items, list) and (name == "nodes" or items is not None):
            draft.complete = False
        for index, item in enumerate(items if isinstance(items, list) else ()):
            if sound or _sound(model, item):
                getattr(draft, name)[index] = item
            else:
                draft.complete = False
    if not draft.nodes:
        draft.complete = False
    _check_size(draft)
    _check_version(draft)
    _check_state(draft)
    _check_nodes(draft)
    _check_durability(draft)


def _sound(model: type[BaseModel], item: Json) -> bool:
    if not isinstance(item, dict):
        return False
    try:
        model.model_validate(item)
    except ValidationError as error:
        # A bad limit, resource or retry does not hide what the element is and refers to.
        return all(
            found["loc"] and found["loc"][0] in ("bandwidth", "resources", "retry", "cache")
            for found in error.errors(include_url=False, include_context=False)
        )
    return True


def _check_size(draft: Draft) -> None:
    nodes, edges = draft.document.get("nodes"), draft.document.get("edges")
    if isinstance(nodes, list) and len(nodes) > MAX_NODES:
        text = f"The workflow has {len(nodes):,} nodes; the limit is {MAX_NODES:,}"
        draft.add("E026", text, ("nodes",))
    count = sum(
        len(edge["to"]) if isinstance(edge, dict) and isinstance(edge.get("to"), list) else 1
        for edge in (edges if isinstance(edges, list) else ())
    )
    if count > MAX_EDGES:
        draft.add(
            "E026", f"The workflow has {count:,} edges; the limit is {MAX_EDGES:,}", ("edges",)
        )


def _check_version(draft: Draft) -> None:
    version = draft.document.get("spec_version", SPEC_VERSION)
    if isinstance(version, str) and version != SPEC_VERSION:
        draft.add(
            "E003",
            f"This server reads documents of spec_version {SPEC_VERSION!r}, not {version[:20]!r}",
            ("spec_version",),
            hint=f"Use spec_version {SPEC_VERSION!r}, or a newer server",
        )


def _check_state(draft: Draft) -> None:
    for name, field in draft.own_state.items():
        builtin = BUILTIN.get(name)
        if name in _TAKEN or (builtin is not None and builtin.engine):
            draft.add(
                "E003",
                f"The state field {name!r} cannot be declared: the engine provides it",
                ("state", name),
                hint="Choose another name",
            )
            continue
        kind, default = field.get("type") or "any", field.get("default")
        if default is not None and kind in _TYPES and not _TYPES[kind](default):
            text = f"The default of state field {name!r} is not of its type {kind!r}"
            draft.add("E003", text, ("state", name, "default"))
        merge = field.get("merge")
        if isinstance(merge, str) and kind not in _MERGED_BY.get(merge, (kind,)):
            text = f"The merge rule {merge!r} does not fit the type {kind!r} of field {name!r}"
            draft.add("E003", text, ("state", name, "merge"))


def _check_nodes(draft: Draft) -> None:
    for index, node in draft.nodes.items():
        if node["id"] in RESERVED_IDS:
            draft.add(
                "E003",
                f"The node id {node['id']!r} is reserved",
                ("nodes", index, "id"),
                node_id=node["id"],
                hint="Choose another id",
            )
        kind = node_kind(node["type"])
        if kind is None:
            draft.add(
                "E004",
                f"Node {node['id']!r} has the unknown type {node['type'][:100]!r}",
                ("nodes", index, "type"),
                node_id=node["id"],
                hint=near(node["type"], NODE_TYPES) or f"Known types: {', '.join(NODE_TYPES)}",
            )
        else:
            draft.kinds[index] = kind


def _check_durability(draft: Draft) -> None:
    settings = draft.document.get("settings")
    if not isinstance(settings, dict) or settings.get("durability") != "none":
        return
    for node in draft.nodes.values():
        if node["type"] in ("human", "wait") or node.get("effects") == "once":
            what = "effects 'once'" if node.get("effects") == "once" else f"type {node['type']!r}"
            draft.add(
                "E003",
                f"durability 'none' cannot be used with node {node['id']!r} of {what}",
                ("settings", "durability"),
                node_id=node["id"],
                hint="Use durability 'strict' or 'relaxed'",
            )


def _report(draft: Draft, error: ValidationError) -> None:
    for at, sentences, kinds in grouped(error, draft.document):
        code = _code(at, kinds)
        draft.add(
            code,
            f"{_subject(draft.document, at, missing='missing' in kinds)}{' or '.join(sentences)}",
            at,
            node_id=_element_id(draft.document, at),
            edge_index=_edge_index(at),
        )


def grouped(
    error: ValidationError, value: Json
) -> Iterable[tuple[tuple[Part, ...], list[str], set[str]]]:
    """The findings of a model by place: (place in ``value``, sentences, kinds of finding).

    Where one alternative of a union fits and only something in it is wrong, the others are not told.
    """
    places: dict[tuple[Part, ...], tuple[list[str], set[str]]] = {}
    for found in error.errors(include_url=False, include_input=False):
        at = _place(found["loc"], value, found["type"] == "missing")
        sentences, kinds = places.setdefault(at, ([], set()))
        sentence = _sentence(found)  # type: ignore[arg-type]
        if sentence not in sentences:
            sentences.append(sentence)
        kinds.add(found["type"])
    entered = {at[:length] for at in places for length in range(len(at))}
    return [
        (at, sentences, kinds)
        for at, (sentences, kinds) in places.items()
        if at not in entered or not all(kind.endswith("_type") for kind in kinds)
    ]


def _place(loc: tuple[Part, ...], value: Json, missing: bool) -> tuple[Part, ...]:
    """A location without the names that unions put into it."""
    at: list[Part] = []
    for position, part in enumerate(loc):
        if not _leads_on(value, part) and not (missing and position == len(loc) - 1):
            continue
        value = value[part] if _leads_on(value, part) else None
        at.append(part)
    return tuple(at)


def _leads_on(value: Json, part: Part) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _code(at: tuple[Part, ...], kinds: set[str]) -> str:
    if at in ((), ("nodes",)):
        return "E001"
    if "missing" in kinds:
        return "E002"
    if at[0] in _LISTS and len(at) <= 2:
        return "E001"
    if at[0] == "queues" and len(at) > 2 and ("bandwidth" in at or at[-1] == "weight"):
        return "E017"
    if at[0] == "nodes" and len(at) > 2 and at[2] == "resources":
        return "E025"
    return "E003"


def _edge_index(at: tuple[Part, ...]) -> int | None:
    index = at[1] if len(at) > 1 and at[0] == "edges" else None
    return index if isinstance(index, int) else None


def _element_id(document: Json, at: tuple[Part, ...]) -> Json:
    if len(at) > 1 and at[0] in _LISTS and isinstance(at[1], int):
        element = document[at[0]][at[1]]
        return element.get("id") if isinstance(element, dict) else None
    return None


def _subject(document: Json, at: tuple[Part, ...], missing: bool) -> str:
    if not at:
        return "The workflow: "
    element = _element_id(document, at)
    one = {"nodes": "node", "edges": "edge", "queues": "queue", "sources": "source"}.get(str(at[0]))
    owner = ""
    if len(at) > 1 and one:
        owner = f" of {one} {element!r}" if isinstance(element, str) else f" of {one} {at[1]}"
    names = [str(part) for part in (at[2:] if owner else at)]
    if not names:
        return f"{owner.removeprefix(' of ').capitalize()}: "
    return f"{'.'.join(names)!r}{owner} " if missing else f"{'.'.join(names)!r}{owner}: "


_SENTENCES = {
    "missing": "is required, but missing",
    "string_type": "expected text",
    "string_too_short": "must not be empty",
    "int_type": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "dict_type": "expected an object",
    "model_type": "expected an object",
    "list_type": "expected a list",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} item",
    "literal_error": "must be {expected}",
    "finite_number": "expected a finite number",
}
_PATTERNS = {
    "{1,100}$": "must be 1 to 100 of the characters A-Z a-z 0-9 _ - .",
    "[Pp][Ss]?://": "must be an absolute URL (http or https)",
}


def _sentence(found: dict[str, Any]) -> str:
    context = found.get("ctx") or {}
    if found["type"] == "value_error":
        return str(context.get("error", found["msg"]))
    if found["type"] == "string_pattern_mismatch":
        for part, sentence in _PATTERNS.items():
            if part in context["pattern"]:
                return sentence
    template = _SENTENCES.get(found["type"])
    return template.format(**context) if template else found["msg"][0].lower() + found["msg"][1:]
