"""The published JSON Schema of a WorkflowSpec (2020-12), generated from the models.

It describes what an author may write, accepted spellings included. It is made for editors: every
property has a description, options follow from the node type and configuration from kind and
provider, and a mistake is reported at its own place. It refuses nothing that the check accepts.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic.json_schema import models_json_schema

from agentflow.spec.environment import NAME, SECRET
from agentflow.spec.jsonschema import first_mismatch
from agentflow.spec.kinds.base import NodeKind
from agentflow.spec.kinds.catalogue import NODE_TYPES, node_kind
from agentflow.spec.kinds.sources import (
    CONFIGS,
    CREDENTIALS,
    KINDS,
    NAMED,
    PROVIDERS,
    REQUIRED,
)
from agentflow.spec.models import WorkflowSpec
from agentflow.spec.normal import NULL_IS_ABSENT, OPAQUE_CONFIG, SPELLINGS, VALUES
from agentflow.spec.reading import MAX_NESTING

__all__ = ["NODE_SUMMARY", "SCHEMA_ID", "SOURCE_SUMMARY", "first_mismatch", "workflow_schema"]

Json = Any
DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_ID = "urn:agentflow:schema:workflow:1"
_REF = "#/$defs/{model}"

NODE_SUMMARY = {
    "input": "Takes a value in: transforms it and checks it.",
    "router": "Chooses an intent, by which edges are chosen.",
    "llm": "Asks a language model.",
    "image": "Has a model make pictures.",
    "db": "Queries a database.",
    "http": "Calls an HTTP service.",
    "aggregator": "Joins the results of several steps into one.",
    "agent": "A loop of model and tools.",
    "langgraph": "A compiled graph of yours, as one node.",
    "map": "Does the same for every item of a list.",
    "subworkflow": "Executes another workflow.",
    "human": "Waits for a person's answer.",
    "wait": "Waits for a time or a signal.",
    "plugin": "Code of yours, in a sandbox.",
}
"""Node type -> what it does, in one sentence."""

SOURCE_SUMMARY = {
    "llm": "A language model.",
    "image": "A model that makes pictures.",
    "db": "A database.",
    "api": "An HTTP service.",
    "mcp": "A server of tools.",
}
"""Source kind -> what it connects to, in one sentence."""

_INSTEAD_OF_SOURCE = {"http": ("url", "path"), "agent": ("agents",)}
"""Node types that need a source, or one of these options."""


def workflow_schema() -> dict[str, Json]:
    """The schema. The options of a node follow from its ``type``, the configuration of a source from
    its ``kind`` and ``provider``."""
    kinds = [kind for name in NODE_TYPES if (kind := node_kind(name)) is not None]
    models: list[tuple[Any, Any]] = [(WorkflowSpec, "validation")]
    models += [(kind.options, "validation") for kind in kinds if kind.options]
    models += [(model, "validation") for model in CONFIGS.values()]
    references, definitions = models_json_schema(models, by_alias=True, ref_template=_REF)
    schemas: dict[str, Json] = definitions["$defs"]
    for schema in schemas.values():
        _tidy(schema)
    _elements(schemas)
    for kind in kinds:
        if kind.options:
            _options(schemas, _name(references[(kind.options, "validation")]), kind)
    for name, model in CONFIGS.items():
        _config(schemas[_name(references[(model, "validation")])], name)
    _node_types(schemas["NodeSpec"], kinds, references)
    _source_kinds(schemas["SourceSpec"], references)
    for schema in schemas.values():
        del schema["type"]  # said where it is referred to, since null is allowed at some of these
    top = schemas.pop("WorkflowSpec")
    _nullable(top, NULL_IS_ABSENT["document"].split())
    own = {"$schema": {"type": "string", "description": "Where an editor finds this schema."}}
    return {
        "$schema": DIALECT,
        "$id": SCHEMA_ID,
        **top,
        "type": "object",
        "title": "AgentFlow workflow",
        "description": f"A workflow document. Nesting is at most {MAX_NESTING} levels.",
        "properties": {**own, **top["properties"]},
        "examples": [{"start_node": "ask", "nodes": [{"id": "ask", "type": "input"}]}],
        "$defs": schemas,
    }


def _name(reference: dict[str, Json]) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _tidy(schema: Json) -> None:
    """Say the same in the form that editors show best: without titles and defaults of null, and with
    one ``type`` instead of alternatives, so that a mistake is found at its own place."""
    stack = [schema]
    while stack:
        part = stack.pop()
        if isinstance(part, list):
            stack += part
        if not isinstance(part, dict):
            continue
        if part.get("default", 0) is None:
            del part["default"]
        if part.get("additionalProperties") is True:
            del part["additionalProperties"]
        if isinstance(part.get("title"), str):
            del part["title"]
        _or_null(part)
        if "$ref" in part:
            part.setdefault("type", "object")
        stack += part.values()


def _or_null(part: dict[str, Json]) -> None:
    """``anyOf: [X, null]`` as one schema."""
    choices = part.get("anyOf", ())
    if len(choices) != 2 or choices[1] != {"type": "null"} or "anyOf" in choices[0]:
        return
    kept = {key: value for key, value in part.items() if key != "anyOf"}
    part.clear()
    part.update(choices[0])
    if "$ref" in part:
        part["type"] = "object"
    part.update(kept)
    _allow_null(part)


def _allow_null(part: dict[str, Json]) -> None:
    kind = part.get("type")
    if isinstance(kind, str) and kind != "null":
        part["type"] = [kind, "null"]
    elif isinstance(kind, list) and "null" not in kind:
        part["type"] = [*kind, "null"]
    if "enum" in part and None not in part["enum"]:
        part["enum"] = [*part["enum"], None]
        if "enumDescriptions" in part:
            part["enumDescriptions"] = [*part["enumDescriptions"], ""]
    if "anyOf" in part and {"type": "null"} not in part["anyOf"]:
        part["anyOf"] = [*part["anyOf"], {"type": "null"}]


def _nullable(schema: dict[str, Json], names: Iterable[str]) -> None:
    for name in names:
        if name in schema["properties"]:
            _allow_null(schema["properties"][name])


def _elements(schemas: dict[str, Json]) -> None:
    for name in ("node", "edge", "queue", "source"):
        model = f"{name.capitalize()}Spec"
        _nullable(schemas[model], NULL_IS_ABSENT[name].split())
    _spellings(schemas["EdgeSpec"], SPELLINGS["edge"])
    _spellings(schemas["QueueSpec"], SPELLINGS["queue"])
    _spellings(schemas["Bandwidth"], SPELLINGS["bandwidth"])
    schemas["ResourcesSpec"]["additionalProperties"] = False


def _spellings(schema: dict[str, Json], pairs: Sequence[tuple[str, str]]) -> None:
    """Allow each other spelling beside its canonical one, also where that one is required."""
    properties, required = schema["properties"], schema.get("required", [])
    for other, name in pairs:
        if name not in properties:
            continue
        made = copy.deepcopy(properties[name])
        made.pop("examples", None)
        made.pop("default", None)
        _allow_null(made)
        made["description"] = f"The same as {name}."
        made["doNotSuggest"] = True
        properties[other] = made
        if name in required:
            required.remove(name)
            _one_of(schema, (name, other))


def _one_of(schema: dict[str, Json], names: Sequence[str]) -> None:
    if len(names) == 1:
        schema.setdefault("required", []).append(names[0])
        return
    text = f"Missing: {names[0]}"
    choice = {"anyOf": [{"required": [name]} for name in names], "errorMessage": text}
    schema.setdefault("allOf", []).append(choice)


def _options(schemas: dict[str, Json], model: str, kind: NodeKind) -> None:
    """Options may be null, stand inside ``config``, and be spelled in other ways."""
    schema = schemas[model]
    properties = schema["properties"]
    required = schema.pop("required", [])
    _nullable(schema, properties)
    pairs = SPELLINGS["options"] + SPELLINGS.get(f"options of {kind.type}", ())
    _spellings(schema, pairs)
    others: dict[str, list[str]] = {}
    for other, name in pairs:
        others.setdefault(name, []).append(other)
    inside: list[str] = []
    if kind.type not in OPAQUE_CONFIG and "config" not in properties:
        inside = ["config"]
        properties["config"] = {
            "type": ["object", "null"],
            "description": "Options may stand in here as well.",
            "doNotSuggest": True,
            "properties": {
                name: {"$ref": f"#/$defs/{model}/properties/{name}"} for name in properties
            },
        }
    if "source" in properties and "fallbacks" not in properties:
        properties["fallbacks"] = {
            "type": ["array", "null"],
            "description": "The sources that follow the one in source; the same as a list there.",
            "doNotSuggest": True,
        }
    wanted = [[name] for name in required]
    if kind.needs_source({}) and "source" not in required:
        wanted.append(["source", *_INSTEAD_OF_SOURCE.get(kind.type, ())])
    for names in wanted:
        spelled = [other for name in names for other in others.get(name, ())]
        _one_of(schema, [*names, *spelled, *inside])


def _config(schema: dict[str, Json], kind: str) -> None:
    """What a model of configurations leaves to the check: names of credentials, and what each
    provider requires."""
    properties = schema["properties"]
    for name, what in NAMED[kind].items():
        properties[f"{name}_env"] = {
            "type": ["string", "null"],
            "pattern": f"^{NAME.pattern}$",
            "description": f"Name of the environment variable that holds: {what}.",
        }
        properties[f"{name}_ref"] = {
            "type": ["string", "null"],
            "pattern": f"^{SECRET.pattern}$",
            "description": f"Reference of the secret that holds: {what}.",
        }
    required = schema.pop("required", [])
    _nullable(schema, properties)
    _spellings(schema, SPELLINGS["config"])
    providers = list(PROVIDERS[kind])
    other, canonical = VALUES["provider"]
    if canonical in providers:
        providers.append(other)
    for key in ("driver", "provider") if kind == "db" else ("provider",):
        if providers:
            described = properties.get(key, {}).get("description", "Kind of database.")
            properties[key] = {"enum": [*providers, None], "description": described}
    if required:
        schema["required"] = [name for name in required if name == "provider"]
    rules = [
        _when("provider", _values(provider, "provider"), _required(kind, provider))
        for provider in PROVIDERS[kind]
        if kind != "db"
    ]
    if kind in ("db", "api", "mcp"):
        rules = [_required(kind, "")]
    schema.setdefault("allOf", []).extend(rules)


def _required(kind: str, provider: str) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for key in REQUIRED[(kind, provider)]:
        names: list[str] = []
        for choice in key.split("|"):
            spelled = [other for other, name in SPELLINGS["config"] if name == choice]
            if choice in CREDENTIALS:
                spelled = [o for o, name in SPELLINGS["config"] if name == f"{choice}_env"]
                names += [f"{choice}_env", f"{choice}_ref", *spelled]
            else:
                names += [choice, *spelled]
        _one_of(found, names)
    return found


def _values(name: str, where: str) -> list[str]:
    other, canonical = VALUES[where]
    return [name, other] if name == canonical else [name]


def _node_types(schema: dict[str, Json], kinds: Sequence[NodeKind], references: Json) -> None:
    other, canonical = VALUES["node type"]
    names = [kind.type for kind in kinds]
    schema["properties"]["type"] = {
        "enum": [*names, other],
        "enumDescriptions": [
            *(NODE_SUMMARY.get(name, "") for name in names),
            f"The same as {canonical}.",
        ],
        "description": schema["properties"]["type"]["description"],
    }
    for kind in kinds:
        if kind.options:
            then: dict[str, Json] = {
                "properties": {"metadata": references[(kind.options, "validation")]}
            }
            if kind.needs_source({}):
                then["required"] = ["metadata"]
            schema.setdefault("allOf", []).append(
                _when("type", _values(kind.type, "node type"), then)
            )


def _source_kinds(schema: dict[str, Json], references: Json) -> None:
    other, canonical = VALUES["source kind"]
    schema["properties"]["kind"] = {
        "enum": [*KINDS, other],
        "enumDescriptions": [
            *(SOURCE_SUMMARY[name] for name in KINDS),
            f"The same as {canonical}.",
        ],
        "description": schema["properties"]["kind"]["description"],
    }
    for name, model in CONFIGS.items():
        then = {
            "properties": {"config": references[(model, "validation")]},
            "required": ["config"],
        }
        schema.setdefault("allOf", []).append(_when("kind", _values(name, "source kind"), then))


def _when(key: str, values: Sequence[str], then: dict[str, Json]) -> dict[str, Json]:
    chosen = {"const": values[0]} if len(values) == 1 else {"enum": list(values)}
    return {"if": {"properties": {key: chosen}, "required": [key]}, "then": then}
