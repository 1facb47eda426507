"""Executions through real coordinators and pools on Ray, with a provider on a real socket."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.distributed.cluster import Cluster
from agentflow.engine.stream import TokenDelta
from agentflow.errors import Conflict
from agentflow.execution.events import kind
from agentflow.execution.journal import Recorded, Submission
from agentflow.flow import Flow, open_flow
from agentflow.settings import Settings
from tests.cluster.conftest import poll
from tests.fake_provider import FakeProvider, Request, Text

pytestmark = pytest.mark.cluster


def workflow(base_url: str, **settings: Any) -> dict[str, Any]:
    """input -> router -> two llm nodes at once -> aggregator, and a route not taken."""

    def llm(node_id: str) -> dict[str, Any]:
        options = {"source": "model", "prompt": f"{node_id}: {{user_input}}"}
        return {"id": node_id, "type": "llm", "metadata": options}

    routes = [{"intent": "question", "keywords": ["why"]}]
    return {
        "name": "two-answers",
        "start_node": "message",
        "sources": [
            {
                "id": "model",
                "kind": "llm",
                "config": {"provider": "openai-compatible", "model": "m", "base_url": base_url},
            }
        ],
        "nodes": [
            {"id": "message", "type": "input"},
            {
                "id": "sort",
                "type": "router",
                "metadata": {"strategy": "keyword", "routes": routes, "default_intent": "other"},
            },
            llm("short"),
            llm("long"),
            {"id": "both", "type": "aggregator", "metadata": {"sources": ["short", "long"]}},
        ],
        "edges": [
            {"from": "message", "to": "sort"},
            {"from": "sort", "to": ["short", "long"], "condition": "intent", "key": "question"},
            {"from": "sort", "to": "end", "condition": "else"},
            {"from": "short", "to": "both"},
            {"from": "long", "to": "both"},
            {"from": "both", "to": "end"},
        ],
        "settings": settings,
    }


@pytest.fixture(scope="session")
def names(cluster: Cluster) -> list[str]:
    from agentflow.distributed.coordinator import start_coordinators

    return start_coordinators(2)


@pytest.fixture
async def flow(names: list[str], settings: Settings) -> AsyncIterator[Flow]:
    from agentflow.distributed.coordinator import RayDoor

    opened = await open_flow(settings, RayDoor(names))
    await _until_alive(opened, len(names))
    yield opened
    await opened.close()


async def _until_alive(flow: Flow, count: int) -> list[dict[str, Any]]:
    async def alive() -> Any:
        found = await flow._door.coordinators()
        return found if sum(each["alive"] for each in found) == count else None

    return list(await poll(alive, 60))


async def test_coordinators_complete_a_workflow_of_parallel_branches(flow: Flow) -> None:
    with FakeProvider(default=lambda request: Text(f"re {request.prompt}")) as provider:
        document = workflow(provider.base_url)
        execution = await flow.submit(
            DEFAULT_TENANT, document, initial_state={"user_input": "why?"}
        )
        record = await flow.wait(DEFAULT_TENANT, execution, 30)
    assert record.status == "completed", record.error
    assert provider.calls == 2
    steps = {step["node_id"]: step for step in record.steps}
    assert steps["short"]["worker"]["pool"] == "af/io/127.0.0.1"
    assert "re short: why?" in str(record.final_state)
    assert "re long: why?" in str(record.final_state)


async def test_door_streams_events_and_pieces_from_the_owner(flow: Flow) -> None:
    gate = threading.Event()
    reply = Text("a b c d", pieces=("a ", "b ", "c ", "d"), gate=gate, piece_delay=0.05)
    with FakeProvider(default=reply) as provider:
        execution = await flow.submit(
            DEFAULT_TENANT, workflow(provider.base_url), initial_state={"user_input": "why?"}
        )
        items: list[Any] = []
        async with asyncio.timeout(30):
            async for batch in flow.follow(DEFAULT_TENANT, execution):
                items += batch
                gate.set()
    recorded = [item for item in items if isinstance(item, Recorded)]
    assert [item.seq for item in recorded] == list(range(1, len(recorded) + 1))
    assert kind(recorded[-1].event) == "execution.completed"
    text = "".join(
        each.text
        for each in items
        if isinstance(each, TokenDelta) and each.step.startswith("short")
    )
    assert text == "a b c d"


async def test_a_hundred_streams_at_once_each_hear_all_of_their_own_reply(flow: Flow) -> None:
    gate, names = threading.Event(), [f"stream {index}" for index in range(100)]

    def echoed(request: Request) -> Text:
        if provider.calls == len(names):
            gate.set()
        words = request.prompt
        return Text(words, pieces=(words[:5], words[5:]), gate=gate)

    async def heard(name: str) -> str:
        execution = await flow.submit(DEFAULT_TENANT, document, initial_state={"user_input": name})
        text = ""
        async for batch in flow.follow(DEFAULT_TENANT, execution):
            for each in batch:
                if isinstance(each, TokenDelta):
                    assert each.offset == len(text)
                    text += each.text
        return text

    with FakeProvider(default=echoed) as provider:
        ask = {"id": "ask", "type": "llm", "metadata": {"source": "model"}}
        document = workflow(provider.base_url) | {
            "nodes": [ask],
            "edges": [{"from": "ask", "to": "end"}],
            "start_node": "ask",
        }
        async with asyncio.timeout(60):
            told = await asyncio.gather(*(heard(name) for name in names))
    assert told == names


async def test_door_passes_typed_errors_through(flow: Flow) -> None:
    with FakeProvider() as provider:
        document = workflow(provider.base_url)
        execution = await flow.submit(DEFAULT_TENANT, document, initial_state={"user_input": "x"})
        plan = flow.plan(document)
        again = Submission(
            execution_id=execution,
            tenant=DEFAULT_TENANT,
            content_hash=plan.content_hash,
            spec=flow.check(document).normalized or {},
        )
        with pytest.raises(Conflict) as caught:
            await flow._door.accept(again)
    assert type(caught.value) is Conflict


async def test_execution_goes_on_when_its_coordinator_is_killed(flow: Flow) -> None:
    gate = threading.Event()

    def answer(request: Any) -> Text:
        return Text("slow", gate=gate) if request.prompt.startswith("long") else Text("quick")

    with FakeProvider(default=answer) as provider:
        execution = await flow.submit(
            DEFAULT_TENANT, workflow(provider.base_url), initial_state={"user_input": "why?"}
        )
        seen: list[str] = []
        killed: dict[str, Any] = {}
        started = 0.0
        async with asyncio.timeout(60):
            async for batch in flow.follow(DEFAULT_TENANT, execution):
                seen += [kind(item.event) for item in batch if isinstance(item, Recorded)]
                quick_is_committed = seen.count("step.completed") >= 3
                if quick_is_committed and not killed:
                    owner = (await flow.get(DEFAULT_TENANT, execution)).owner
                    found = {each["id"]: each for each in await flow._door.coordinators()}
                    killed = found[str(owner)]
                    os.kill(killed["pid"], signal.SIGKILL)
                    started = time.monotonic()
                    gate.set()
        recovered_s = time.monotonic() - started
        record = await flow.get(DEFAULT_TENANT, execution)
        prompts = [request.prompt for request in provider.requests]
    assert record.status == "completed"
    assert seen[-1] == "execution.completed"
    assert prompts.count("short: why?") == 1
    assert prompts.count("long: why?") == 1  # its worker lived on, and the next owner adopted it
    assert recovered_s < 15
    alive = await _until_alive(flow, 2)
    (back,) = [each for each in alive if each["id"] == killed["id"]]
    assert back["pid"] != killed["pid"]


async def test_coordinator_comes_back_by_itself_after_it_was_killed(
    flow: Flow,
) -> None:
    """Found through its row in the database: nobody calls the new process."""
    before = {each["id"]: each["pid"] for each in await flow._door.coordinators()}
    epochs = await _epochs(flow)
    victim = min(before)
    os.kill(before[victim], signal.SIGKILL)

    async def entered_again() -> bool:
        return (await _epochs(flow))[victim] != epochs[victim]

    await poll(entered_again, 30)
    await _until_alive(flow, 2)


async def _epochs(flow: Flow) -> dict[str, int]:
    rows = await flow._pool.fetch("SELECT id, epoch FROM coordinators")
    return {row["id"]: row["epoch"] for row in rows}


async def test_ray_shows_names_and_figures_that_a_person_understands(
    flow: Flow, cluster: Cluster
) -> None:
    from ray.util.state import list_actors

    with FakeProvider() as provider:
        execution = await flow.submit(
            DEFAULT_TENANT, workflow(provider.base_url), initial_state={"user_input": "why?"}
        )
        await flow.wait(DEFAULT_TENANT, execution, 30)
    actors = await asyncio.to_thread(
        list_actors, address=cluster.dashboard_url, filters=[("state", "=", "ALIVE")]
    )
    assert {"af/coordinator/0", "af/coordinator/1", "af/io/127.0.0.1"} <= {
        actor["name"] for actor in actors
    }
    assert cluster.token_file is not None
    async with httpx2.AsyncClient(base_url=str(cluster.dashboard_url)) as http:
        assert (await http.get("/api/version")).status_code == 401
        token = {"Authorization": f"Bearer {cluster.token_file.read_text()}"}
        reply = await http.get("/api/v0/actors", headers=token)
        assert "af/coordinator/0" in reply.text
    figures = ("active_executions", "steps_total", "steps_per_second", "tokens_total")
    wanted = [f"ray_agentflow_{figure}" for figure in figures]

    async def published() -> bool:
        text = await _ray_metrics(cluster)
        return all(name in text for name in wanted) and 'coordinator="af/coordinator/' in text

    await poll(published, 30)


async def _ray_metrics(cluster: Cluster) -> str:
    """What Prometheus would find, at the addresses that Ray writes down for it."""
    import json

    assert cluster.folder is not None
    found = json.loads((cluster.folder / "prom_metrics_service_discovery.json").read_text())
    addresses = [address for each in found for address in each["targets"]]
    async with httpx2.AsyncClient() as http:
        replies = [await http.get(f"http://{address}/metrics") for address in addresses]
    return "\n".join(reply.text for reply in replies)


async def test_metrics_of_every_coordinator_are_told_apart(flow: Flow, names: list[str]) -> None:
    text = await flow.metrics()
    for name in names:
        assert f'coordinator="{name}"' in text


async def test_cluster_listens_on_loopback_only(cluster: Cluster, flow: Flow) -> None:
    assert cluster.open_ports() == []
    assert len(cluster.processes()) > 5
