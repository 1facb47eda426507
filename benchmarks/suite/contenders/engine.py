"""AgentFlow as a contender: an engine with its journal in PostgreSQL, driven as its own flows drive it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from typing import Any

import asyncpg

from agentflow.engine.engine import Engine
from agentflow.engine.workers import Workers
from agentflow.flow import open_coordinator
from agentflow.ids import to_uuid
from agentflow.settings import Settings, load
from benchmarks.peers import serving
from benchmarks.suite.contenders import documents, history

Json = Any
WORKLOADS = [
    "chain10",
    "fan100",
    "uneven",
    "llm_fan",
    "payload",
    "memory",
    "recovery",
    "recover",
    "growth",
]
GROWTH_STEPS, GROWTH_AT_ONCE = 4_000, 4
ACCEPTED_AT_ONCE = 64
"""Submissions under way: an engine that cannot commit one within five seconds refuses it."""
COUNTED = """
SELECT count(*) FILTER (WHERE kind = 'step.completed') AS persisted, count(*) AS rows,
       count(DISTINCT xmin::text) AS transactions FROM journal WHERE execution_id = ANY($1::uuid[])"""
LAST = "SELECT execution_id FROM executions ORDER BY created_at DESC LIMIT 1"
OPEN = "SELECT count(*) FROM executions WHERE status IN ('pending', 'running', 'waiting')"
LEASE_S, HEARTBEAT_S = "10", "3"
SETTINGS = {
    "strict": "settings.durability strict: commit before dispatch",
    "relaxed": "settings.durability relaxed: acceptance and outcome are committed before they are told",
}
BESIDES = f"; clients have {ACCEPTED_AT_ONCE} submissions under way at most"
PERSISTED = {
    "strict": "the completion, the choices it made and the start of what it released",
    "relaxed": "nothing of it yet: events follow within milliseconds, in order",
}


def settings_of(arguments: serving.Arguments) -> Settings:
    return load(
        {
            "AGENTFLOW_DATA_DIR": str(arguments.folder / "data"),
            "DATABASE_URL": arguments.dsn,
            "AGENTFLOW_LEASE_S": LEASE_S,
            "AGENTFLOW_HEARTBEAT_S": HEARTBEAT_S,
        }
    )


class EngineWorkloads:
    """The workloads through one engine. After each the journal is asked what it holds of it."""

    def __init__(
        self,
        engine: Engine,
        connection: asyncpg.Connection,
        durability: str,
        arguments: serving.Arguments,
        standby: bool,
    ) -> None:
        self._engine, self._connection, self._durability = engine, connection, durability
        self._arguments, self._standby = arguments, standby
        self._door = asyncio.Semaphore(ACCEPTED_AT_ONCE)
        self._pasts: set[int] = set()
        self._prepared: dict[tuple[str, int, str], documents.Prepared] = {}

    async def chain10(self, asked: Json) -> Json:
        chain = self._of("chain", serving.CHAIN_STEPS)
        return await self._several(chain, asked["executions"], asked["in_flight"])

    async def fan100(self, asked: Json) -> Json:
        fan = self._of("fan", serving.FAN_WIDTH)
        return await self._several(fan, asked["executions"], asked["in_flight"])

    async def uneven(self, asked: Json) -> Json:
        return await self._several(self._of("uneven"), asked["rounds"], 1)

    async def llm_fan(self, asked: Json) -> Json:
        count, prompt = asked["executions"], f"sleep {asked['step_s']}"
        fan = self._of("fan", asked["width"], prompt)
        return await self._several(fan, count, count)

    async def payload(self, asked: Json) -> Json:
        return await self._several(self._of("payload"), asked["executions"], 1)

    async def memory(self, asked: Json) -> Json:
        count = asked["in_flight"]
        return await self._several(self._of("gate", count), count, count)

    async def recovery(self, _: Json) -> Json:
        """Lasts until this process is killed; the standby, where there is one, goes on then."""
        async with contextlib.AsyncExitStack() as stack:
            if self._standby:
                await stack.enter_async_context(beside(self._arguments))
            return await self._several(self._of("recovery"), 1, 1)

    async def recover(self, _: Json) -> Json:
        """Wait until what was open is over."""
        began = time.perf_counter()
        while await self._connection.fetchval(OPEN):  # noqa: ASYNC110 - by another process
            await asyncio.sleep(0.02)
        keys = await self._connection.fetch("SELECT execution_id FROM executions")
        told = await self._connection.fetchrow(COUNTED, [row["execution_id"] for row in keys])
        steps = serving.RECOVERY_STEPS * len(keys)
        return {"seconds": time.perf_counter() - began, "steps": steps, **told}

    async def growth(self, asked: Json) -> Json:
        """Some thousand steps, or as many as are needed to have so much of what grows. In flight are as many
        as said, since none gets beyond its first step before all have come to it. The past is made by
        whoever asks for it first, which is the request that warms up (``steps`` 0)."""
        what, size = asked["what"], asked["size"]
        nodes = size if what == "nodes" else serving.CHAIN_STEPS
        at_once = size if what == "in_flight" else GROWTH_AT_ONCE
        if what == "history" and size not in self._pasts:
            self._pasts.add(size)
            await self._have_past(size)
        turns = max(1, asked.get("steps", GROWTH_STEPS) // (nodes * at_once))
        kind, length = ("gated chain", size) if what == "in_flight" else ("chain", nodes)
        return await self._several(self._of(kind, length), turns * at_once, at_once)

    async def _have_past(self, size: int) -> None:
        await self._several(self._of("chain", serving.CHAIN_STEPS), 1, 1)
        key = await self._connection.fetchval(LAST)
        await history.copy(self._connection, key, size)

    def _of(self, kind: str, size: int = 0, prompt: str = "nothing") -> documents.Prepared:
        key = (kind, size, prompt)
        if key not in self._prepared:
            self._prepared[key] = documents.prepared(kind, self._durability, size, prompt)
        return self._prepared[key]

    async def _several(self, prepared: documents.Prepared, count: int, at_once: int) -> Json:
        keys: list[str] = []

        async def execute() -> None:
            """From submission to the durable end."""
            async with self._door:
                asked = prepared.submission()
                key = asked.execution_id
                keys.append(key)
                await self._engine.accept(asked)
            del asked  # a client keeps no more than the id
            async for _ in self._engine.watch(key, 0):
                pass

        done = await serving.in_flight(count, at_once, execute)
        told = await self._connection.fetchrow(COUNTED, [to_uuid(key, "exec") for key in keys])
        return {**done, "steps": prepared.steps * count, **told}


@contextlib.asynccontextmanager
async def beside(arguments: serving.Arguments) -> AsyncIterator[None]:
    """A standby is there within. It is ended then, but lives on when this process is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.suite.contenders.standby",
        "--folder", str(arguments.folder), "--dsn", arguments.dsn,
        stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if not await process.stdout.readline():
            raise RuntimeError("The standby ended before it was ready; what it said is above")
        yield
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def opened(
    arguments: serving.Arguments,
    durability: str,
    workers: Workers,
    system: str,
    *,
    standby: bool = False,
) -> AsyncIterator[serving.Contender]:
    """An engine in this process, whose attempts these workers do, as a contender. ``standby``: another one
    takes over when this process is killed."""
    settings = settings_of(arguments)
    engine = await open_coordinator(settings, f"{system}/{os.getpid()}", workers)
    connection = await asyncpg.connect(arguments.dsn)
    told = EngineWorkloads(engine, connection, durability, arguments, standby)
    facts = {
        "system": system,
        "version": version("agentflow"),
        "setting": SETTINGS[durability]
        + BESIDES
        + (", in recovery another engine stands by" * standby),
        "page": "docs/guarantees.md",
        "persisted_before_next_step": PERSISTED[durability],
        "pids": [],
        "standby": standby,
    }
    try:
        yield serving.Contender(facts, {name: getattr(told, name) for name in WORKLOADS})
    finally:
        await connection.close()
        await engine.drain()
        await engine.close()
