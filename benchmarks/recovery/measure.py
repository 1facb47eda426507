"""One strike: at a random moment, and until when each part of the recovery was done."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from functools import partial
from typing import Any

import asyncpg

from benchmarks.recovery.systems import LIMIT_S, Half, OnRay, Wire, until

Json = Any
UNDER_WAY = 4
"""Executions that each half of the measurement keeps going."""
PARTS = ("buried", "claimed", "first event", "next call")


async def under_way(half: Half) -> dict[str, list[asyncpg.Record]]:
    """The executions of each owner whose steps have begun."""
    rows = await half.connection.fetch(
        "SELECT execution_id, workflow_name AS tag, owner, owner_epoch FROM executions"
        " WHERE status = 'running' AND owner IS NOT NULL"
    )
    found: dict[str, list[asyncpg.Record]] = defaultdict(list)
    for row in rows:
        found[row["owner"]].append(row)
    return found


async def measured(half: Half, wire: Wire, kind: str, owner: str) -> list[Json]:
    """Strike once; for each execution of that owner, the seconds until each part was done."""
    owned = await under_way(half)
    struck = owned[owner] if kind != "node" else [row for rows in owned.values() for row in rows]
    at = await half.strike(kind, owner)
    samples = []
    for row in struck:
        while (found := await _after(half, wire, kind, row, at)) is None:
            await asyncio.sleep(0.02)
            if time.time() > at + LIMIT_S:
                found = {"progress": LIMIT_S}  # never, as far as this can tell
                break
        samples.append(found)
    known = [sample for sample in samples if sample]
    if kind == "node":  # the others had their worker on the node that lives
        known = sorted(known, key=lambda sample: float(sample["progress"]))[-1:]
    return known


async def _after(half: Half, wire: Wire, kind: str, row: asyncpg.Record, at: float) -> Json | None:
    """What became of one execution; None while that is not known, {} when it was over just then."""
    key, epoch = row["execution_id"], row["owner_epoch"]
    if kind in ("worker", "node"):
        call = wire.next(row["tag"], at + 0.005)
        if call is None:  # or there is none to come: its last one was under way elsewhere
            running = await half.connection.fetchval(
                "SELECT status = 'running' FROM executions WHERE execution_id = $1", key
            )
            return None if running else {}
        return {"progress": call - at, "next call": call - at}
    now = await half.connection.fetchrow(
        "SELECT status, extract(epoch FROM owned_at)::float8 AS claimed, (SELECT"
        " extract(epoch FROM min(j.at))::float8 FROM journal j WHERE j.execution_id = $1"
        " AND j.epoch <> $2 AND j.at > to_timestamp($4)) AS event, (SELECT"
        " extract(epoch FROM c.ended_at)::float8 FROM coordinators c WHERE c.id = $3) AS buried"
        " FROM executions WHERE execution_id = $1",
        *(key, epoch, row["owner"], at),
    )
    if now["status"] != "running" and now["event"] is None:
        return {}
    if now["event"] is None or now["claimed"] < at:
        return None
    call = wire.next(row["tag"], now["claimed"])
    if call is None and now["status"] == "running":
        return None
    # Whose last call was under way when it was struck ends without another one.
    moments = [now["buried"] or 0.0, now["claimed"], now["event"], call or 0.0]
    times = {part: moment - at for part, moment in zip(PARTS, moments) if moment > at}
    return {"progress": min(times[part] for part in PARTS[2:] if part in times), **times}


async def keep_going(half: Half, wire: Wire, prefix: str, count: list[int]) -> None:
    """Submit until enough executions are under way."""
    rows = await half.connection.fetchval(
        "SELECT count(*) FROM executions WHERE status IN ('pending', 'running')"
    )
    for _ in range(rows, UNDER_WAY):
        count[0] += 1
        tag = f"{prefix}{count[0]}"
        await half.submit(tag)
        await until(partial(wire.called, tag))


async def once(half: Half, wire: Wire, kind: str, count: list[int]) -> list[Json]:
    """One strike at a random moment, once somebody has something under way."""
    await keep_going(half, wire, "r" if isinstance(half, OnRay) else "p", count)

    async def owners() -> list[str]:
        return list(await under_way(half))

    chosen = random.choice(await until(owners))
    await asyncio.sleep(random.random())
    samples = await measured(half, wire, kind, chosen)
    await half.mend()
    return samples
