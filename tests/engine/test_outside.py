"""The workflow of examples/outside: executed with a real database and a service on a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentflow.engine.workers import InProcessWorkers
from agentflow.execution.journal import Outcome, Submission
from agentflow.flow import open_nodes
from agentflow.flow.opening import open_connections, open_performer
from agentflow.ids import new_id
from agentflow.plan.compile import compile_plan
from agentflow.settings import load
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.testing import MemoryStore, memory_engine
from tests.fake_provider import FakeProvider, Raw, Request, Status

Json = Any
OUTSIDE = Path(__file__).parents[2] / "examples" / "outside"
TOKEN = "canary-token-5150"
NAMES = ("WAREHOUSE_DSN", "SUPPLIER_TOKEN")


@pytest.fixture
async def warehouse(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncpg.Connection]:
    """The example's database, whose user has a password that nobody may see."""
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute((OUTSIDE / "restock.sql").read_text())
    monkeypatch.setenv("WAREHOUSE_DSN", empty_dsn)
    monkeypatch.setenv("SUPPLIER_TOKEN", TOKEN)
    yield connection
    await connection.close()


def document(provider: FakeProvider) -> dict[str, Json]:
    """The example; its service is on a socket of the test."""
    spec = json.loads((OUTSIDE / "restock.json").read_text())
    spec["sources"][1]["config"]["base_url"] = f"http://127.0.0.1:{provider.port}/v1"
    return spec


def supplier(request: Request) -> Raw:
    """A service that repeats the credential it was given."""
    order = {"number": "A-1", "by": request.headers["authorization"]}
    told = {"X-Told": request.headers["authorization"]}
    return Raw(json.dumps({"order": order}).encode(), 201, "application/json", told)


async def executed(spec: dict[str, Json], store: MemoryStore) -> Outcome:
    found = check(spec, allowed_env=NAMES, present_env=NAMES)
    assert (found.errors, found.warnings) == ((), ())
    assert found.normalized is not None
    settings = load({
        "AGENTFLOW_DATA_DIR": "/nowhere", "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        "AGENTFLOW_SOURCE_ENV": ",".join(NAMES),
    })  # fmt: skip
    connections = open_connections(settings)
    plan = compile_plan(found.normalized)
    await (await connections.open(plan.source("warehouse"), "ten_x")).prepare()
    await connections.close()
    engine = memory_engine(store, InProcessWorkers(open_performer(settings)), open_nodes())
    await engine.start()
    asked = Submission(
        execution_id=new_id("exec"),
        tenant="ten_x",
        content_hash=content_hash(found.normalized),
        spec=found.normalized,
        initial_state={},
    )
    await engine.accept(asked)
    await asyncio.wait_for(store.until(lambda: asked.execution_id in store.outcomes, 60), 60)
    await engine.close()
    return store.outcomes[asked.execution_id]


async def test_restock_orders_and_writes_it_down(
    warehouse: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    store = MemoryStore()
    with FakeProvider(Status(429, retry_after=0), default=supplier) as provider:
        outcome = await executed(document(provider), store)
        asked = provider.requests
    assert (outcome.status, outcome.output) == ("completed", {"order": "A-1"})
    assert [r.body for r in asked] == [
        {"items": [{"sku": "apple", "quantity": 3}, {"sku": "cheese", "quantity": 0}]}
    ] * 2
    assert asked[0].idempotency_key == asked[1].idempotency_key != ""
    assert asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    rows = await warehouse.fetch("SELECT number, items::text AS items FROM orders")
    assert [row["number"] for row in rows] == ["A-1"] and len(json.loads(rows[0]["items"])) == 2
    assert await warehouse.fetchval("SELECT count(*) FROM agentflow_dedupe") == 1
    kept = f"{store.events} {store.outcomes} {caplog.text}"
    assert TOKEN not in kept and "postgresql://" not in kept


async def test_restock_orders_nothing_when_nothing_runs_low(warehouse: asyncpg.Connection) -> None:
    await warehouse.execute("UPDATE stock SET quantity = 99")
    with FakeProvider(default=supplier) as provider:
        spec = document(provider)
        spec["output"] = None
        outcome = await executed(spec, MemoryStore())
        assert provider.calls == 0
    assert outcome.status == "completed" and outcome.final_state["missing"] == []


async def test_restock_says_what_the_service_refused(warehouse: asyncpg.Connection) -> None:
    with FakeProvider(default=Status(403, echo_key=True)) as provider:
        outcome = await executed(document(provider), MemoryStore())
    assert outcome.status == "failed"
    assert outcome.error["type"] == "ProviderAuthError" and "supplier" in outcome.error["message"]
    assert TOKEN not in str(outcome)
    assert await warehouse.fetchval("SELECT count(*) FROM orders") == 0
