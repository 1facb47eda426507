"""kill -9 of the whole process in the middle of an execution; another one goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.execution import events as ev
from agentflow.execution.journal import Recorded
from agentflow.execution.keys import idempotency_key
from agentflow.flow import Flow, open_local
from agentflow.settings import Settings, load
from tests.fake_provider import FakeProvider, Request, Text

ROOT = Path(__file__).parents[2]


def chain(base_url: str, length: int) -> dict:
    """A chain of model calls, each of which repeats the one before it."""
    nodes = [
        {
            "id": f"n{number}",
            "type": "llm",
            "metadata": {
                "source": "m",
                "prompt": f"step {number} after {{text_result}}",
                "stream": False,
            },
        }
        for number in range(length)
    ]
    config = {"provider": "openai-compatible", "model": "m", "base_url": base_url}
    return {
        "nodes": nodes,
        "edges": [{"from": f"n{n}", "to": f"n{n + 1}"} for n in range(length - 1)],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "n0",
    }


def environ(data_dir: Path) -> dict[str, str]:
    return {
        "AGENTFLOW_DATA_DIR": str(data_dir),
        "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        "AGENTFLOW_LEASE_S": "2",
        "AGENTFLOW_HEARTBEAT_S": "0.5",
    }


async def committed_steps(flow: Flow, execution_id: str) -> set[str]:
    """Steps whose completion is in the journal now."""
    done: set[str] = set()
    async for items in flow.follow(DEFAULT_TENANT, execution_id):
        for item in items:
            if isinstance(item, Recorded) and isinstance(item.event, ev.StepCompleted):
                done.add(item.event.step)
        return done
    return done


@pytest.mark.parametrize("kill_at", [1, 4])
async def test_execution_ends_after_its_process_was_killed_and_no_committed_call_is_repeated(
    data_dir, kill_at
):
    gate = threading.Event()

    def reply(request: Request) -> Text:
        held = f"step {kill_at} " in request.prompt
        return Text(f"answer to [{request.prompt[:20]}]", gate=gate if held else None)

    with FakeProvider(default=reply) as provider:
        spec = chain(provider.base_url, 6)
        process = await asyncio.to_thread(start, spec, data_dir)
        execution_id = (await asyncio.to_thread(process.stdout.readline)).strip()
        assert await asyncio.to_thread(provider.wait_for, kill_at + 1)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        gate.set()
        settings = replace(load(environ(data_dir)), coordinators=1)
        await go_on(settings, execution_id, provider, kill_at)


async def go_on(
    settings: Settings, execution_id: str, provider: FakeProvider, kill_at: int
) -> None:
    flow = await open_local(settings)
    try:
        before = await committed_steps(flow, execution_id)
        assert before >= {f"n{number}" for number in range(kill_at)}
        record = await flow.wait(DEFAULT_TENANT, execution_id, 60)
    finally:
        await flow.close()
    assert record.status == "completed", record.error
    assert [step["status"] for step in record.steps] == ["completed"] * 6
    calls = provider.idempotency_keys
    for number in range(6):
        key = idempotency_key(DEFAULT_TENANT, execution_id, f"n{number}", 0, 0)
        assert calls[key] == (2 if number == kill_at else 1), f"n{number}"


def start(spec: dict, data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.crash.driver",
            json.dumps(spec),
            json.dumps({"user_input": "go"}),
        ],
        cwd=ROOT,
        env={**os.environ, **environ(data_dir)},
        stdout=subprocess.PIPE,
        text=True,
    )
