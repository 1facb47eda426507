"""python -m benchmarks.recovery"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import asyncpg

from agentflow.settings import Settings
from agentflow.store import embedded
from benchmarks import recovery
from benchmarks.peers.serving import claim_stdout
from benchmarks.recovery.measure import PARTS, once
from benchmarks.recovery.systems import Half, OnRay, Pair, TwoNodes, Wire, engine
from benchmarks.suite.database import folder_of_its_own

Json = Any
KINDS = {
    "coordinator": ("SIGKILL of a coordinator on Ray", 1.5),
    "worker": ("SIGKILL of a pool worker on Ray", 1.5),
    "standby": ("SIGKILL of an engine without Ray, another one beside it", 0.5),
    "node": ("SIGKILL of the raylet of one of two nodes", 15.0),
    "drain": ("a coordinator on Ray is drained", 2.0),
    "term": ("SIGTERM of an engine without Ray, another one beside it", 2.0),
}
SYSTEMS: dict[str, tuple[Callable[..., Half], set[str]]] = {
    "ray": (OnRay, {"coordinator", "worker", "drain"}),
    "nodes": (TwoNodes, {"node"}),
    "pair": (Pair, {"standby", "term"}),
}


def share(samples: Sequence[Json], part: str) -> Json:
    values = sorted(sample[part] for sample in samples if part in sample)
    if not values:
        return None
    ninety_nine = values[min(len(values) - 1, int(len(values) * 0.99))]
    return {"p50": statistics.median(values), "p99": ninety_nine, "max": values[-1]}


async def run(kinds: Sequence[str], kills: int, minutes: float) -> Json:
    found: dict[str, list[Json]] = {kind: [] for kind in kinds}
    strikes: dict[str, int] = dict.fromkeys(kinds, 0)
    count = [0]
    async with contextlib.AsyncExitStack() as stack:
        base = stack.enter_context(folder_of_its_own("af-bench-recovery-"))
        halves: dict[str, Half] = {}
        wire = await stack.enter_async_context(Wire().running())
        for name, (make, wanted) in SYSTEMS.items():
            if wanted & set(kinds):
                half = await _opened(stack, base / name, make, wire)
                halves.update(dict.fromkeys(wanted, half))
        plan = [kind for kind in kinds for _ in range(kills)]
        random.shuffle(plan)
        deadline = time.monotonic() + 60 * minutes
        for number, kind in enumerate(plan, 1):
            if time.monotonic() > deadline:
                break
            samples = await once(halves[kind], wire, kind, count)
            found[kind] += samples
            strikes[kind] += bool(samples)
            slowest = max(samples, key=lambda sample: sample["progress"], default={})
            parts = ", ".join(f"{part} {seconds:.2f}" for part, seconds in slowest.items())
            print(f"{number}/{len(plan)} {kind}: {parts}", file=sys.stderr, flush=True)
    return {
        kind: {
            "strikes": strikes[kind],
            "executions": len(samples),
            "target": KINDS[kind][1],
            **{part: share(samples, part) for part in ("progress", *PARTS)},
        }
        for kind, samples in found.items()
    }


async def _opened(
    stack: contextlib.AsyncExitStack, folder: Path, make: Callable[..., Half], wire: Wire
) -> Half:
    settings = Settings(
        data_dir=folder, log_level="INFO", egress_allow=(ip_network("127.0.0.0/8"),)
    )
    held = await asyncio.to_thread(embedded.join, folder)
    stack.callback(embedded.destroy, folder)
    stack.callback(held.close)
    half = make(settings, None, wire.base_url)
    await stack.enter_async_context(half.running())
    half.connection = await asyncpg.connect(held.dsn)
    stack.push_async_callback(half.connection.close)
    return half


def table(results: Json) -> str:
    lines = [
        "| what | target s | kills | executions | p50 | p99 | max | of p50: " + " | ".join(PARTS)
    ]
    lines[0] += " |"
    lines.append("|" + "---|" * (lines[0].count("|") - 1))
    for kind, found in results.items():
        cells = [KINDS[kind][0], found["target"], found["strikes"], found["executions"]]
        progress = found["progress"] or {}
        cells += [f"{progress.get(name, float('nan')):.2f}" for name in ("p50", "p99", "max")]
        cells += [f"{found[part]['p50']:.2f}" if found[part] else "-" for part in PARTS]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=recovery.__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of each kind")
    parser.add_argument("--minutes", type=float, default=60.0, help="stop after so many")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--engine", default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.engine:
        asyncio.run(engine(asked.engine))
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = claim_stdout()  # Ray prints there, too
    results = asyncio.run(run(asked.kinds, asked.kills, asked.minutes))
    print(table(results), file=sys.stderr)
    print(json.dumps(results, indent=2), file=out, flush=True)


if __name__ == "__main__":
    main()
