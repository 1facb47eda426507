"""The examples of docs/sources.md, done by a worker against servers that speak each protocol; and a
secret planted in every source, which must not come out anywhere."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentflow.engine.workers import Attempt, Done, Failed
from agentflow.flow.opening import open_performer
from agentflow.plan.compile import compile_plan
from agentflow.settings import Settings
from agentflow.spec.check import check
from tests.fake_provider import Cut, FakeProvider, Raw
from tests.unit.sources.sides import SIDES, Side

Json = Any
PAGE = Path(__file__).parents[3] / "docs" / "sources.md"
EXAMPLES: list[dict[str, Json]] = [
    json.loads(found) for found in re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
]
SOURCES: dict[str, dict[str, Json]] = {
    each["config"]["provider"]: each for each in EXAMPLES if each.get("kind") == "llm"
}
[WORKFLOW] = [each for each in EXAMPLES if each.get("name") == "one question"]
[SERVICE] = [each for each in EXAMPLES if each.get("kind") == "api"]
[TICKETS] = [each for each in EXAMPLES if each.get("type") == "http"]
CANARY = "sk-canary-fedcba9876543210"
HOSTED = [side for side in SIDES if side.name not in ("azure v1", "openai responses")]


@pytest.fixture(params=HOSTED, ids=lambda side: side.name)
def side(request: pytest.FixtureRequest) -> Side:
    return request.param


@pytest.fixture
def wire(side: Side) -> Iterator[Any]:
    with side.wire() as wire:
        yield wire
    assert wire.faults == []


def attempt(side: Side, wire: Any, **options: Json) -> Attempt:
    """An attempt of a node with the documented source: it only leads to the wire."""
    source = json.loads(json.dumps(SOURCES[side.name]))
    wanted = side.config(wire)
    names = ("azure_endpoint", "deployment") if side.name == "azure" else ("base_url",)
    source["config"] |= {name: wanted[name] for name in names}
    if side.name == "vllm":
        source["config"]["api_key_env"] = "OPENAI_API_KEY"
    return attempt_of(source, **options)


def attempt_of(source: dict[str, Json], **options: Json) -> Attempt:
    """An attempt of the documented workflow's node, with this source in place of its own."""
    [node] = json.loads(json.dumps(WORKFLOW["nodes"]))
    node["metadata"] |= {"source": source["id"], **options}
    return attempt_in(WORKFLOW | {"nodes": [node], "sources": [source]})


def attempt_in(document: dict[str, Json], *names: str) -> Attempt:
    """An attempt of the only node of a workflow. ``names``: further variables that it may name."""
    checked = check(document, allowed_env=names, present_env=names) if names else check(document)
    assert checked.normalized is not None, checked.errors
    plan = compile_plan(checked.normalized)
    assert plan.unsupported == ()
    [made] = plan.nodes
    return Attempt(
        id="a1",
        tenant="t1",
        execution_id="exec_1",
        step=made.id,
        attempt=1,
        generation=0,
        epoch=1,
        node=made,
        view={"user_input": "hello", "outputs": {}, "execution": {"id": "exec_1"}},
        fields=plan.fields,
        sources=tuple(plan.source(name) for name in made.sources),
    )


async def perform(todo: Attempt, tmp_path: Path, *names: str) -> Done | Failed:
    loopback = (ip_network("127.0.0.0/8"),)
    settings = Settings(data_dir=tmp_path, egress_allow=loopback, source_env=names)
    performer = open_performer(settings)
    pieces: list[str] = []
    told = await performer.perform(todo, pieces.append)
    await performer.close()
    if isinstance(told, Done) and todo.node.options.get("stream"):
        assert "".join(pieces) == told.result["text"]
    return told


def test_every_provider_is_documented() -> None:
    assert {side.name for side in HOSTED} | {"local"} == set(SOURCES)


async def test_documented_source_answers(
    side: Side, wire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(side.variable, CANARY)
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wire.script(side.said("good day", (12, 7, 4, 2)), side.said("no json"), side.said('{"n": 3}'))
    told = await perform(attempt(side, wire), tmp_path)
    assert isinstance(told, Done), told
    assert told.result["text"] == "good day" and told.result["provider"] == side.name
    assert told.result["usage"] == {
        "input_tokens": 12,
        "output_tokens": 7,
        "cached_tokens": 4,
        "reasoning_tokens": 2,
        "estimated": False,
    }
    assert told.calls[0].request_id.startswith("req_")
    repaired = await perform(attempt(side, wire, response_schema=schema, stream=False), tmp_path)
    assert isinstance(repaired, Done) and repaired.result["data"] == {"n": 3}
    assert len(repaired.calls) == 2


async def test_planted_secret_comes_out_nowhere(
    side: Side,
    wire: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(side.variable, CANARY)
    wire.script(
        side.said("fine"),
        side.refused(401, "bad key", echo_key=True),
        side.refused(400, "bad request", echo_key=True),
        side.refused(500, "broken", echo_key=True),
        Raw(f"<html>{CANARY}</html>".encode()),
        Raw(f"data: {CANARY}\n\n".encode(), content_type="text/event-stream"),
        Cut(),
    )
    with caplog.at_level(logging.DEBUG):
        told = [await perform(attempt(side, wire), tmp_path) for _ in range(7)]
    assert [isinstance(each, Done) for each in told] == [True] + 6 * [False]
    assert CANARY in json.dumps(wire.requests[0].headers)
    sinks = [msgspec.json.encode(told).decode(), caplog.text, *capfd.readouterr()]
    sinks += [repr(record.__dict__) for record in caplog.records if record.name != "root"]
    assert not any(CANARY in sink for sink in sinks)
    for each in told[1:]:
        assert isinstance(each, Failed) and repr(SOURCES[side.name]["id"]) in each.error.message


async def test_documented_service_is_asked_with_a_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("CRM_CLIENT_ID", "CRM_CLIENT_SECRET")
    for name in names:
        monkeypatch.setenv(name, f"{CANARY}-{name}")
    source = json.loads(json.dumps(SERVICE))
    token = Raw(b'{"access_token": "t-1", "token_type": "Bearer"}', 200, "application/json")
    tickets = {"tickets": [{"subject": "broken"}, {"subject": "late"}]}
    with FakeProvider(
        token, Raw(json.dumps(tickets).encode(), 200, "application/json")
    ) as provider:
        base = f"http://127.0.0.1:{provider.port}"
        source["config"] |= {"base_url": f"{base}/v1", "token_url": f"{base}/oauth/token"}
        document = {"nodes": [TICKETS], "sources": [source], "start_node": "tickets"}
        told = await perform(attempt_in(document, *names), tmp_path, *names)
        asked = provider.last
    assert isinstance(told, Done), told
    assert told.result["data"] == {"subjects": ["broken", "late"]}
    assert asked.path == "/v1/tickets?customer=hello"
    assert asked.headers["authorization"] == "Bearer t-1"
    assert CANARY not in msgspec.json.encode(told).decode()
