"""The API as users get it: Ray Serve behind HAProxy, coordinators and workers as actors."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import KEY
from tests.api.test_executions import SSE, parsed, read, started

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def home():
    path = Path(tempfile.mkdtemp(prefix="af-serve-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
async def served(home):
    environment = {
        **os.environ,
        "AGENTFLOW_DATA_DIR": str(home / "data"),
        "API_KEY": KEY,
        "AGENTFLOW_EGRESS_ALLOW": "127.0.0.0/8",
        "AGENTFLOW_LEASE_S": "4",
        "AGENTFLOW_HEARTBEAT_S": "1",
        "LOG_LEVEL": "WARNING",
    }
    log = (home / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.api.serving"),
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
    )
    try:
        async with asyncio.timeout(240):
            line = await process.stdout.readline()
        assert line, (home / "log").read_text()[-4000:]
        url = f"http://127.0.0.1:{json.loads(line)['port']}"
        async with httpx2.AsyncClient(
            base_url=url, headers={"X-API-Key": KEY}, timeout=60
        ) as client:
            yield client
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(90):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        log.close()


async def test_execute_through_serve_uses_workers_of_the_cluster(served, asking):
    answer = await served.post(
        "/api/v1/workflows/execute",
        json={"workflow": asking, "initial_state": {"user_input": "hello"}},
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["final_state"]["text_result"] == "one two three"
    assert len(answer.headers.get_list("x-request-id")) == 1
    shown = await served.get(f"/executions/{answer.json()['execution_id']}")
    write = next(step for step in shown.json()["steps"] if step["node_id"] == "write")
    assert write["worker"]["pool"].startswith("af/")


async def test_streams_run_unbuffered_and_resume(served, asking, model):
    execution_id = await started(served, asking, "wait serve-stream")
    url, text = f"/executions/{execution_id}/events", ""
    async with asyncio.timeout(60), served.stream("GET", url, headers=SSE) as answer:
        async for piece in answer.aiter_text():
            text += piece
            if "event: step.started" in text:
                break
    seen = [event for event in parsed(text) if "id" in event]
    model.gate("serve-stream").set()
    rest = [e for e in await read(served, execution_id, after=seen[-1]["id"]) if "id" in e]
    assert [int(event["id"]) for event in seen + rest] == list(range(1, len(seen + rest) + 1))
    assert rest[-1]["event"] == "execution.completed"


async def test_bad_bodies_are_refused_behind_haproxy(served):
    for body, status in ((b"[" * 100_000, 422), (b" " * 9_000_000, 413), (b"{", 422)):
        answer = await served.post("/workflows/validate", content=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_metrics_are_summed_over_coordinators(served, quick):
    before = sum((await counted(served)).values())
    asked = 0
    after: dict[str, float] = {}
    async with asyncio.timeout(30):
        # The hash of an execution's id picks its coordinator: go on until each has had one.
        while len(after) < 2 or sum(after.values()) < before + asked:
            if len(after) < 2:
                await served.post("/workflows/execute", json={"workflow": quick})
                asked += 1
            after = await counted(served)
    assert set(after) == {"af/coordinator/0", "af/coordinator/1"}
    assert sum(after.values()) == before + asked


async def test_executions_that_come_together_each_get_their_own_answer(served, quick):
    async def answered(text: str):
        asked = {"workflow": quick, "initial_state": {"user_input": text}}
        return (await served.post("/workflows/execute", json=asked)).json()

    texts = [f"number {number}" for number in range(60)] + ["long " * 20_000]
    bodies = await asyncio.gather(*map(answered, texts))
    assert [body["output"] for body in bodies] == [f"left of {text} and right" for text in texts]
    assert len({body["execution_id"] for body in bodies}) == len(texts)
    for body in (bodies[0], bodies[-1]):
        shown = (await served.get(f"/executions/{body['execution_id']}")).json()
        assert (shown["status"], shown["output"]) == ("completed", body["output"])
        assert shown["final_state"] == body["final_state"]


async def counted(served) -> dict[str, float]:
    """Completed executions of the workflow ``quick``, by coordinator."""
    text = (await served.get("/metrics")).text
    pattern = r'agentflow_executions_total\{coordinator="([^"]+)",.*workflow="quick"\} (\S+)'
    return {name: float(value) for name, value in re.findall(pattern, text)}


async def test_killed_replica_loses_no_execution_and_no_event(served, asking, model):
    execution_id = await started(served, asking, "wait serve-kill")
    async with asyncio.timeout(30):
        await model.waiting("serve-kill").wait()
    text = (await served.get("/metrics")).text
    pid = int(re.search(r'replica="[^"]*/(\d+)"', text)[1])
    os.kill(pid, signal.SIGKILL)
    model.gate("serve-kill").set()
    async with asyncio.timeout(90):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                if (await served.get("/ready")).status_code == 200:
                    break
        events = [e for e in await read(served, execution_id, after=1) if "id" in e]
    assert [int(event["id"]) for event in events] == list(range(2, len(events) + 2))
    assert events[-1]["event"] == "execution.completed"
    shown = (await served.get(f"/executions/{execution_id}")).json()
    assert shown["status"] == "completed"
    assert model.calls.count("wait serve-kill") == 1
