"""An execution that kills its worker: it ends, bounded, and takes nobody down with it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import msgspec
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.distributed.placement import RESERVE
from agentflow.engine.workers import Attempt, Done, Failed
from agentflow.flow import Flow
from agentflow.ids import new_id
from tests.cluster.conftest import Gate, Inbox, attempt, described
from tests.cluster.test_coordinators import flow, names  # noqa: F401 - fixtures
from tests.fake_provider import FakeProvider, Hang, Reply, Request, Text, sender_of

pytestmark = pytest.mark.cluster

IO = "af/io/127.0.0.1"


def again(lost: Attempt, losses: int) -> Attempt:
    """The next attempt of a step that was lost so often."""
    return msgspec.structs.replace(lost, id=new_id("att"), attempt=losses + 1, losses=losses)


async def test_attempts_that_were_lost_together_twice_are_tried_each_in_a_worker_of_its_own(
    workers: Any, inbox: Inbox, gate: Gate
) -> None:
    tried = [attempt("gate", f"lost{n}", port=gate.port) for n in range(3)]
    for losses in (1, 2):
        workers.dispatch(tried)
        await gate.arrival("lost0", "lost1", "lost2")
        os.kill((await described(IO if losses == 1 else RESERVE))["pid"], signal.SIGKILL)
        for each in tried:
            assert isinstance(await inbox.end(each), Failed)
        gate.forget()
        tried = [again(each, losses) for each in tried]
    workers.dispatch(tried)
    await gate.arrival("lost0", "lost1", "lost2")
    pids = {}
    for number in range(3):
        gate.tell(f"lost{number}", "ok")
        end = await inbox.end(tried[number])
        assert isinstance(end, Done), end
        pids[number] = end.worker.pid
        assert "/alone/" in end.worker.pool
    assert len(set(pids.values())) == 3
    fresh = attempt("where")
    workers.dispatch([fresh])
    end = await inbox.end(fresh)
    assert isinstance(end, Done) and end.worker.pool in (IO, RESERVE)


def one_call(base_url: str, prompt: str) -> dict[str, Any]:
    config = {"provider": "openai-compatible", "model": "m", "base_url": base_url}
    node = {"id": "ask", "type": "llm", "metadata": {"source": "model", "prompt": prompt}}
    return {
        "name": "one-call",
        "start_node": "ask",
        "sources": [{"id": "model", "kind": "llm", "config": config}],
        "nodes": [node],
        "edges": [{"from": "ask", "to": "end"}],
    }


async def test_poisoned_execution_ends_and_its_neighbours_finish(flow: Flow) -> None:  # noqa: F811
    """Its input kills whichever worker process sends it on: here the provider does, as it comes in."""
    neighbours = 4
    poisoned = threading.Event()
    killed: list[int] = []

    def answer(request: Request) -> Reply:
        if request.prompt != "poison":
            return Text("fine", gate=poisoned)
        killed.append(sender_of(request))
        os.kill(killed[-1], signal.SIGKILL)
        poisoned.set()
        return Hang()

    with FakeProvider(default=answer) as provider:

        async def submit(prompt: str) -> str:
            return await flow.submit(DEFAULT_TENANT, one_call(provider.base_url, prompt))

        fine = [await submit(f"neighbour {number}") for number in range(neighbours)]
        assert await asyncio.to_thread(provider.wait_for, neighbours)
        poison = await submit("poison")
        record = await flow.wait(DEFAULT_TENANT, poison, 90)
        others = [await flow.wait(DEFAULT_TENANT, each, 60) for each in fine]
        prompts = [request.prompt for request in provider.requests]
    assert record.status == "failed" and record.error["type"] == "WorkerLost"
    assert prompts.count("poison") == len(killed) == 3 and len(set(killed)) == 3
    assert [other.status for other in others] == ["completed"] * neighbours
    calls = [prompts.count(f"neighbour {number}") for number in range(neighbours)]
    assert max(calls) <= 3, calls
