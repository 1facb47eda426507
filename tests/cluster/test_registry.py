"""Steps whose sources have equal ids, at the same time in the same worker of a pool, never mix."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentflow.distributed.cluster import Cluster
from agentflow.engine.workers import Attempt, Done
from agentflow.ids import new_id
from agentflow.plan.compile import compile_plan
from agentflow.spec.check import check
from tests.cluster.conftest import Inbox
from tests.engine.test_registry import Meeting

pytestmark = pytest.mark.cluster
NAMESPACE = "agentflow-tests-registry"
"""Of the pools of real nodes, beside those whose nodes are made for tests."""
TENANTS = ("ten_a", "ten_b")
NAMES = ("first", "second")
EACH = 4


@pytest.fixture
async def pools(cluster: Cluster, inbox: Inbox) -> AsyncIterator[Any]:
    from agentflow.distributed.coordinator import OPEN_PERFORMER
    from agentflow.distributed.dispatch import RayWorkers

    opened = RayWorkers(new_id("test"), OPEN_PERFORMER, NAMESPACE)
    inbox.serve(opened)
    yield opened
    await inbox.stop_all()
    await opened.close()


def attempt(base_url: str, tenant: str, prompt: str) -> Attempt:
    """An attempt of a step whose source is called ``main``, whoever provides it."""
    config = {"provider": "openai-compatible", "model": "m", "base_url": base_url}
    checked = check(
        {
            "nodes": [{"id": "ask", "type": "llm", "metadata": {"source": "main"}}],
            "sources": [{"id": "main", "kind": "llm", "config": config}],
            "start_node": "ask",
        }
    )
    assert checked.normalized is not None, checked.errors
    plan = compile_plan(checked.normalized)
    execution_id = new_id("exec")
    return Attempt(
        id=new_id("att"),
        tenant=tenant,
        execution_id=execution_id,
        step="ask",
        attempt=1,
        generation=0,
        epoch=1,
        node=plan.nodes[0],
        view={"user_input": prompt, "outputs": {}, "execution": {"id": execution_id}},
        fields=(),
        sources=(plan.source("main"),),
    )


async def test_equal_source_ids_never_mix_in_a_pool(pools: Any, inbox: Inbox) -> None:
    meeting = Meeting(len(NAMES) * len(TENANTS) * EACH)
    with meeting.provider("first") as first, meeting.provider("second") as second:
        asked = [
            (
                attempt(provider.base_url, tenant, f"{tenant} {name}"),
                f"{name} heard {tenant} {name}",
            )
            for _ in range(EACH)
            for name, provider in zip(NAMES, (first, second), strict=True)
            for tenant in TENANTS
        ]
        pools.dispatch([each for each, _ in asked])
        ends = await asyncio.gather(*(inbox.end(each) for each, _ in asked))
        ports = [
            {each.peer_port for each in provider.requests if tenant in each.prompt}
            for provider in (first, second)
            for tenant in TENANTS
        ]
    for (_, heard), end in zip(asked, ends, strict=True):
        assert isinstance(end, Done), end
        assert end.result["text"] == heard
    assert len({end.worker.pid for end in ends if end.worker}) == 1
    assert all(ports) and sum(map(len, ports)) == len(set.union(*ports))
