"""Routers that ask a model, through the engine: a journal in memory, real workers, a provider on a
real socket."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.engine.workers import InProcessWorkers
from agentflow.execution import events as ev
from agentflow.execution.journal import Outcome
from agentflow.flow import open_nodes
from agentflow.flow.opening import open_performer
from agentflow.plan.compile import compile_plan
from agentflow.settings import load
from agentflow.spec.check import check
from agentflow.testing import MemoryStore, memory_engine
from tests.crash.test_resume_from_every_prefix import submission
from tests.fake_provider import FakeProvider, Status, Text

PRICE = {"input_per_mtok": 1.0, "output_per_mtok": 2.0}
ROUTES = [
    {"intent": "refund", "description": "wants money back", "keywords": ["invoice"]},
    {"intent": "praise", "description": "is happy"},
]


def triage(base_url: str = "http://localhost:1/v1", **options: Any) -> dict[str, Any]:
    """input -> router -> one aggregator per intent, or another one."""
    config = {"provider": "openai-compatible", "model": "m1", "base_url": base_url, "price": PRICE}

    def leaf(name: str) -> dict[str, Any]:
        options = {"strategy": "template", "template": name, "output_key": "answer"}
        return {"id": name, "type": "aggregator", "metadata": options}

    router = {
        "id": "route",
        "type": "router",
        "metadata": {"source": "m", "strategy": "llm", "routes": ROUTES, **options},
        "retry": {"max_attempts": 2, "initial_s": 0.001},
    }
    return {
        "nodes": [{"id": "ask", "type": "input"}, router, *map(leaf, ("refund", "praise", "rest"))],
        "edges": [
            {"from": "ask", "to": "route"},
            {"from": "route", "to": ["refund", "praise"], "condition": "intent"},
            {"from": "route", "to": "rest", "condition": "else"},
        ],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "ask",
    }


async def ended(
    provider: FakeProvider, tmp_path: Any, **options: Any
) -> tuple[Outcome, list[ev.Event]]:
    """How an execution of :func:`triage` ended, and its journal."""
    settings = load({"AGENTFLOW_DATA_DIR": str(tmp_path), "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8"})
    store, asked = MemoryStore(), submission(triage(provider.base_url, **options))
    workers: Any = InProcessWorkers(open_performer(settings))
    engine = memory_engine(store, workers, open_nodes())
    await engine.start()
    try:
        await engine.accept(asked)
        await store.until(lambda: asked.execution_id in store.outcomes)
    finally:
        await engine.close()
    return store.outcomes[asked.execution_id], store.events[asked.execution_id]


async def test_llm_router_sends_the_execution_down_the_branch_the_model_chose(tmp_path):
    with FakeProvider() as provider:
        provider.script(Status(503), Text('{"intent": "praise"}', usage=(1000, 500, 0)))
        outcome, journal = await ended(provider, tmp_path)
    assert outcome.status == "completed"
    assert outcome.final_state["intent"] == "praise" and outcome.final_state["answer"] == "praise"
    assert outcome.final_state["execution_path"] == ["ask", "route", "praise"]
    assert outcome.final_state["tokens_used"] == 1500 and outcome.final_state["cost"] == 0.002
    started = [e for e in journal if isinstance(e, ev.StepStarted) and e.step == "route"]
    assert [event.attempt for event in started] == [1, 2]


@pytest.mark.parametrize(
    ("fallback", "answer"), [("keyword", "refund"), ("default", "rest"), ("fail", None)]
)
async def test_llm_router_falls_back_when_the_provider_stays_away(tmp_path, fallback, answer):
    with FakeProvider(default=Status(503)) as provider:
        outcome, _ = await ended(provider, tmp_path, fallback=fallback)
    assert provider.calls == 2
    assert outcome.final_state.get("answer") == answer
    if answer is None:
        assert outcome.status == "failed" and outcome.error["type"] == "ProviderUnavailable"


def test_llm_router_is_placed_like_an_llm_node():
    def planned(document: dict[str, Any]) -> Any:
        checked = check(document)
        assert checked.normalized is not None, checked.errors
        plan = compile_plan(checked.normalized)
        assert plan.unsupported == ()
        return next(node for node in plan.nodes if node.id == "route")

    document = triage()
    del document["nodes"][1]["retry"]
    node = planned(document)
    assert (node.placement, node.effects, node.retry.max_attempts) == ("io", "idempotent", 3)
    document["sources"][0]["config"] = {"provider": "local", "model": "smollm2"}
    assert planned(document).placement == "cpu"
    document["nodes"][1]["resources"] = {"num_cpus": 2}
    assert planned(document).placement == "pool"
    del document["nodes"][1]["resources"]
    document["nodes"][1]["metadata"] = {"source": "m", "strategy": "keyword", "routes": [
        {"intent": "refund", "keywords": ["invoice"]}
    ]}  # fmt: skip
    node = planned(document)
    assert (node.placement, node.effects, node.retry.max_attempts) == ("inline", "pure", 1)
