"""What becomes of each durability when its coordinator on Ray is killed; retry and fork through Ray."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution.journal import ExecutionRecord
from agentflow.execution.keys import idempotency_key
from agentflow.flow import Flow
from tests.cluster.conftest import poll
from tests.cluster.test_coordinators import _until_alive, flow, names  # noqa: F401 - fixtures
from tests.crash.test_process_killed import chain
from tests.fake_provider import FakeProvider, Reply, Request, Status, Text

pytestmark = pytest.mark.cluster
LENGTH, HELD = 5, 2


@pytest.fixture
def held() -> Iterator[tuple[FakeProvider, threading.Event]]:
    """A provider that keeps the call of one step waiting, and the gate that lets it go."""
    gate = threading.Event()

    def reply(request: Request) -> Text:
        return Text("answer", gate=gate if f"step {HELD} " in request.prompt else None)

    with FakeProvider(default=reply) as provider:
        yield provider, gate
        gate.set()


async def killed(flow: Flow, spec: Any, provider: FakeProvider, gate: Any) -> ExecutionRecord:  # noqa: F811
    """How an execution ends whose coordinator is killed during the held call."""
    execution = await flow.submit(DEFAULT_TENANT, spec, initial_state={"user_input": "go"})
    assert await asyncio.to_thread(provider.wait_for, HELD + 1)
    os.kill(await _process_of_the_owner(flow, execution), signal.SIGKILL)
    gate.set()
    record = await flow.wait(DEFAULT_TENANT, execution, 60)
    await _until_alive(flow, 2)
    return record


async def _process_of_the_owner(flow: Flow, execution: str) -> int:  # noqa: F811
    """A coordinator that is too busy to answer soon has no id and no process in that answer."""

    async def told() -> Any:
        owner = (await flow.get(DEFAULT_TENANT, execution)).owner
        found = {each["id"]: each["pid"] for each in await flow._door.coordinators()}
        return found.get(str(owner))

    return int(await poll(told, 30))


async def test_relaxed_execution_goes_on_from_a_prefix_of_what_it_did(
    flow: Flow,  # noqa: F811
    held: tuple[FakeProvider, threading.Event],
) -> None:
    provider, gate = held
    spec = {**chain(provider.base_url, LENGTH), "settings": {"durability": "relaxed"}}
    record = await killed(flow, spec, provider, gate)
    assert record.status == "completed", record.error
    journal = await flow.events(DEFAULT_TENANT, record.id)
    assert [entry.seq for entry in journal] == list(range(1, len(journal) + 1))
    for number in range(LENGTH):
        key = idempotency_key(DEFAULT_TENANT, record.id, f"n{number}", 0, 0)
        assert 1 <= provider.idempotency_keys[key] <= (2 if number <= HELD else 1), number


async def test_execution_of_which_nothing_is_kept_ends_as_lost(
    flow: Flow,  # noqa: F811
    held: tuple[FakeProvider, threading.Event],
) -> None:
    provider, gate = held
    spec = {**chain(provider.base_url, LENGTH), "settings": {"durability": "none"}}
    record = await killed(flow, spec, provider, gate)
    assert (record.status, record.error["type"]) == ("failed", "ExecutionLost")


async def test_retry_and_fork_are_executed_by_the_coordinators(flow: Flow) -> None:  # noqa: F811
    answers: dict[str, Reply] = {"step 1 ": Status(401)}

    def reply(request: Request) -> Reply:
        return next((found for part, found in answers.items() if part in request.prompt), Text())

    with FakeProvider(default=reply) as provider:
        spec = chain(provider.base_url, 3)
        execution = await flow.submit(DEFAULT_TENANT, spec, initial_state={"user_input": "go"})
        failed = await flow.wait(DEFAULT_TENANT, execution, 60)
        assert failed.status == "failed", failed.error
        answers.clear()
        await flow.retry(DEFAULT_TENANT, execution)
        retried = await flow.wait(DEFAULT_TENANT, execution, 60)
        assert retried.status == "completed", retried.error
        assert _calls(provider) == [1, 2, 1]
        forked = await flow.fork(DEFAULT_TENANT, execution, "n2")
        again = await flow.wait(DEFAULT_TENANT, forked.submission.execution_id, 60)
        assert again.status == "completed", again.error
        assert _calls(provider) == [1, 2, 2]


def _calls(provider: FakeProvider) -> list[int]:
    prompts = [request.prompt for request in provider.requests]
    return [sum(f"step {number} " in prompt for prompt in prompts) for number in range(3)]
