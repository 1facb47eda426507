"""The examples of docs/sources.md, unchanged, against the live services: ``pytest -m live`` with a
provider's key in the environment. A call costs a fraction of a cent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from agentflow.engine.workers import Done
from tests.unit.sources.test_documented import SOURCES, attempt_of, perform

SCHEMA = {
    "type": "object",
    "properties": {"capital": {"type": "string"}},
    "required": ["capital"],
    "additionalProperties": False,
}
QUESTION = "What is the capital of France?"


@pytest.fixture(params=sorted(set(SOURCES) - {"local", "vllm"}))
def source(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A documented source whose service may be called."""
    if "live" not in str(request.config.getoption("-m")):
        pytest.skip("calls a live service: pytest -m live")
    found = json.loads(json.dumps(SOURCES[request.param]))
    variable = found["config"]["api_key_env"]
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set")
    if request.param == "azure" and not os.environ.get("AZURE_OPENAI_ENDPOINT"):
        pytest.skip("AZURE_OPENAI_ENDPOINT is not set")
    if request.param == "azure":
        found["config"]["azure_endpoint"] = os.environ["AZURE_OPENAI_ENDPOINT"]
    return found


@pytest.mark.live
async def test_documented_source_answers_live(source: dict[str, Any], tmp_path: Path) -> None:
    said = await perform(attempt_of(source, prompt=QUESTION, max_tokens=200), tmp_path)
    assert isinstance(said, Done), said
    assert "Paris" in said.result["text"] and not said.result["usage"]["estimated"]
    assert said.calls[0].request_id and said.calls[0].cost > 0
    todo = attempt_of(source, prompt=QUESTION, response_schema=SCHEMA, stream=False)
    shaped = await perform(todo, tmp_path)
    assert isinstance(shaped, Done) and "Paris" in shaped.result["data"]["capital"]
