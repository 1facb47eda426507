"""``image`` nodes through the whole engine: PostgreSQL, a folder of blobs, the providers' wire."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentflow import flow as flows
from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.events import StepCompleted, StepFailed
from agentflow.execution.journal import ExecutionRecord
from agentflow.flow import Flow
from agentflow.settings import Settings
from agentflow.spec.check import check
from tests.fake_provider import FakeProvider, Text
from tests.images_wire import Drawn, GeminiDrawn, ImagesWire, Refused, picture, png

Json = Any
LONGEST_S = 60
OUTSIDE = Path(__file__).parents[2] / "examples" / "outside"
CANARY = "sk-canary-of-the-pictures"
Execute = Callable[..., Awaitable[ExecutionRecord]]


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[ImagesWire]:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    with ImagesWire("openai") as wire:
        yield wire
    assert wire.faults == []


@pytest.fixture
async def flow(dsn: str, tmp_path: Path) -> AsyncIterator[Flow]:
    loopback = (ip_network("127.0.0.0/8"),)
    settings = Settings(
        data_dir=tmp_path, database_url=dsn, egress_allow=loopback, api_key="af-own-key"
    )
    flow = await flows.open_local(settings)
    yield flow
    await flow.close()


def source(wire: ImagesWire, name: str = "art", **config: Json) -> Json:
    settings = {
        "provider": "openai",
        "model": "gpt-image-2",
        "base_url": f"{wire.address}/v1",
        "api_key_env": "OPENAI_API_KEY",
        "price": {"per_image": 0.04},
        **config,
    }
    return {"id": name, "kind": "image", "config": settings}


def draw(**metadata: Json) -> Json:
    retry = {"max_attempts": 3, "base_delay_s": 0.01}
    return {
        "id": "draw",
        "type": "image",
        "retry": retry,
        "metadata": {"source": "art", "prompt": "a fox in {user_input}", **metadata},
    }


def document(sources: list[Json], *nodes: Json, **more: Json) -> Json:
    names = [node["id"] for node in nodes]
    edges = [{"from": a, "to": b} for a, b in pairwise(names)]
    return {
        "nodes": list(nodes),
        "edges": edges,
        "start_node": names[0],
        "sources": sources,
        **more,
    }


@pytest.fixture
def execute(flow: Flow) -> Execute:
    async def to_its_end(spec: Json, said: str = "snow") -> ExecutionRecord:
        began = await flow.submit(DEFAULT_TENANT, spec, initial_state={"user_input": said})
        return await flow.wait(DEFAULT_TENANT, began, LONGEST_S)

    return to_its_end


def result(record: ExecutionRecord, field: str = "image_result") -> Json:
    assert record.status == "completed", record.error
    assert record.final_state is not None
    return record.final_state[field]


async def content(flow: Flow, blob: Json) -> bytes:
    opened = await flow.blobs.open(DEFAULT_TENANT, blob["sha256"])
    assert (opened.blob.mime_type, opened.blob.size) == (blob["mime_type"], blob["size"])
    return b"".join([piece async for piece in opened.pieces])


async def test_picture_becomes_a_blob_and_a_model_looks_at_it(
    flow: Flow, wire: ImagesWire, execute: Execute, dsn: str
) -> None:
    drawn = png(1792, 1024, colour=3)
    wire.script(Drawn((drawn,), revised="a red fox in snow"))
    look = {
        "id": "look",
        "type": "llm",
        "metadata": {"source": "eyes", "prompt": "What is it?", "images": ["${image_result}"]},
    }
    with FakeProvider(Text("a fox")) as eyes:
        config = {"provider": "openai-compatible", "model": "m", "base_url": eyes.base_url}
        sources = [source(wire), {"id": "eyes", "kind": "llm", "config": config}]
        record = await execute(document(sources, draw(size="1792x1024"), look))
        [_, seen] = eyes.last.body["messages"][-1]["content"]
    made = result(record)
    assert record.final_state is not None and record.final_state["text_result"] == "a fox"
    assert made["prompt"] == "a fox in snow" and made["revised_prompt"] == "a red fox in snow"
    assert (made["size"], made["quality"], made["cost"]) == ("1792x1024", "standard", 0.04)
    sha256 = hashlib.sha256(drawn).hexdigest()
    assert made["blob"] == {
        "uri": f"blob:sha256:{sha256}",
        "mime_type": "image/png",
        "size": len(drawn),
        "sha256": sha256,
    }
    assert await content(flow, made["blob"]) == drawn
    data = base64.b64encode(drawn).decode()
    assert seen == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    connection = await asyncpg.connect(dsn)
    payloads = [row["payload"] for row in await connection.fetch("SELECT payload FROM journal")]
    uses = await connection.fetchval("SELECT count(*) FROM blob_uses")
    await connection.close()
    assert uses == 1 and max(map(len, payloads)) < 5000
    assert not any(b"iVBOR" in each or CANARY.encode() in each for each in payloads)


async def test_several_pictures_are_listed_with_their_part_of_the_cost(
    flow: Flow, wire: ImagesWire, execute: Execute
) -> None:
    drawn = tuple(png(colour=number) for number in (1, 2, 2))
    wire.script(Drawn(drawn))
    listed = result(
        await execute(document([source(wire)], draw(n=3, output_key="covers"))), "covers"
    )
    assert listed["cost"] == 0.12 and [each["cost"] for each in listed["images"]] == [0.04] * 3
    assert [await content(flow, each["blob"]) for each in listed["images"]] == list(drawn)


async def test_picture_with_an_address_is_stored_unless_it_is_not_wanted(
    flow: Flow, wire: ImagesWire, execute: Execute
) -> None:
    url = wire.serve("/files/1", picture())
    wire.script(Drawn(urls=(url,)), Drawn(urls=(url,)))
    sources = [source(wire, model="sdxl")]
    stored = result(await execute(document(sources, draw())))
    assert await content(flow, stored["blob"]) == png()
    left = result(await execute(document(sources, draw(download=False))))
    assert (left["url"], "blob" in left, left["mime_type"]) == (url, False, None)


async def test_prompt_is_what_was_said_before_where_none_is_given(
    wire: ImagesWire, execute: Execute
) -> None:
    node = draw()
    del node["metadata"]["prompt"]
    result(await execute(document([source(wire)], node), said="a bear"))
    assert wire.last.body["prompt"] == "a bear"
    text = {"type": "aggregator", "id": "say", "metadata": {"strategy": "template"}}
    text["metadata"] |= {"template": "a wolf", "output_key": "text_result"}  # type: ignore[operator]
    result(await execute(document([source(wire)], text, node), said="a bear"))
    assert wire.last.body["prompt"] == "a wolf"
    empty = await execute(document([source(wire)], node), said=" ")
    assert empty.error is not None and empty.error["type"] == "InvalidInput"


async def test_call_is_tried_again_and_every_billed_one_counts(
    flow: Flow, wire: ImagesWire, execute: Execute
) -> None:
    wire.script(
        Refused(429, headers={"Retry-After": "0.05"}), Refused(500), Drawn((b"spoilt",)), Drawn()
    )
    record = await execute(document([source(wire)], draw()))
    assert result(record)["cost"] == 0.04
    assert (wire.calls, record.cost) == (4, 0.08)
    assert len(set(wire.idempotency_keys)) == 1


async def test_failed_picture_is_an_error(flow: Flow, wire: ImagesWire, execute: Execute) -> None:
    wire.script(Refused(400, "not this", "moderation_blocked", echo_key=True))
    record = await execute(document([source(wire)], draw()))
    assert record.status == "failed" and record.error is not None
    assert record.error["type"] == "ContentFiltered" and "'art'" in record.error["message"]
    assert CANARY not in str(record) and wire.calls == 1
    events = await flow.events(DEFAULT_TENANT, record.id)
    assert any(isinstance(each.event, StepFailed) for each in events)


async def test_next_source_of_a_chain_serves_when_one_is_away(
    wire: ImagesWire, execute: Execute
) -> None:
    wire.script(Refused(503), Drawn())
    sources = [source(wire), source(wire, "spare", model="gpt-image-1.5")]
    made = result(await execute(document(sources, draw(source=["art", "spare"]))))
    assert made["model"] == "gpt-image-1.5" and wire.calls == 2
    wire.script(Refused(503), Drawn())
    followed = [source(wire, fallbacks=["spare"]), sources[1]]
    assert result(await execute(document(followed, draw())))["model"] == "gpt-image-1.5"


@pytest.mark.parametrize("durability", ["relaxed", "none"])
async def test_picture_is_kept_whatever_the_durability(
    flow: Flow, wire: ImagesWire, execute: Execute, durability: str
) -> None:
    settings = {"durability": durability}
    made = result(await execute(document([source(wire)], draw(), settings=settings)))
    assert await content(flow, made["blob"]) == png()


async def test_fork_uses_the_picture_as_well(
    flow: Flow, wire: ImagesWire, execute: Execute, dsn: str
) -> None:
    after = {"id": "after", "type": "aggregator", "metadata": {"strategy": "template"}}
    after["metadata"] |= {"template": "{image_result.url}"}  # type: ignore[operator]
    record = await execute(document([source(wire)], draw(), after))
    made = await flow.fork(DEFAULT_TENANT, record.id, "after")
    forked = await flow.wait(DEFAULT_TENANT, made.submission.execution_id, LONGEST_S)
    assert result(forked) == result(record) and wire.calls == 1
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM blob_uses") == 2
    await connection.close()


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (f"blob:sha256:{'0' * 64}", "no blob"),
        ("blob:1", "no address of a blob"),
        ("${user_input}", "image must be"),
    ],
)
async def test_image_that_is_none_is_told(
    wire: ImagesWire, execute: Execute, image: str, why: str
) -> None:
    look = {"id": "look", "type": "llm", "metadata": {"source": "eyes", "images": [image]}}
    config = {"provider": "openai-compatible", "model": "m", "base_url": f"{wire.address}/v1"}
    record = await execute(document([{"id": "eyes", "kind": "llm", "config": config}], look))
    assert record.error is not None and record.error["type"] == "InvalidInput"
    assert re.search(why, record.error["message"]) and wire.calls == 0


async def test_place_of_blobs_that_comes_back_costs_no_second_picture(
    flow: Flow, wire: ImagesWire, execute: Execute, tmp_path: Path
) -> None:
    blobs = tmp_path / "blobs"
    hidden = await asyncio.to_thread(blobs.rename, tmp_path / "hidden")
    await asyncio.to_thread(blobs.write_text, "in the way")
    asked = asyncio.create_task(execute(document([source(wire)], draw())))
    assert await asyncio.to_thread(wire.wait_for, 1)
    await asyncio.to_thread(blobs.unlink)
    await asyncio.to_thread(hidden.rename, blobs)
    made = result(await asked)
    assert await content(flow, made["blob"]) == png() and wire.calls == 1
    events = [each.event for each in await flow.events(DEFAULT_TENANT, (await asked).id)]
    assert [event.step for event in events if isinstance(event, StepCompleted)] == ["draw"]


async def test_poster_is_planned_drawn_and_looked_at(
    flow: Flow, wire: ImagesWire, execute: Execute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", CANARY)
    spec = json.loads((OUTSIDE / "poster.json").read_text())
    checked = check(spec, present_env=frozenset({"OPENAI_API_KEY", "GEMINI_API_KEY"}))
    assert (checked.errors, checked.warnings) == ((), ())
    drawn = png(1024, 1536)
    wire.script(Refused(503))
    plan, seen = Text("a lighthouse at dusk"), Text("A lighthouse.")
    with FakeProvider(plan, seen) as writer, ImagesWire("gemini", GeminiDrawn(drawn)) as spare:
        for source, address in zip(
            spec["sources"], (writer.base_url, f"{wire.address}/v1", spare.address)
        ):
            source["config"]["base_url"] = address
        record = await execute(spec, said="a concert in the harbour")
        assert record.status == "completed", record.error
        assert spare.faults == [] and wire.last.body["prompt"] == "a lighthouse at dusk"
        assert wire.last.body["size"] == "1024x1536"
        looked = writer.last.body["messages"][-1]["content"]
    assert looked[1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert record.output["alt_text"] == "A lighthouse."
    assert await content(flow, record.output["picture"]) == drawn
