"""A journal of 100 000 events: a loop of 25 000 iterations whose owner is killed in the middle.

``python -m benchmarks.long [ITERATIONS]``. On a database of its own. Another process takes it over from its
last snapshot and brings it to its end; then the whole journal is folded with the snapshot and without.
Prints a line of JSON for each figure. Memory is resident memory, from the process's own status file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from agentflow.access.model import DEFAULT_TENANT
from agentflow.engine.snapshots import fold_on, format_of, last_state
from agentflow.execution.journal import Submission
from agentflow.execution.snapshot import encoded, sealed
from agentflow.execution.state import ExecutionState
from agentflow.flow import open_coordinator
from agentflow.ids import new_id, to_uuid
from agentflow.nodes.base import StepResult
from agentflow.plan.compile import compile_plan
from agentflow.settings import Settings, load
from agentflow.spec.check import check
from agentflow.spec.models import content_hash
from agentflow.store.embedded import destroy, join
from agentflow.store.journal import PostgresJournal
from agentflow.testing import ScriptedWorkers

Json = Any
ITERATIONS = 25_000
FRESH = 1_000
"""Events behind a fresh snapshot, about."""
ANSWER = "y" * 200
PARTS = ((1_000, 6_000), (-6_000, -1_000))
"""Which events are compared for what one costs: early ones and late ones, from the end."""


def document(iterations: int) -> Json:
    """Two model calls in a loop, and a step behind it; four events in an iteration."""
    steps = [
        {
            "id": name,
            "type": "llm",
            "metadata": {
                "source": "m",
                "prompt": f"{{{other}_text}}",
                "output_key": f"{name}_text",
            },
        }
        for name, other in (("a", "b"), ("b", "a"))
    ]
    config = {"provider": "local", "model": "smollm2"}
    again = f"a_text != 'answer {iterations}'"
    return {
        "nodes": [*steps, {"id": "x", "type": "aggregator"}],
        "edges": [
            {"from": "a", "to": "b"},
            {"from": "b", "to": "a", "condition": again},
            {"from": "b", "to": "x", "condition": f"!({again})"},
        ],
        "sources": [{"id": "m", "kind": "llm", "config": config}],
        "start_node": "a",
        "settings": {
            "max_iterations": iterations + 1,
            "timeout_seconds": 86_400,
            "durability": "relaxed",
        },
    }


async def work(attempt: Any) -> StepResult:
    """Answers with the number of the iteration in the first of the two steps."""
    iteration = attempt.step.partition("@")[2]
    text = f"answer {iteration}" if attempt.step.startswith("a") else ANSWER
    return StepResult(result={"text": ANSWER}, delta={attempt.node.output_key: text})


def settings_of(data_dir: str) -> Settings:
    return load(
        {"AGENTFLOW_DATA_DIR": data_dir, "AGENTFLOW_LEASE_S": "3", "AGENTFLOW_HEARTBEAT_S": "0.5"}
    )


def resident() -> float:
    """Megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def say(name: str, value: float, **more: Json) -> None:
    print(json.dumps({"name": name, "value": round(value, 4), **more}), flush=True)


async def own(data_dir: str, execution_id: str, spec: Json) -> None:
    """Accept the execution and drive it, until it is killed."""
    engine = await open_coordinator(settings_of(data_dir), "long/0", ScriptedWorkers(work))
    await engine.accept(
        Submission(
            execution_id=execution_id,
            tenant=DEFAULT_TENANT,
            content_hash=content_hash(spec),
            spec=spec,
        )
    )
    await asyncio.Event().wait()


class Ear:
    """Hears when the execution is taken over, and what it took."""

    def __init__(self) -> None:
        self.adopted = asyncio.Event()
        self.peak = 0.0

    def on_events(self, *_: Json) -> None:
        pass

    def on_adopted(self, *_: Json) -> None:
        self.adopted.set()

    def on_released(self, *_: Json) -> None:
        pass

    async def watch(self) -> None:
        while not self.adopted.is_set():
            self.peak = max(self.peak, resident())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.002):
                    await self.adopted.wait()
        self.peak = max(self.peak, resident())


