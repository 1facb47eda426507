"""``agentflow schema``: a JSON Schema that fits what the checker accepts."""

import json

import pytest

from agentflow.spec.jsonschema import compile_schema
from tests.cli.conftest import EXAMPLES


def test_schema_is_a_json_schema_with_the_node_types(cli):
    schema = json.loads(cli("schema").stdout)
    compile_schema(schema)
    text = json.dumps(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert all(f'"{name}"' in text for name in ("input", "router", "llm", "aggregator"))


WORKFLOWS = sorted(
    path.stem for path in EXAMPLES.glob("*.json") if "nodes" in json.loads(path.read_text())
)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_examples_fit_the_schema(cli, name):
    from agentflow.spec.schema import first_mismatch

    schema = json.loads(cli("schema").stdout)
    document = json.loads((EXAMPLES / f"{name}.json").read_text())
    assert first_mismatch(schema, document) is None
    assert first_mismatch(schema, {**document, "nodes": "none"}) is not None


def test_schema_is_written_to_a_file(cli, tmp_path):
    done = cli("schema", "--out", "workflow.schema.json")
    assert done.returncode == 0
    assert done.stdout == ""
    written = json.loads((tmp_path / "workflow.schema.json").read_text())
    assert written == json.loads(cli("schema").stdout)
