"""What a parked execution costs: ``python -m benchmarks.parked [EXECUTIONS]``.

One coordinator, in this process, with a database of its own. So many executions come to a question that
nobody answers; what they take in memory while they are in work, and once they are parked, is compared with
what the coordinator took before. Then one is answered, another coordinator starts, and the first drains.
Prints a line of JSON for each figure. Memory is that of Python's own objects (tracemalloc) and, beside it,
what the system counts as resident.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import asyncpg

from agentflow.access.model import DEFAULT_TENANT
from agentflow.engine.engine import Engine
from agentflow.execution.journal import Submission
from agentflow.flow import open_coordinator
from agentflow.ids import new_id, to_uuid
from agentflow.nodes.base import StepResult
from agentflow.settings import Settings, load
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.store.embedded import destroy, join
from agentflow.store.notices import Outcomes
from agentflow.store.pool import open_pool
from agentflow.store.tenant import for_tenant
from agentflow.testing import ScriptedWorkers

Json = Any
EXECUTIONS = 10_000
AT_ONCE = 200
TARGET_BYTES = 2048
PATIENCE_S = 300.0
DOCUMENT: Json = {
    "nodes": [
        {"id": "in", "type": "input"},
        {"id": "ask", "type": "human", "metadata": {"prompt": "Approve {user_input}?"}},
        {"id": "out", "type": "aggregator", "metadata": {"source_keys": ["outputs.ask"]}},
    ],
    "edges": [{"from": "in", "to": "ask"}, {"from": "ask", "to": "out"}],
    "start_node": "in",
}


def say(name: str, value: float, **more: Json) -> None:
    print(json.dumps({"figure": name, "value": round(value, 4), **more}), flush=True)


def settings_of(data_dir: str) -> Settings:
    return load({"AGENTFLOW_DATA_DIR": data_dir})


async def opened(data_dir: str, name: str) -> Engine:
    def idle(_: Json) -> StepResult:
        return StepResult()

    return await open_coordinator(settings_of(data_dir), name, ScriptedWorkers(idle))


def resident() -> int:
    """Bytes, as the system counts them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("no VmRSS in /proc/self/status")


def taken() -> tuple[int, int]:
    """Bytes in Python's objects, and resident."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0], resident()


async def submit(engine: Engine, count: int, text: str) -> list[str]:
    spec = check(DOCUMENT).normalized
    assert spec is not None
    keys = [new_id("exec") for _ in range(count)]

    async def accept(key: str) -> None:
        asked = Submission(
            execution_id=key,
            tenant=DEFAULT_TENANT,
            content_hash=content_hash(spec),
            spec=spec,
            initial_state={"user_input": text},
        )
        await engine.accept(asked)

    for first in range(0, count, AT_ONCE):
        await asyncio.gather(*map(accept, keys[first : first + AT_ONCE]))
    return keys


async def until_parked(pool: asyncpg.Pool, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = await pool.fetchval(
                "SELECT count(*) FROM executions WHERE status = 'waiting' AND owner IS NULL"
            )
            if found == count:
                return
            await asyncio.sleep(0.1)


async def whole(data_dir: str, count: int) -> None:
    held = await asyncio.to_thread(join, Path(data_dir))
    engine = await opened(data_dir, "parked/0")
    pool = await open_pool(held.dsn)
    outcomes = Outcomes(held.dsn)
    store = for_tenant(pool, DEFAULT_TENANT, outcomes)
    tracemalloc.start()
    await submit(engine, 500, "warm")
    await until_parked(pool, 500)
    before = taken()
    began = time.perf_counter()
    keys = await submit(engine, count, "x" * 100)
    spent = time.perf_counter() - began
    await until_parked(pool, 500 + count)
    after = taken()
    say("executions parked", count, accepted_per_s=round(count / spent))
    say(
        "bytes per parked execution, Python's objects",
        (after[0] - before[0]) / count,
        target=TARGET_BYTES,
    )
    say("bytes per parked execution, resident", (after[1] - before[1]) / count)
    say("executions in memory", engine.active)
    tracemalloc.stop()
    began = time.perf_counter()
    await store.answer(keys[0], "ask/0", {"approved": True}, "benchmark")
    await store.wait_over(keys[0], PATIENCE_S)
    say("from an answer to the end, s", time.perf_counter() - began)
    began = time.perf_counter()
    other = await opened(data_dir, "parked/1")
    say("another coordinator is there, s", time.perf_counter() - began, took_up=other.active)
    began = time.perf_counter()
    await engine.drain()
    say("drained, s", time.perf_counter() - began)
    await engine.close()
    began = time.perf_counter()
    await store.answer(keys[1], "ask/0", {"approved": True}, "benchmark")
    await store.wait_over(keys[1], PATIENCE_S)
    say("from an answer to the end, by the other one, s", time.perf_counter() - began)
    row = await pool.fetchval(
        "SELECT avg(pg_column_size(j.*)) FROM journal j WHERE execution_id = $1",
        to_uuid(keys[2], "exec"),
    )
    say("bytes of a journal row", float(row))
    await other.drain()
    await other.close()
    await outcomes.close()
    await pool.close()
    await asyncio.to_thread(held.close)


def main(arguments: list[str]) -> None:
    count = int(arguments[0]) if arguments else EXECUTIONS
    with tempfile.TemporaryDirectory(prefix="af-parked-") as folder:
        Path(folder).chmod(0o711)
        data_dir = os.path.join(folder, "data")
        asyncio.run(whole(data_dir, count))
        destroy(Path(data_dir))


if __name__ == "__main__":
    main(sys.argv[1:])