async def inherit(data_dir: str, execution_id: str, spec: Json) -> None:
    """Stand by, take over, and go on to the end."""
    ear = Ear()
    engine = await open_coordinator(
        settings_of(data_dir), "long/1", ScriptedWorkers(work), listeners=[ear]
    )
    before = resident()
    print("ready", flush=True)
    await ear.watch()
    at = time.time()
    say("take-over in the middle: peak memory over baseline, MB", ear.peak - before)
    print(json.dumps({"adopted_at": at}), flush=True)
    async for _ in engine.watch(execution_id, 10**9):
        pass
    say("memory at the end over baseline, MB", resident() - before)
    await engine.drain()
    await engine.close()


async def measure_fold(data_dir: str, execution_id: str, spec: Json) -> None:
    """Fold the journal as it stands; prints seconds, those of them that this process worked, events read
    behind the snapshot, and memory."""
    held = join(Path(data_dir))
    pool = await asyncpg.create_pool(held.dsn, min_size=1, max_size=1)
    journal = PostgresJournal(pool, "long/2", 3.0)
    plan = compile_plan(spec)
    before, began, worked = resident(), time.perf_counter(), time.process_time()
    state = await last_state(journal, plan, execution_id)
    shortcut = state.seq
    peak = resident()
    async for _ in fold_on(journal, state):
        peak = max(peak, resident())
    found = {
        "seconds": time.perf_counter() - began,
        "cpu": time.process_time() - worked,
        "seq": state.seq,
        "behind": state.seq - shortcut,
    }
    print(json.dumps({**found, "peak_mb": peak - before, "state_mb": resident() - before}))
    await pool.close()
    held.close()


async def keep(data_dir: str, execution_id: str, spec: Json) -> None:
    """Put a snapshot of all but the last events in place of the one that is there."""
    held = join(Path(data_dir))
    pool = await asyncpg.create_pool(held.dsn, min_size=1, max_size=1)
    journal, plan = PostgresJournal(pool, "long/3", 3.0), compile_plan(spec)
    state = ExecutionState(plan, execution_id)
    last = (await journal.last_seq([execution_id]))[execution_id]
    async for _ in fold_on(journal, state, last - FRESH):
        pass
    began = time.perf_counter()
    content = sealed(list(encoded(state)))
    seconds = time.perf_counter() - began
    await pool.execute(
        "UPDATE snapshots SET seq = $1, state = $2, format = $3",
        state.seq,
        content,
        format_of(plan),
    )
    print(json.dumps({"mb": len(content) / 1e6, "seconds": seconds}))
    await pool.close()
    held.close()


