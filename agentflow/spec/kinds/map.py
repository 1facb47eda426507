"""Options of ``map`` nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from agentflow.spec.kinds.base import CEL, VALUES, Complaint, NodeKind, Options, OptionsModel, Text
from agentflow.spec.kinds.values import Word
from agentflow.spec.reads import NOT_FIELDS
from agentflow.spec.state import BUILTIN
from agentflow.spec.templates import Embedded, expressions_in

Json = Any
FORMS = {
    "node": "type",
    "graph": "nodes",
    "workflow": "workflow",
    "workflow_id": "workflow_id",
}
"""Form of a body -> the member that tells it."""
OWN_NAMES = ("item", "index")
_OF_WORKFLOWS = ("state", "sources", "queues", "settings", "input_schema", "output", "expose")
_KEYWORDS = (
    *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import", "in"),
    *("let", "loop", "namespace", "null", "package", "return", "true", "var", "void", "while"),
)
_ID = {"type": "string", "minLength": 1}
VERSION_SCHEMA: dict[str, Json] = {
    "anyOf": [{"type": "integer", "minimum": 1}, {"const": "published"}]
}
_BODY_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {
        "type": {**_ID, "description": "One node: its type."},
        "metadata": {"type": "object", "description": "One node: its options."},
        "nodes": {"type": "array", "minItems": 1, "description": "A graph: its nodes."},
        "edges": {"type": "array", "description": "A graph: its edges."},
        "start_node": {**_ID, "description": "A graph: the id of its first node."},
        "workflow": {"type": "object", "description": "A whole workflow, written out."},
        "workflow_id": {**_ID, "description": "A stored workflow, by its id."},
        "version": {**VERSION_SCHEMA, "description": "Of a stored workflow: which version."},
    },
    "oneOf": [{"required": [member]} for member in FORMS.values()],
}


def _object(value: Json) -> Json:
    if not isinstance(value, dict):
        raise ValueError("expected an object")
    return value


Body = Annotated[Any, PlainValidator(_object), WithJsonSchema(_BODY_SCHEMA)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Count = Annotated[int, Field(ge=1)]


class MapOptions(OptionsModel):
    """Does the same for every item of a list. The result is the list of the items' results."""

    items: str = Field(
        description="One ${expression} that gives the list.", examples=["${db_result}"]
    )
    item_var: Name = Field("item", description="The name of the item in texts of the body.")
    index_var: Name = Field(
        "index",
        description="The name of the item's position, counted from 0, in texts of the body.",
    )
    body: Body = Field(
        description="What is done for each item: a node {type, metadata}, a graph {nodes, edges, "
        "start_node}, {workflow} or {workflow_id, version}. It sees the state as this step sees it, "
        "the item and its position; of what it writes only its result is kept.",
        examples=[{"type": "llm", "metadata": {"source": "small", "prompt": "Sum up {item.text}"}}],
    )
    until: Word | None = Field(
        None,
        description="A CEL expression over result, the item and its position, looked at when an item "
        "is finished: once it is true no further item starts and open ones are cancelled.",
        examples=["result.score > 0.9"],
    )
    max_concurrency: Count = Field(50, description="Most items under way at once.")
    batch_size: Count = Field(1, description="Items handed to a worker together.")
    on_item_error: Literal["fail", "collect", "skip"] = Field(
        "fail",
        description="When an item fails: fail the step; collect: the result is {items, errors, "
        "counts}; skip: leave it out of the list.",
    )
    max_items: Count = Field(
        100_000, description="A longer list fails the step before any item starts."
    )
    output_key: Word | None = Field(None, description="State field that takes the result.")


def body_form(body: Mapping[str, Json]) -> str | None:
    """Which of :data:`FORMS` a body has; None when it has none of them, or several."""
    found = [form for form, member in FORMS.items() if body.get(member) is not None]
    return found[0] if len(found) == 1 else None


def reference_complaints(options: Options) -> tuple[Complaint, ...]:
    """What is wrong with ``workflow``, ``workflow_id`` and ``version``, as far as they are given."""
    found: list[Complaint] = []
    name, version = options.get("workflow_id"), options.get("version")
    if name is not None and not (isinstance(name, str) and name):
        found.append((("workflow_id",), "must be the id of a workflow"))
    if options.get("workflow") is not None and not isinstance(options["workflow"], dict):
        found.append((("workflow",), "must be a workflow: an object with nodes and start_node"))
    if version is None:
        return tuple(found)
    if name is None:
        found.append((("version",), "has no meaning without 'workflow_id'"))
    elif version != "published" and not (type(version) is int and version >= 1):
        found.append((("version",), "must be the number of a version, or 'published'"))
    return tuple(found)


def _complaints(options: Options) -> tuple[Complaint, ...]:
    found: list[Complaint] = [*_items_complaints(options["items"])]
    for key in ("item_var", "index_var"):
        name = options[key]
        reserved = name in NOT_FIELDS - set(OWN_NAMES) or name in BUILTIN
        if reserved or name in _KEYWORDS:
            found.append(((key,), f"cannot be {name!r}: the name is taken"))
    if options["item_var"] == options["index_var"]:
        found.append((("index_var",), "must differ from 'item_var'"))
    return (*found, *_body_complaints(options["body"]))


def _items_complaints(items: str) -> tuple[Complaint, ...]:
    try:
        parts = expressions_in(items)
    except ValueError:
        parts = ()
    if len(parts) == 1 and isinstance(parts[0], Embedded):
        return ()
    return ((("items",), "must be one ${expression} that gives a list, and nothing else"),)


def _body_complaints(body: Mapping[str, Json]) -> tuple[Complaint, ...]:
    form = body_form(body)
    if form is None:
        sentence = (
            "must be exactly one of a node {type, metadata}, a graph {nodes, edges, start_node}, "
            "{workflow} and {workflow_id, version}"
        )
        return ((("body",), sentence),)
    if form == "graph":
        return tuple(
            (("body", key), "cannot be part of a graph: write a whole 'workflow' instead")
            for key in _OF_WORKFLOWS
            if body.get(key) is not None
        )
    if form == "node":
        return ()
    return tuple((("body", *at), sentence) for at, sentence in reference_complaints(body))


def _texts(options: Options) -> tuple[Text, ...]:
    texts = [Text(("items",), VALUES, options["items"])]
    if options.get("until") is not None:
        names = ("result", options["item_var"], options["index_var"])
        texts.append(Text(("until",), CEL, options["until"], names))
    return tuple(texts)


KIND = NodeKind(
    type="map",
    options=MapOptions,
    available=False,
    texts=_texts,
    sources=lambda options: (),
    complaints=_complaints,
)
