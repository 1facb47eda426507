"""The published JSON Schema of a WorkflowSpec (2020-12), generated from the models."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from agentflow.spec.jsonschema import first_mismatch
from agentflow.spec.kinds.catalogue import NODE_TYPES, node_kind
from agentflow.spec.kinds.sources import CONFIGS, KINDS, PROVIDERS
from agentflow.spec.models import WorkflowSpec
from agentflow.spec.reading import MAX_NESTING

__all__ = ["first_mismatch", "workflow_schema"]

Json = Any
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{model}"


def workflow_schema() -> dict[str, Json]:
    """The schema of the canonical spelling. The options of a node follow from its ``type``, the
    configuration of a source from its ``kind``."""
    kinds = [(name, node_kind(name)) for name in NODE_TYPES]
    options = {name: kind.options for name, kind in kinds if kind is not None and kind.options}
    models: list[tuple[Any, Any]] = [
        (model, "validation") for model in (WorkflowSpec, *options.values(), *CONFIGS.values())
    ]
    references, definitions = models_json_schema(models, by_alias=True, ref_template=_REF)
    schemas: dict[str, Json] = definitions["$defs"]
    node = schemas["NodeSpec"]
    node["properties"]["type"] = {"enum": list(NODE_TYPES), "title": "Type"}
    node["allOf"] = [
        _when("type", name, "metadata", references[(model, "validation")])
        for name, model in options.items()
    ]
    source = schemas["SourceSpec"]
    source["properties"]["kind"] = {"enum": list(KINDS), "title": "Kind"}
    source["allOf"] = [
        _when("kind", name, "config", _configuration(name, references[(model, "validation")]))
        for name, model in CONFIGS.items()
    ]
    top = schemas.pop("WorkflowSpec")
    return {
        "$schema": DIALECT,
        **top,
        "description": f"A workflow document. Nesting is at most {MAX_NESTING} levels.",
        "$defs": schemas,
    }


def _configuration(kind: str, reference: dict[str, Json]) -> dict[str, Json]:
    providers = PROVIDERS[kind]
    if not providers:
        return reference
    key = "driver" if kind == "db" else "provider"
    return {"allOf": [reference, {"properties": {key: {"enum": list(providers)}}}]}


def _when(key: str, value: str, target: str, schema: dict[str, Json]) -> dict[str, Json]:
    return {
        "if": {"properties": {key: {"const": value}}, "required": [key]},
        "then": {"properties": {target: schema}},
    }
