"""The published schema, and schemas that authors write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings

from agentflow.spec.check import check
from agentflow.spec.jsonschema import SchemaInvalid, compile_schema
from agentflow.spec.kinds.catalogue import NODE_TYPES
from agentflow.spec.kinds.sources import CREDENTIALS, KINDS, REQUIRED
from agentflow.spec.models import normalize
from agentflow.spec.schema import (
    NODE_SUMMARY,
    SCHEMA_ID,
    SOURCE_SUMMARY,
    first_mismatch,
    workflow_schema,
)
from tests.soak import cases
from tests.unit.spec.samples import damaged_documents, triage

Json = Any
EXAMPLES = Path(__file__).parents[3] / "examples"
SCHEMA = jsonschema_rs.Draft202012Validator(workflow_schema())


def test_workflow_schema_is_a_schema_of_2020_12() -> None:
    schema = workflow_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)


def test_workflow_schema_accepts_a_valid_workflow() -> None:
    assert SCHEMA.is_valid(triage())
    assert SCHEMA.is_valid(normalize(triage()))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_workflow_schema_accepts_every_example(path: Path) -> None:
    document = json.loads(path.read_text())
    if "nodes" in document:
        assert mistakes(document) == []


def mistakes(document: Json) -> list[str]:
    """Where the schema finds fault, as JSON pointers."""
    return sorted(
        "".join(f"/{part}" for part in e.instance_path) for e in SCHEMA.iter_errors(document)
    )


def changed(*path: Any, value: Json) -> Json:
    """The valid workflow with one place replaced."""
    document = triage()
    holder: Json = document
    for part in path[:-1]:
        holder = holder[part]
    holder[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("start_node",), 3),
        (("nodes", 0, "id"), "a b"),
        (("nodes", 0, "on_error"), "ignore"),
        (("nodes", 0, "retry"), {"max_attempts": 0}),
        (("nodes", 0, "timeout_s"), "60"),
        (("nodes", 1, "metadata", "strategy"), "magic"),
        (("nodes", 1, "metadata", "routes"), {}),
        (("nodes", 2, "metadata", "temperature"), 9),
        (("nodes", 2, "metadata", "config"), {"temperature": "hot"}),
        (("nodes", 2, "type"), "lmm"),
        (("nodes", 2, "effects"), "twice"),
        (("nodes", 2, "resources"), {"num_gpus": 1, "num_tpus": 1}),
        (("edges", 0, "to"), []),
        (("edges", 0, "condition"), ""),
        (("queues",), [{"id": "q", "from": "a", "to": "b", "bandwidth": {"max_concurrent": 0}}]),
        (("sources", 0, "config", "provider"), "nobody"),
        (("sources", 0, "config", "api_key_env"), "lower"),
        (("sources", 0, "kind"), "disk"),
        (("settings",), {"priority": 9}),
        (("settings",), {"durability": "lax"}),
        (("state",), {"a": {"merge": "append"}}),
    ],
)
def test_workflow_schema_points_at_a_wrong_value(path: tuple[Any, ...], value: Json) -> None:
    place = "".join(f"/{part}" for part in path)
    found = mistakes(changed(*path, value=value))
    assert found and all(each.startswith(place) for each in found)
    assert not check(changed(*path, value=value)).valid


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("start_node",), ""),
        (("nodes",), ""),
        (("nodes", 0, "id"), "/nodes/0"),
        (("nodes", 0, "type"), "/nodes/0"),
        (("nodes", 2, "metadata"), "/nodes/2"),
        (("nodes", 2, "metadata", "source"), "/nodes/2/metadata"),
        (("nodes", 1, "metadata", "routes", 0, "intent"), "/nodes/1/metadata/routes/0"),
        (("edges", 0, "from"), "/edges/0"),
        (("edges", 0, "to"), "/edges/0"),
        (("sources", 0, "id"), "/sources/0"),
        (("sources", 0, "config"), "/sources/0"),
        (("sources", 0, "config", "provider"), "/sources/0/config"),
        (("sources", 0, "config", "model"), "/sources/0/config"),
    ],
)
def test_workflow_schema_points_at_what_lacks_something(path: tuple[Any, ...], place: str) -> None:
    document = triage()
    holder: Json = document
    for part in path[:-1]:
        holder = holder[part]
    del holder[path[-1]]
    assert mistakes(document) == [place]
    assert not check(document).valid


@pytest.mark.parametrize(
    ("provider", "lacking"),
    [(pair, key) for pair, keys in REQUIRED.items() for key in keys],
    ids=lambda value: "-".join(filter(None, value)) if isinstance(value, tuple) else value,
)
def test_workflow_schema_wants_what_each_provider_requires(
    provider: tuple[str, str], lacking: str
) -> None:
    kind, name = provider
    config = {"provider": name} if name else {}
    for key in REQUIRED[provider]:
        first = key.split("|")[0]
        if first in CREDENTIALS:
            config[f"{first}_ref"] = "secret://x"
        else:
            config[first] = "https://x.example" if first.endswith(("url", "endpoint")) else "x"
    whole = triage(sources=[{"id": "small", "kind": kind, "config": config}])
    assert mistakes(whole) == []
    first = lacking.split("|")[0]
    del config[f"{first}_ref" if first in CREDENTIALS else first]
    assert mistakes(whole) == ["/sources/0/config"]


def test_workflow_schema_accepts_the_other_spellings() -> None:
    document = {
        "$schema": "./workflow.schema.json",
        "start_node": "a",
        "edges": [{"from_node": "a", "to_node": "b", "default": True, "key": None, "animated": True}],
        "nodes": [
            {"id": "a", "type": "input", "metadata": {"validation": {"required": True}}, "retry": None},
            {"id": "b", "type": "llm", "metadata": {"config": {"source_id": "s", "fallbacks": ["t"]}}},
            {"id": "c", "type": "llm", "metadata": {"source_id": "s", "prompt_template": "x"}},
            {"id": "d", "type": "api", "metadata": {"url": "https://x.example"}, "queue": None},
        ],
        "queues": [
            {"id": "q", "from_node": "a", "to_node": "b", "subqueues": [{"id": "s", "weight": 1}],
             "bandwidth": {"tokens_per_minute": 5}},
        ],
        "sources": [
            {"id": "s", "kind": "llm", "config": {"provider": "google", "model_name": "m", "api_key_ref": "secret://x"}},
            {"id": "t", "kind": "db", "config": {"connection_string_env": "DSN"}},
            {"id": "u", "kind": "http", "config": {"base_url": "https://x.example"}},
        ],
        "settings": None,
    }  # fmt: skip
    assert mistakes(document) == []
    document["nodes"][2]["metadata"]["prompt_template"] = 3
    assert mistakes(document) == ["/nodes/2/metadata/prompt_template"]


def test_workflow_schema_describes_every_property() -> None:
    silent, todo = [], [("", workflow_schema())]
    while todo:
        place, schema = todo.pop()
        for name, part in schema.get("properties", {}).items():
            if "description" not in part and "$ref" not in part and "const" not in part:
                silent.append(f"{place}.{name}")
        todo += schema.get("$defs", {}).items()
    assert silent == []


def test_workflow_schema_has_an_identifier_and_names_every_node_type() -> None:
    schema = workflow_schema()
    assert schema["$id"] == SCHEMA_ID
    kinds = schema["$defs"]["NodeSpec"]["properties"]["type"]
    assert set(NODE_TYPES) <= set(kinds["enum"])
    assert len(kinds["enum"]) == len(kinds["enumDescriptions"])
    assert set(NODE_SUMMARY) == set(NODE_TYPES)
    assert set(SOURCE_SUMMARY) == set(KINDS)


@settings(max_examples=cases(60), deadline=None)
@given(damaged_documents())
def test_workflow_schema_accepts_whatever_the_check_accepts(document: Json) -> None:
    checked = check(document)
    if checked.normalized is not None:
        assert mistakes(checked.normalized) == []
        assert mistakes(document) == []


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
