"""The sources of pictures of docs/sources.md, opened as a worker opens them, against the providers' wire;
and a secret planted in each, which must not come out anywhere."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from agentflow.errors import StepError
from agentflow.flow.opening import open_connections
from agentflow.plan.compile import compile_plan
from agentflow.settings import Settings
from agentflow.sources.base import BilledError
from agentflow.sources.images import ImageReply, ImageRequest
from agentflow.spec.check import check
from tests.fake_provider import Cut, Raw
from tests.gemini_wire import Refused as GeminiRefused
from tests.images_wire import Drawn, GeminiDrawn, ImagesWire, Refused

Json = Any
PAGE = Path(__file__).parents[3] / "docs" / "sources.md"
SOURCES: dict[str, dict[str, Json]] = {
    source["config"]["provider"]: source
    for source in map(json.loads, re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL))
    if source.get("kind") == "image"
}
KINDS = {"openai-compatible": "compatible", "azure": "azure v1"}
CANARY = "sk-canary-0f1e2d3c4b5a6978"


@pytest.fixture(params=sorted(SOURCES))
def provider(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def wire(provider: str) -> Iterator[ImagesWire]:
    with ImagesWire(KINDS.get(provider, provider)) as wire:
        if provider == "gemini":
            wire.default = GeminiDrawn()
        else:
            wire.default = Drawn(usage=(10, 1000))
        yield wire
    assert wire.faults == []


def leading_to(provider: str, wire: ImagesWire) -> dict[str, Json]:
    """The documented source: it only leads to the wire."""
    source: dict[str, Json] = json.loads(json.dumps(SOURCES[provider]))
    place = "azure_endpoint" if provider == "azure" else "base_url"
    source["config"][place] = wire.address
    if provider.startswith("openai"):
        source["config"] |= {"base_url": f"{wire.address}/v1", "api_key_env": "OPENAI_API_KEY"}
    return source


@asynccontextmanager
async def opened(source: dict[str, Json], tmp_path: Path) -> AsyncIterator[Any]:
    """A source as a worker opens it."""
    node = {"id": "draw", "type": "image", "metadata": {"source": source["id"]}}
    checked = check({"nodes": [node], "sources": [source], "start_node": "draw"})
    assert checked.errors == () and checked.normalized is not None
    plan = compile_plan(checked.normalized)
    assert plan.unsupported == ()
    settings = Settings(data_dir=tmp_path, egress_allow=(ip_network("127.0.0.0/8"),))
    connections = open_connections(settings)
    try:
        yield await connections.open(plan.sources[0], "ten_x")
    finally:
        await connections.close()


async def draw(source: dict[str, Json], tmp_path: Path) -> ImageReply:
    """One picture of a source."""
    async with opened(source, tmp_path) as painter:
        made: ImageReply = await painter.generate(ImageRequest(prompt="a fox"))
        return made


async def look(source: dict[str, Json], tmp_path: Path) -> str:
    """What a source says of its models."""
    async with opened(source, tmp_path) as painter:
        return str(await painter.look(60.0))


def test_every_provider_of_pictures_is_documented() -> None:
    assert set(SOURCES) == {"openai", "azure", "gemini", "openai-compatible"}


async def test_documented_source_makes_a_picture(
    provider: str, wire: ImagesWire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    reply = await draw(leading_to(provider, wire), tmp_path)
    assert (reply.images[0].size, reply.provider) == ("1024x1024", provider)


async def test_secret_of_a_source_of_pictures_comes_out_nowhere(
    provider: str,
    wire: ImagesWire,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    refused = GeminiRefused if provider == "gemini" else Refused
    wire.script(
        *(refused(status, "no", echo_key=True) for status in (401, 400, 500)),
        Raw(f"<html>{CANARY}</html>".encode()),
        Cut(),
    )
    told = []
    with caplog.at_level(logging.DEBUG):
        for _ in range(5):
            with pytest.raises((StepError, BilledError)) as caught:
                await draw(leading_to(provider, wire), tmp_path)
            told.append(repr(caught.value) + str(caught.value))
    assert CANARY in json.dumps(wire.requests[0].headers)
    sinks = [*told, caplog.text, *capfd.readouterr()]
    sinks += [repr(record.__dict__) for record in caplog.records if record.name != "root"]
    assert not any(CANARY in sink for sink in sinks)
