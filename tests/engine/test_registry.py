"""Executions whose sources have equal ids, at the same time through the same worker, never mix."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agentflow.engine.workers import InProcessWorkers
from agentflow.execution.journal import Submission
from agentflow.flow import open_nodes
from agentflow.flow.opening import open_performer
from agentflow.ids import new_id
from agentflow.settings import load
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.testing import MemoryStore, memory_engine
from tests.fake_provider import FakeProvider, Request, Text

Json = Any
KEYS = {"OPENAI_API_KEY": "sk-first-00112233", "GROQ_API_KEY": "sk-second-44556677"}
TENANTS = ("ten_a", "ten_b")
EACH = 4
"""Executions of each document in each tenant."""


class Meeting:
    """Providers that answer nobody until so many calls have come to all of them together."""

    def __init__(self, calls: int) -> None:
        self._missing = calls
        self._lock = threading.Lock()
        self._met = threading.Event()

    def provider(self, name: str) -> FakeProvider:
        def answer(request: Request) -> Text:
            with self._lock:
                self._missing -= 1
                if not self._missing:
                    self._met.set()
            return Text(f"{name} heard {request.prompt}", gate=self._met)

        return FakeProvider(default=answer)


@pytest.fixture
def providers(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, FakeProvider]]:
    """Name of a credential -> the provider that it is for."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    meeting = Meeting(len(KEYS) * len(TENANTS) * EACH)
    with ExitStack() as opened:
        yield {name: opened.enter_context(meeting.provider(name)) for name in KEYS}


def document(provider: FakeProvider, key: str) -> Json:
    """A workflow whose only source is called ``main``, whoever provides it."""
    config = {"provider": "openai-compatible", "model": "m", "base_url": provider.base_url}
    return {
        "nodes": [{"id": "ask", "type": "llm", "metadata": {"source": "main"}}],
        "sources": [{"id": "main", "kind": "llm", "config": {**config, "api_key_env": key}}],
        "start_node": "ask",
    }


def submission(provider: FakeProvider, key: str, tenant: str) -> Submission:
    found = check(document(provider, key), allowed_env=tuple(KEYS), present_env=tuple(KEYS))
    assert found.normalized is not None, found.errors
    return Submission(
        execution_id=new_id("exec"),
        tenant=tenant,
        content_hash=content_hash(found.normalized),
        spec=found.normalized,
        initial_state={"user_input": f"{tenant} asks {key}"},
    )


async def test_equal_source_ids_of_different_executions_and_tenants_never_mix(
    providers: dict[str, FakeProvider],
) -> None:
    settings = load({
        "AGENTFLOW_DATA_DIR": "/nowhere", "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        "AGENTFLOW_SOURCE_ENV": ",".join(KEYS),
    })  # fmt: skip
    store = MemoryStore()
    engine = memory_engine(store, InProcessWorkers(open_performer(settings)), open_nodes())
    await engine.start()

    def ask() -> list[tuple[Submission, str]]:
        return [
            (submission(provider, key, tenant), f"{key} heard {tenant} asks {key}")
            for key, provider in providers.items()
            for tenant in TENANTS
        ]

    async def execute(*documents: Submission) -> None:
        await asyncio.gather(*map(engine.accept, documents))
        ids = {each.execution_id for each in documents}
        await asyncio.wait_for(store.until(lambda: ids <= set(store.outcomes), 60), 60)

    asked = [each for _ in range(EACH) for each in ask()]
    await execute(*(each for each, _ in asked))
    for each, heard in (*ask(), *ask()):  # one by one, so that sockets are used again
        await execute(each)
        asked.append((each, heard))
    await engine.close()
    for each, heard in asked:
        outcome = store.outcomes[each.execution_id]
        assert outcome.status == "completed", outcome.error
        assert outcome.final_state["text_result"] == heard
    for key, provider in providers.items():
        assert {request.key for request in provider.requests} == {KEYS[key]}
        assert provider.most_at_once == len(TENANTS) * EACH
        ports = {
            tenant: {each.peer_port for each in provider.requests if tenant in each.prompt}
            for tenant in TENANTS
        }
        assert all(ports.values()) and not set.intersection(*ports.values())
