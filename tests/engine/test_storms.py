"""No storm of retries: a provider that was away is not met by everybody at once when it is back."""

from __future__ import annotations

import asyncio
import os
import threading
import time

import httpx2
import msgspec
import pytest

from agentflow.engine.workers import InProcessWorkers
from agentflow.flow import open_nodes, open_performer
from agentflow.ids import new_id
from agentflow.settings import load
from agentflow.sources.breaker import FLOOR, RATIO
from agentflow.testing import MemoryStore, memory_engine
from tests.crash.test_resume_from_every_prefix import submission
from tests.fake_provider import FakeProvider, Reply, Request, Status, Text

SOAK = bool(os.environ.get("AGENTFLOW_SOAK"))
WAITING, OUTAGE_S = (200, 20.0) if SOAK else (40, 1.0)
LONGEST_S = 150.0


class Outage:
    """A provider that answers 503 until it is back."""

    def __init__(self) -> None:
        self._down = threading.Event()
        self._down.set()
        self.provider = FakeProvider(default=self._answer)
        self.back_at = 0.0
        self.most_at_once = self._answering = 0
        self._changed = threading.Lock()

    def _answer(self, request: Request) -> Reply:
        if self._down.is_set():
            return Status(503)
        with self._changed:
            self._answering += 1
            self.most_at_once = max(self.most_at_once, self._answering)
        time.sleep(0.1)
        with self._changed:
            self._answering -= 1
        return Text("fine")

    async def passes(self, seconds: float) -> None:
        """The outage lasts for so long from the first call on."""
        assert await asyncio.to_thread(self.provider.wait_for, 1)
        await asyncio.sleep(seconds)
        self.back_at = time.time()
        self._down.clear()

    @property
    def calls(self) -> int:
        """During the outage."""
        return sum(request.at < self.back_at for request in self.provider.requests)

    @property
    def calls_after(self) -> int:
        """In the first second after it."""
        times = [request.at - self.back_at for request in self.provider.requests]
        return sum(0 <= at < 1 for at in times)


def asks(base_url: str) -> dict:
    config = {"provider": "openai-compatible", "model": "m", "base_url": base_url}
    return {
        "nodes": [{"id": "ask", "type": "llm", "metadata": {"source": "m", "prompt": "go"}}],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "ask",
    }


async def with_the_engine() -> tuple[Outage, float]:
    """An outage, and seconds until all executions have completed after it."""
    store, outage = MemoryStore(), Outage()
    settings = load({"AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8"})
    workers = InProcessWorkers(open_performer(settings))
    engine = memory_engine(store, workers, open_nodes(), accept_s=60.0)
    with outage.provider:
        await engine.start()
        asked = submission(asks(outage.provider.base_url))
        for _ in range(WAITING):
            await engine.accept(msgspec.structs.replace(asked, execution_id=new_id("exec")))
        await outage.passes(OUTAGE_S)
        await store.until(lambda: len(store.outcomes) == WAITING, LONGEST_S)
        took = time.time() - outage.back_at
        await engine.close()
    assert {outcome.status for outcome in store.outcomes.values()} == {"completed"}
    return outage, took


async def with_naive_retries() -> Outage:
    """The same calls, each made again a second after it failed."""
    outage = Outage()

    async def insist(client: httpx2.AsyncClient) -> None:
        url = f"{outage.provider.base_url}/chat/completions"
        while (await client.post(url, json={"messages": []})).status_code != 200:
            await asyncio.sleep(1.0)

    limits = httpx2.Limits(max_connections=WAITING)
    with outage.provider:
        async with httpx2.AsyncClient(timeout=30, limits=limits) as client:
            calls = [asyncio.create_task(insist(client)) for _ in range(WAITING)]
            await outage.passes(OUTAGE_S)
            await asyncio.gather(*calls)
    return outage


async def test_provider_that_comes_back_is_not_met_by_all_who_waited_for_it_at_once():
    ours, took = await with_the_engine()
    told(f"all completed {took:.1f} s after it", ours)
    assert ours.calls <= WAITING + 2 * OUTAGE_S + 1  # at most everybody's first one, and the probes
    assert ours.most_at_once <= FLOOR + RATIO * WAITING + 1


@pytest.mark.skipif(not SOAK, reason="an outage of some length; make soak has it")
async def test_naive_retries_meet_a_provider_all_at_once():
    """What it would be without a breaker and a budget, to compare with."""
    naive = await with_naive_retries()
    told("with naive retries", naive)
    assert naive.calls > 5 * WAITING and naive.most_at_once > FLOOR + RATIO * WAITING + 1


def told(how: str, outage: Outage) -> None:
    print(
        f"\n{WAITING} executions wait for a provider that is away for {OUTAGE_S:g} s: {outage.calls} "
        f"calls during the outage, {outage.calls_after} in the first second after it, at most "
        f"{outage.most_at_once} at once then; {how}"
    )
