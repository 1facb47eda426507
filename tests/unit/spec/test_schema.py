"""The published schema, and schemas that authors write."""

from __future__ import annotations

from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings

from agentflow.spec.check import check
from agentflow.spec.jsonschema import SchemaInvalid, compile_schema
from agentflow.spec.models import normalize
from agentflow.spec.schema import first_mismatch, workflow_schema
from tests.soak import cases
from tests.unit.spec.samples import damaged_documents, triage

Json = Any
SCHEMA = jsonschema_rs.Draft202012Validator(workflow_schema())


def test_workflow_schema_is_a_schema_of_2020_12() -> None:
    schema = workflow_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)


def test_workflow_schema_accepts_a_valid_workflow() -> None:
    assert SCHEMA.is_valid(normalize(triage()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("nodes", 1, "metadata", "strategy"), "magic"),
        (("nodes", 2, "metadata", "temperature"), 9),
        (("nodes", 2, "type"), "lmm"),
        (("sources", 0, "config", "provider"), "nobody"),
        (("sources", 0, "kind"), "disk"),
        (("edges", 0, "to"), []),
        (("nodes", 0, "on_error"), "ignore"),
        (("nodes", 0, "id"), "a b"),
    ],
)
def test_workflow_schema_refuses_by_type(path: tuple[Any, ...], value: Json) -> None:
    document = triage()
    holder: Json = document
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    assert not SCHEMA.is_valid(normalize(document))


@settings(max_examples=cases(60), deadline=None)
@given(damaged_documents())
def test_workflow_schema_accepts_whatever_the_check_accepts(document: Json) -> None:
    checked = check(document)
    if checked.normalized is not None:
        assert [error.message for error in SCHEMA.iter_errors(checked.normalized)] == []


@pytest.mark.parametrize(
    "schema", [{"type": "no"}, {"$ref": "http://127.0.0.1:1/x"}, {"pattern": "(?=a)"}, 3]
)
def test_compile_schema_refuses(schema: Json) -> None:
    with pytest.raises(SchemaInvalid, match="not a JSON Schema"):
        compile_schema(schema)


def test_first_mismatch_names_the_place() -> None:
    schema = {"properties": {"a": {"items": {"type": "string"}}}}
    assert first_mismatch(schema, {"a": ["x", 3]}) == 'a.1: 3 is not of type "string"'
    assert first_mismatch(schema, {"a": ["x"]}) is None
