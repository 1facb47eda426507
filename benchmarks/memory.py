"""What a coordinator holds after many executions: ``python -m benchmarks.memory [EXECUTIONS] [WARM]``.

Executions of two inline steps, one after the other through one engine on a database of its own, each under
a workflow of its own content every so often, with logs and metrics listening. Memory is the resident memory
of this process after a full garbage collection, at the start, after WARM executions, and at the end. With
``AGENTFLOW_TRACE=1`` it also says which lines hold what was added in between.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import resource
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from agentflow.access.model import DEFAULT_TENANT
from agentflow.engine.engine import Engine
from agentflow.execution.journal import Submission
from agentflow.flow import open_coordinator
from agentflow.ids import new_id
from agentflow.nodes.base import StepResult
from agentflow.settings import load
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.store.embedded import destroy, join
from agentflow.telemetry import logs
from agentflow.telemetry.metrics import MetricsListener
from agentflow.testing import ScriptedWorkers

Json = Any
EXECUTIONS, WARM = 100_000, 10_000
IN_FLIGHT = 64
DOCUMENTS = 20
"""Workflows of different content among them."""
_TRACED = bool(os.environ.get("AGENTFLOW_TRACE"))


def resident() -> float:
    """Megabytes that this process holds, garbage and what the allocator keeps for itself apart."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def documents() -> list[Json]:
    """Normalised workflows of two inline steps."""
    found = []
    for number in range(DOCUMENTS):
        checked = check(
            {
                "name": f"tiny {number}",
                "nodes": [{"id": "a", "type": "input"}, {"id": "b", "type": "aggregator"}],
                "edges": [{"from": "a", "to": "b"}],
                "start_node": "a",
            }
        )
        assert checked.normalized is not None, checked.errors
        found.append(checked.normalized)
    return found


async def idle(attempt: Any) -> StepResult:
    return StepResult(result=None, delta={})


async def execute(engine: Engine, count: int, specs: list[Json]) -> None:
    """So many executions, some at a time, each to its durable end."""
    waiting = iter(range(count))

    async def client() -> None:
        for number in waiting:
            spec = specs[number % len(specs)]
            asked = Submission(
                execution_id=new_id("exec"),
                tenant=DEFAULT_TENANT,
                content_hash=content_hash(spec),
                spec=spec,
                initial_state={"user_input": f"go {number}"},
            )
            await engine.accept(asked)
            async for _ in engine.watch(asked.execution_id, 0):
                pass

    await asyncio.gather(*(client() for _ in range(IN_FLIGHT)))


async def measure(data_dir: str, executions: int, warm: int) -> None:
    settings = load({"AGENTFLOW_DATA_DIR": data_dir})
    held = join(Path(data_dir))
    logs.configure("WARNING")
    listeners = (MetricsListener(), logs.EventLog("memory/0"))
    engine = await open_coordinator(settings, "memory/0", ScriptedWorkers(idle), listeners)
    specs = documents()
    try:
        start = resident()
        began = time.perf_counter()
        await execute(engine, warm, specs)
        after_warm = resident()
        if _TRACED:
            tracemalloc.start(8)
        before = tracemalloc.take_snapshot() if _TRACED else None
        await execute(engine, executions - warm, specs)
        seconds = time.perf_counter() - began
        if before is not None:
            gc.collect()
            told = tracemalloc.take_snapshot().compare_to(before, "lineno")
            for line in told[:15]:
                print(line, file=sys.stderr)
            tracemalloc.stop()
        end = resident()
    finally:
        await engine.drain()
        await engine.close()
        held.close()
    figures = {
        "executions": executions,
        "executions/s": round(executions / seconds, 1),
        "MB at the start": round(start, 1),
        f"MB after {warm}": round(after_warm, 1),
        f"MB after {executions}": round(end, 1),
        "ratio": round(end / after_warm, 4),
        "target": 1.1,
    }
    print(json.dumps(figures))


def main(arguments: list[str]) -> None:
    executions = int(arguments[0]) if arguments else EXECUTIONS
    warm = int(arguments[1]) if arguments[1:] else WARM
    with tempfile.TemporaryDirectory(prefix="af-memory-") as folder:
        Path(folder).chmod(0o711)
        data_dir = os.path.join(folder, "data")
        asyncio.run(measure(data_dir, executions, min(warm, executions)))
        destroy(Path(data_dir))


if __name__ == "__main__":
    main(sys.argv[1:])
