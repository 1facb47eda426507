"""The examples of docs/sources.md, unchanged, against the live services: ``pytest -m live`` with a
provider's key in the environment. A text costs a fraction of a cent, a picture some cents."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentflow.engine.workers import Done
from agentflow.sources.images import Image
from tests.unit.sources import test_images_documented as pictures
from tests.unit.sources.test_documented import SOURCES, attempt_of, perform

Json = Any
SCHEMA = {
    "type": "object",
    "properties": {"capital": {"type": "string"}},
    "required": ["capital"],
    "additionalProperties": False,
}
QUESTION = "What is the capital of France?"
OWN = {"local", "vllm", "openai-compatible"}
"""Providers that are everybody's own server: there is no service to call."""


def callable_from(
    request: pytest.FixtureRequest, documented: Mapping[str, dict[str, Json]]
) -> dict[str, Json]:
    """A documented source, if its service may be called; else the test is skipped, and says why."""
    if "live" not in str(request.config.getoption("-m")):
        pytest.skip("calls a live service: pytest -m live")
    found: dict[str, Json] = json.loads(json.dumps(documented[request.param]))
    for variable in (
        found["config"]["api_key_env"],
        *(["AZURE_OPENAI_ENDPOINT"] if request.param == "azure" else []),
    ):
        if not os.environ.get(variable):
            pytest.skip(f"{variable} is not set")
    if request.param == "azure":
        found["config"]["azure_endpoint"] = os.environ["AZURE_OPENAI_ENDPOINT"]
    return found


@pytest.fixture(params=sorted(set(SOURCES) - OWN))
def source(request: pytest.FixtureRequest) -> dict[str, Json]:
    return callable_from(request, SOURCES)


@pytest.fixture(params=sorted(set(pictures.SOURCES) - OWN))
def painter(request: pytest.FixtureRequest) -> dict[str, Json]:
    return callable_from(request, pictures.SOURCES)


@pytest.mark.live
async def test_documented_source_answers_live(source: dict[str, Json], tmp_path: Path) -> None:
    said = await perform(attempt_of(source, prompt=QUESTION, max_tokens=200), tmp_path)
    assert isinstance(said, Done), said
    assert "Paris" in said.result["text"] and not said.result["usage"]["estimated"]
    assert said.calls[0].request_id and said.calls[0].cost > 0
    todo = attempt_of(source, prompt=QUESTION, response_schema=SCHEMA, stream=False)
    shaped = await perform(todo, tmp_path)
    assert isinstance(shaped, Done) and "Paris" in shaped.result["data"]["capital"]


@pytest.mark.live
async def test_documented_source_of_pictures_makes_one_live(
    painter: dict[str, Json], tmp_path: Path
) -> None:
    looked = await pictures.look(painter, tmp_path)
    assert painter["config"]["model"] in looked or "listed" in looked
    made = await pictures.draw(painter, tmp_path)
    [image] = made.images
    assert isinstance(image, Image) and image.content and image.size
    assert made.request_id and made.cost > 0