def started(*command: str, spec: Json) -> subprocess.Popen[str]:
    """A process of its own in one of the roles."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.long", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(spec))
    process.stdin.close()
    return process


def folded(data_dir: str, execution_id: str, spec: Json, role: str = "fold") -> Json:
    """What a process of its own says about the journal."""
    process = started(role, data_dir, execution_id, spec=spec)
    assert process.stdout is not None
    told = json.loads(process.stdout.read())
    process.wait()
    return told


async def whole(data_dir: str, iterations: int) -> None:
    held = join(Path(data_dir))
    execution_id = new_id("exec")
    spec = check(document(iterations)).normalized
    assert spec is not None
    key = to_uuid(execution_id, "exec")
    await open_once(data_dir)
    database = await asyncpg.connect(held.dsn)
    owner = started("own", data_dir, execution_id, spec=spec)
    heir = started("inherit", data_dir, execution_id, spec=spec)
    try:
        assert heir.stdout is not None
        await asyncio.to_thread(heir.stdout.readline)
        last = 0
        while last < 2 * iterations:
            await asyncio.sleep(0.2)
            last = await database.fetchval(
                "SELECT coalesce(max(seq), 0) FROM journal WHERE execution_id = $1", key
            )
        owner.send_signal(signal.SIGKILL)
        killed_at = time.time()
        owner.wait()
        snapshot = await database.fetchval("SELECT seq FROM snapshots WHERE execution_id = $1", key)
        say("events at the kill", last, snapshot=snapshot)
        print((await asyncio.to_thread(heir.stdout.readline)).strip(), flush=True)
        adopted = json.loads(await asyncio.to_thread(heir.stdout.readline))["adopted_at"]
        say("killed until taken over (lease of 3 s), s", adopted - killed_at)
        print((await asyncio.to_thread(heir.stdout.read)).strip(), flush=True)
        await report(database, key, data_dir, execution_id, spec)
    finally:
        for process in (owner, heir):
            process.kill()
            process.wait()
        await database.close()
        held.close()


async def open_once(data_dir: str) -> None:
    """Bring the database to its newest form."""
    engine = await open_coordinator(settings_of(data_dir), "long/first", ScriptedWorkers(work))
    await engine.drain()
    await engine.close()


async def report(
    database: asyncpg.Connection, key: Any, data_dir: str, execution_id: str, spec: Json
) -> None:
    row = await database.fetchrow(
        "SELECT status, (SELECT count(*) FROM journal j WHERE j.execution_id = $1) AS events, "
        "(SELECT length(state) FROM snapshots s WHERE s.execution_id = $1) AS snapshot "
        "FROM executions WHERE execution_id = $1",
        key,
    )
    say("events in all", row["events"], status=row["status"])
    say("snapshot, MB", (row["snapshot"] or 0) / 1e6)
    spans = []
    for first, end in PARTS:
        low, high = (n if n > 0 else row["events"] + n for n in (first, end))
        spans.append(
            await database.fetchval(
                "SELECT extract(epoch FROM max(at) - min(at))::float8 / count(*) FROM journal "
                "WHERE execution_id = $1 AND seq >= $2 AND seq < $3",
                key, low, high,
            )
        )  # fmt: skip
    say("an event near the end / an event near the beginning", spans[1] / spans[0], target=1.3)
    say("an event near the end, ms", spans[1] * 1e3)
    found = folded(data_dir, execution_id, spec)
    say("fold with the snapshot as it was found, s", found["seconds"], behind=found["behind"])
    told = folded(data_dir, execution_id, spec, role="keep")
    say("a snapshot of the whole, MB", told["mb"], seconds=told["seconds"])
    fast = folded(data_dir, execution_id, spec)
    await database.execute("DELETE FROM snapshots WHERE execution_id = $1", key)
    slow = folded(data_dir, execution_id, spec)
    say(
        "fold with a fresh snapshot, s",
        fast["seconds"],
        cpu=fast["cpu"],
        events_behind_it=fast["behind"],
    )
    say("fold from the beginning, s", slow["seconds"], cpu=slow["cpu"], events=slow["seq"])
    say("with a fresh snapshot / from the beginning", fast["seconds"] / slow["seconds"])
    say("the same in processor time", fast["cpu"] / slow["cpu"])
    say("peak memory of a fold from the beginning, MB", slow["peak_mb"])
    say("peak memory of a fold with a fresh snapshot, MB", fast["peak_mb"])
    say("state of the whole execution, KB per event", slow["state_mb"] * 1e3 / slow["seq"])


def main(arguments: list[str]) -> None:
    if arguments and not arguments[0].isdecimal():
        role, data_dir, execution_id = arguments
        roles = {"own": own, "inherit": inherit, "fold": measure_fold, "keep": keep}
        asyncio.run(roles[role](data_dir, execution_id, json.load(sys.stdin)))
        return
    iterations = int(arguments[0]) if arguments else ITERATIONS
    with tempfile.TemporaryDirectory(prefix="af-long-") as folder:
        Path(folder).chmod(0o711)
        data_dir = os.path.join(folder, "data")
        asyncio.run(whole(data_dir, iterations))
        destroy(Path(data_dir))


if __name__ == "__main__":
    main(sys.argv[1:])
