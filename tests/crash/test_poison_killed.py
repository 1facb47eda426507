"""An execution that kills its coordinator every time: three times, then it is quarantined, alone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.flow import open_local
from agentflow.settings import load
from tests.fake_provider import FakeProvider, Hang, Reply, Request, Text, sender_of

ROOT = Path(__file__).parents[2]
NEIGHBOURS = 2
ANSWER_S = 0.3
"""Neighbours need so long that the poisoned call, made with theirs, kills the process before."""


def one_call(base_url: str, prompt: str) -> dict:
    config = {"provider": "openai-compatible", "model": "m", "base_url": base_url}
    return {
        "nodes": [{"id": "ask", "type": "llm", "metadata": {"source": "m", "prompt": prompt}}],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "ask",
    }


def follower(environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.crash.follower"],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def begin(process: subprocess.Popen[str], specs: list[dict]) -> list[str]:
    """The executions that it submitted."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(specs) + "\n")
    process.stdin.flush()
    return [process.stdout.readline().strip() for _ in specs]


@pytest.mark.skipif(
    not os.environ.get("AGENTFLOW_SOAK"),
    reason="five processes one after the other; make soak has it",
)
async def test_execution_that_kills_its_coordinator_is_quarantined_and_its_neighbours_finish(
    dsn, tmp_path
):
    """The provider kills whichever process the poisoned call comes from, as a poisoned input would."""
    first = threading.Event()
    killed: list[int] = []

    def answer(request: Request) -> Reply:
        if request.prompt != "poison":
            return Text("fine", gate=first, delay=ANSWER_S)
        first.wait(30)
        killed.append(sender_of(request))
        os.kill(killed[-1], signal.SIGKILL)
        return Hang()

    environ = {
        "DATABASE_URL": dsn,
        "AGENTFLOW_DATA_DIR": str(tmp_path / "data"),
        "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        "AGENTFLOW_LEASE_S": "1.5",
        "AGENTFLOW_HEARTBEAT_S": "0.4",
        "API_KEY": "k" * 40,
    }
    processes = [follower(environ) for _ in range(3)]
    try:
        with FakeProvider(default=answer) as provider:
            prompts = [f"neighbour {number}" for number in range(NEIGHBOURS)]
            specs = [one_call(provider.base_url, prompt) for prompt in [*prompts, "poison"]]
            ids = await asyncio.to_thread(begin, processes[0], specs)
            for process in processes[1:]:
                begin(process, [])
            first.set()
            for process in processes:
                await asyncio.to_thread(process.wait, 60)
            assert sorted(killed) == sorted(process.pid for process in processes)
            made = [request.prompt for request in provider.requests]
            await judge(environ, ids)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert made.count("poison") == 3
    assert all(made.count(prompt) <= 3 for prompt in prompts), made


async def judge(environ: dict[str, str], ids: list[str]) -> None:
    """The poisoned one is visible, and an operator's release lets it end; the others have finished."""
    *neighbours, poison = ids
    flow = await open_local(load(environ))
    try:
        async with asyncio.timeout(30):
            while (await flow.get(DEFAULT_TENANT, poison)).status != "quarantined":
                await asyncio.sleep(0.05)
        listed = await flow.list(DEFAULT_TENANT, status="quarantined")
        assert [record.id for record in listed.executions] == [poison]
        for neighbour in neighbours:
            assert (await flow.get(DEFAULT_TENANT, neighbour)).status == "completed"
        await flow.release(DEFAULT_TENANT, poison, "the input was mended")
        record = await flow.wait(DEFAULT_TENANT, poison, 20)
    finally:
        await flow.close()
    assert record.status == "failed" and record.error["type"] == "WorkerLost"
