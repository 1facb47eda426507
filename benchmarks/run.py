"""The measurements behind the figures that README and docs give. `make bench`.

Every figure stands beside its limit or target, taken in the same run; machines differ, so trust ratios.
Prints a Markdown table on stderr and one JSON document on stdout.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

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
from agentflow.testing import ScriptedWorkers
from benchmarks import core

Json = Any
ROOT = Path(__file__).parents[1]
ROUNDS = 5
SOURCE = {"id": "m", "kind": "llm", "config": {"provider": "local", "model": "smollm2"}}


def step(node_id: str, seconds: float = 0.0) -> Json:
    """A step whose work is an async sleep; the worker reads its length from the prompt."""
    metadata = {"source": "m", "prompt": str(seconds), "output_key": f"{node_id}_text"}
    return {"id": node_id, "type": "llm", "metadata": metadata}


def links(*pairs: tuple[str, str]) -> list[Json]:
    return [{"from": source, "to": target} for source, target in pairs]


CHAIN10 = {
    "nodes": [step(f"n{number}") for number in range(10)],
    "edges": links(*((f"n{number}", f"n{number + 1}") for number in range(9))),
    "sources": [SOURCE],
    "start_node": "n0",
}
UNEVEN = {
    "nodes": [
        {"id": "go", "type": "input"},
        *[step(f"a{n}", 0.4 if n == 0 else 0.05) for n in range(6)],
        *[step(f"b{n}", 0.4 if n == 2 else 0.05) for n in range(6)],
        *[step(f"c{n}", 0.4 if n == 5 else 0.05) for n in range(6)],
        {"id": "join", "type": "aggregator"},
    ],
    "edges": [
        edge
        for branch in "abc"
        for edge in [
            *links(("go", f"{branch}0"), (f"{branch}5", "join")),
            *links(*((f"{branch}{n}", f"{branch}{n + 1}") for n in range(5))),
        ]
    ],
    "sources": [SOURCE],
    "start_node": "go",
}
CRITICAL_PATH_S = 0.65


async def work(attempt: Any) -> StepResult:
    seconds = float(attempt.node.options["prompt"])
    if seconds:
        await asyncio.sleep(seconds)
    return StepResult(result={"text": "done"}, delta={attempt.node.output_key: "done"})


def submission(document: Json) -> Submission:
    checked = check(document)
    if checked.normalized is None:
        raise SystemExit(f"The workload does not check: {checked.errors}")
    return Submission(
        execution_id=new_id("exec"),
        tenant=DEFAULT_TENANT,
        content_hash=content_hash(checked.normalized),
        spec=checked.normalized,
        initial_state={"user_input": "go"},
    )


async def execute(engine: Engine, asked: Submission) -> float:
    """Seconds from submission to the durable end."""
    began = time.perf_counter()
    await engine.accept(asked)
    async for _ in engine.watch(asked.execution_id, 0):
        pass
    return time.perf_counter() - began


async def uneven(engine: Engine) -> Json:
    await execute(engine, submission(UNEVEN))
    taken = [await execute(engine, submission(UNEVEN)) for _ in range(ROUNDS)]
    ratio = statistics.median(taken) / CRITICAL_PATH_S
    return {"name": "uneven branches: makespan / critical path", "value": ratio, "target": 1.05}


async def chain10(engine: Engine, in_flight: int = 64, executions: int = 512) -> Json:
    """Steps per second of ten-step chains, each step committed before the next begins."""
    document = submission(CHAIN10)
    waiting = iter(range(executions))

    async def client() -> None:
        for _ in waiting:
            asked = Submission(
                execution_id=new_id("exec"),
                tenant=DEFAULT_TENANT,
                content_hash=document.content_hash,
                spec=document.spec,
                initial_state={"user_input": "go"},
            )
            await execute(engine, asked)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(in_flight)))
    rate = executions * 10 / (time.perf_counter() - began)
    return {"name": f"chain of 10, {in_flight} in flight, in-process: steps/s", "value": rate}


async def commits(dsn: str, count: int = 500) -> Json:
    """Single-row commits per second of the same database: the limit of an engine without grouping."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS bench_probe (id bigint, payload bytea)")
    began = time.perf_counter()
    for number in range(count):
        await connection.execute("INSERT INTO bench_probe VALUES ($1, $2)", number, b"x" * 900)
    rate = count / (time.perf_counter() - began)
    await connection.execute("DROP TABLE bench_probe")
    await connection.close()
    return {"name": "single-row commits/s of this database, one client (a limit)", "value": rate}


def wall(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - began


def median_wall(command: list[str]) -> float:
    return statistics.median(wall(command) for _ in range(ROUNDS))


def start_up() -> list[Json]:
    bare = median_wall([sys.executable, "-c", "pass"])
    imported = median_wall([sys.executable, "-c", "import agentflow"])
    cli = str(Path(sys.executable).parent / "agentflow")
    validate = median_wall([cli, "validate", "examples/support_triage.json"])
    return [
        {"name": "import agentflow over bare Python, s", "value": imported - bare, "target": 0.15},
        {"name": "agentflow validate, s", "value": validate, "target": 0.6},
    ]


async def engine_figures(data_dir: Path) -> list[Json]:
    settings = load({"AGENTFLOW_DATA_DIR": str(data_dir)})
    held = join(data_dir)
    engine = await open_coordinator(settings, "bench/0", ScriptedWorkers(work))
    try:
        return [await uneven(engine), await chain10(engine), await commits(held.dsn)]
    finally:
        await engine.drain()
        await engine.close()
        held.close()


def show(figures: list[Json]) -> None:
    """The table, what misses its target first; every target is a most. ``ratio``: value / target."""
    load_now = os.getloadavg()[0]
    for figure in figures:
        if "target" in figure:
            figure["ratio"] = figure["value"] / figure["target"]
    figures.sort(key=lambda figure: -figure.get("ratio", 0.0))
    print(
        f"load average {load_now:.2f}\n\n| measured | value | target | ratio |\n|---|---|---|---|",
        file=sys.stderr,
    )
    for figure in figures:
        ratio = f"{figure['ratio']:.2f}" if "ratio" in figure else "-"
        row = (
            f"| {figure['name']} | {figure['value']:.3g} | {figure.get('target', '-')} | {ratio} |"
        )
        print(row, file=sys.stderr)
    print(json.dumps({"load": load_now, "figures": figures}))


def main(measure: Callable[[Path], Any] = engine_figures) -> None:
    figures = core.figures()
    with tempfile.TemporaryDirectory(prefix="af-bench-") as folder:
        Path(folder).chmod(0o711)
        data_dir = Path(folder) / "data"
        figures += start_up() + asyncio.run(measure(data_dir))
        destroy(data_dir)
    show(figures)


if __name__ == "__main__":
    main()
