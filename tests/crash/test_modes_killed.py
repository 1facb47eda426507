"""kill -9 of the whole process in each durability, and in the middle of a call with effects once."""

from __future__ import annotations

import asyncio
import signal
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution import events as ev
from agentflow.execution.journal import ExecutionRecord, Recorded
from agentflow.execution.keys import idempotency_key
from agentflow.flow import open_local
from agentflow.settings import load
from tests.crash.test_process_killed import chain, committed_steps, environ, start
from tests.fake_provider import FakeProvider, Request, Text

LENGTH, HELD = 6, 3
"""Steps in the chain, and the one during whose call the process is killed."""


async def killed(
    spec: dict, data_dir: Path, provider: FakeProvider, gate: threading.Event
) -> tuple[ExecutionRecord, set[str], list[Recorded]]:
    """Kill the process while the held call is under way and go on in this one: the ended execution,
    the steps that were committed when it died, and its journal."""
    process = await asyncio.to_thread(start, spec, data_dir)
    execution_id = (await asyncio.to_thread(process.stdout.readline)).strip()
    assert await asyncio.to_thread(provider.wait_for, HELD + 1)
    process.send_signal(signal.SIGKILL)
    await asyncio.to_thread(process.wait)
    gate.set()
    flow = await open_local(replace(load(environ(data_dir)), coordinators=1))
    try:
        before = await committed_steps(flow, execution_id)
        record = await flow.wait(DEFAULT_TENANT, execution_id, 60)
        journal = list(await flow.events(DEFAULT_TENANT, execution_id))
    finally:
        await flow.close()
    return record, before, journal


def calls(provider: FakeProvider, execution_id: str) -> list[int]:
    """How often each step of the chain was called at the wire."""
    keys = [
        idempotency_key(DEFAULT_TENANT, execution_id, f"n{number}", 0, 0)
        for number in range(LENGTH)
    ]
    return [provider.idempotency_keys[key] for key in keys]


@pytest.fixture
def held():
    """A provider that keeps the call of one step waiting, and the gate that lets it go."""
    gate = threading.Event()

    def reply(request: Request) -> Text:
        waits = f"step {HELD} " in request.prompt
        return Text(f"answer to [{request.prompt[:20]}]", gate=gate if waits else None)

    with FakeProvider(default=reply) as provider:
        yield provider, gate
        gate.set()


async def test_relaxed_execution_goes_on_after_its_process_was_killed(data_dir, held):
    provider, gate = held
    spec = {**chain(provider.base_url, LENGTH), "settings": {"durability": "relaxed"}}
    record, before, journal = await killed(spec, data_dir, provider, gate)
    assert record.status == "completed", record.error
    assert [entry.seq for entry in journal] == list(range(1, len(journal) + 1))
    made = calls(provider, record.id)
    for number in range(LENGTH):
        # What was answered, but not written when the process died, is called again: same key.
        most = 1 if f"n{number}" in before or number > HELD else 2
        assert 1 <= made[number] <= most, f"n{number}"


async def test_execution_without_durability_is_lost_when_its_process_is_killed(data_dir, held):
    provider, gate = held
    spec = {**chain(provider.base_url, LENGTH), "settings": {"durability": "none"}}
    record, before, journal = await killed(spec, data_dir, provider, gate)
    assert record.status == "failed" and before == set()
    assert record.error["type"] == "ExecutionLost" and record.error["node_id"] is None
    assert record.started_at is not None and record.completed_at is not None
    assert [ev.kind(entry.event) for entry in journal] == [
        "execution.created",
        "execution.started",
        "execution.failed",
    ]
    assert calls(provider, record.id) == [1] * (HELD + 1) + [0] * (LENGTH - HELD - 1)


@pytest.mark.parametrize("durability", ["strict", "relaxed"])
async def test_call_with_effects_once_is_not_made_again_after_its_process_was_killed(
    data_dir, held, durability
):
    provider, gate = held
    spec = {**chain(provider.base_url, LENGTH), "settings": {"durability": durability}}
    spec["nodes"][HELD] |= {"effects": "once", "on_error": "continue"}
    record, _, journal = await killed(spec, data_dir, provider, gate)
    assert record.status == "completed", record.error
    failed = [entry.event for entry in journal if isinstance(entry.event, ev.StepFailed)]
    assert [(event.step, event.error.type) for event in failed] == [(f"n{HELD}", "UnknownOutcome")]
    # Its intent was committed before the call, and with it everything before it.
    assert calls(provider, record.id) == [1] * LENGTH
