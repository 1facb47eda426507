"""What is killed: two coordinators on Ray, two engines without it; and the provider that they call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import asyncpg
import psutil

from agentflow.access.model import DEFAULT_TENANT
from agentflow.flow import Flow, open_flow, open_local
from agentflow.settings import Settings, load

Json = Any
CALL_S = 0.2
STEPS = 60
"""Calls of one execution: it lasts about 13 s."""
LIMIT_S = 60.0


def chain(base_url: str, tag: str, steps: int = 0) -> Json:
    """A chain of calls; the first word of each prompt tells whose it is."""
    config = {"provider": "openai-compatible", "model": "m", "base_url": base_url}
    retry = {"max_attempts": 20, "initial_s": 0.01}
    count = steps or STEPS
    nodes = [
        {
            "id": f"n{number}",
            "type": "llm",
            "metadata": {"source": "model", "prompt": f"{tag} {number}"},
            "retry": retry,
        }
        for number in range(count)
    ]
    edges = [{"from": f"n{number}", "to": f"n{number + 1}"} for number in range(count - 1)]
    sources = [{"id": "model", "kind": "llm", "config": config}]
    return {"name": tag, "nodes": nodes, "edges": edges, "sources": sources, "start_node": "n0"}


class Wire:
    """The provider, a process of its own, and when whose calls came to it (time of day)."""

    def __init__(self) -> None:
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.base_url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Wire]:
        command = [sys.executable, "-m", "tests.fake_provider", "--delay", str(CALL_S)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        self.base_url = (await process.stdout.readline()).decode().strip()
        reading = asyncio.create_task(self._read(process.stdout))
        try:
            yield self
        finally:
            process.terminate()
            await process.wait()
            await reading

    async def _read(self, lines: asyncio.StreamReader) -> None:
        decoder = json.JSONDecoder()
        async for line in lines:
            text = line.decode().strip()
            while text:  # two threads of it may have written before either ended its line
                call, end = decoder.raw_decode(text)
                text = text[end:].strip()
                self.calls[call["prompt"].split()[0]].append(call["at"])

    async def called(self, tag: str) -> bool:
        """Whether any call of this execution came."""
        return tag in self.calls

    def next(self, tag: str, after: float) -> float | None:
        """When the first call of this execution came after that moment."""
        return min((at for at in self.calls[tag] if at > after), default=None)


async def until(found: Callable[[], Awaitable[Any]]) -> Any:
    """The first true answer, for what lies in other processes and announces nothing."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            if answer := await found():
                return answer
            await asyncio.sleep(0.05)


class Half(Protocol):
    """One of the two systems that are measured, over a database of its own."""

    connection: asyncpg.Connection

    async def submit(self, tag: str) -> None: ...

    async def strike(self, kind: str, owner: str) -> float:
        """Kill, or hand over, what this owner's executions need; when that was (time of day)."""
        ...

    async def mend(self) -> None:
        """Returns when everything is there again."""
        ...


class OnRay:
    """Two coordinators on a cluster of our own."""

    def __init__(self, settings: Settings, connection: asyncpg.Connection, base_url: str) -> None:
        self.settings, self.connection, self._base_url = settings, connection, base_url
        self.flow: Flow

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[OnRay]:
        from agentflow.distributed import cluster as clusters

        self.cluster = await asyncio.to_thread(
            clusters.start, self.settings, dashboard=False, num_cpus=4
        )
        # Ray reads its environment when it is imported, which this does.
        from agentflow.distributed.coordinator import RayDoor, start_coordinators

        try:
            self._names = await asyncio.to_thread(start_coordinators, 2)
            self._door = RayDoor(self._names)
            self.flow = await open_flow(self.settings, self._door)
            await self.mend()
            yield self
            await self.flow.close()
        finally:
            await asyncio.to_thread(self.cluster.shutdown)

    async def submit(self, tag: str) -> None:
        await self.flow.submit(DEFAULT_TENANT, chain(self._base_url, tag))

    async def strike(self, kind: str, owner: str) -> float:
        import ray

        from agentflow.distributed.coordinator import actor_name
        from agentflow.distributed.pools import NAMESPACE

        name = actor_name(owner)
        if kind == "drain":
            actor = ray.get_actor(name, namespace=NAMESPACE)
            now = time.time()
            await actor.drain.remote()
            ray.kill(actor, no_restart=False)
            return now
        if kind == "worker":
            pid = await self._worker_pid()
        else:
            pid = next(c["pid"] for c in await self._door.coordinators() if c["id"] == owner)
        now = time.time()
        os.kill(pid, signal.SIGKILL)
        return now

    async def _worker_pid(self) -> int:
        """The process that does calls, once it is there."""
        import ray

        from agentflow.distributed.pools import NAMESPACE

        while True:
            # The actor is there a moment after its coordinator, and away while it is restarted.
            with contextlib.suppress(ValueError, ray.exceptions.ActorUnavailableError):
                worker = ray.get_actor("af/io/127.0.0.1", namespace=NAMESPACE)
                return int((await worker.describe.remote())["pid"])
            await asyncio.sleep(0.1)

    async def mend(self) -> None:
        await self._worker_pid()

        async def alive() -> bool:
            return all(each["alive"] for each in await self._door.coordinators())

        await until(alive)


class TwoNodes(OnRay):
    """The same on two nodes of one machine, the second of which is killed."""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[TwoNodes]:
        self._second: asyncio.subprocess.Process | None = None
        async with super().running():
            try:
                yield self
            finally:
                await self._clear()

    async def strike(self, kind: str, owner: str) -> float:
        assert self._second is not None
        below = psutil.Process(self._second.pid).children(recursive=True)
        raylet = next(each for each in below if each.name() == "raylet")
        now = time.time()
        raylet.kill()
        return now

    async def mend(self) -> None:
        await super().mend()
        await self._clear()
        self._second = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.campaign.second", self.cluster.address, "second"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._second.stdout is not None
        await self._second.stdout.readline()
        await until(self._has_worker)

    async def _has_worker(self) -> bool:
        """Whether the second node does calls: one of its worker's name lives there."""
        import ray

        from agentflow.distributed.pools import NAMESPACE

        alive = {f"af/io/second-{node['NodeID'][:6]}" for node in ray.nodes() if node["Alive"]}
        for name in alive:
            with contextlib.suppress(ValueError, ray.exceptions.RayError):
                await ray.get_actor(name, namespace=NAMESPACE).describe.remote()
                return True
        return False

    async def _clear(self) -> None:
        if self._second is not None and self._second.stdin is not None:
            self._second.stdin.close()
            await self._second.wait()


class Pair:
    """Two engines without Ray, each a process, on one database."""

    def __init__(self, settings: Settings, connection: asyncpg.Connection, base_url: str) -> None:
        self.settings, self.connection, self._base_url = settings, connection, base_url
        self._engines: dict[str, asyncio.subprocess.Process] = {}

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Pair]:
        try:
            await self.mend()
            yield self
        finally:
            for process in self._engines.values():
                process.kill()
                await process.wait()

    async def submit(self, tag: str) -> None:
        process = random.choice(list(self._engines.values()))
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{tag}\n".encode())
        await process.stdout.readline()

    async def strike(self, kind: str, owner: str) -> float:
        process = self._engines.pop(owner)
        now = time.time()
        process.send_signal(signal.SIGTERM if kind == "term" else signal.SIGKILL)
        await process.wait()
        return now

    async def mend(self) -> None:
        from agentflow.distributed.cluster import settings_environment

        while len(self._engines) < 2:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.recovery", "--engine", self._base_url),
                env={**os.environ, **settings_environment(self.settings)},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            assert process.stdout is not None
            self._engines[(await process.stdout.readline()).decode().strip()] = process


async def engine(base_url: str) -> None:
    """One of a Pair: makes a call, says its id, then executes a chain for each line, until SIGTERM."""
    flow = await open_local(load())
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    lines: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(0, lambda: lines.put_nowait(sys.stdin.readline().strip()))
    warm = await flow.submit(DEFAULT_TENANT, chain(base_url, "warm", 1))
    await flow.wait(DEFAULT_TENANT, warm, LIMIT_S)
    print((await flow._door.coordinators())[0]["id"], flush=True)

    async def obey() -> None:
        while tag := await lines.get():
            await flow.submit(DEFAULT_TENANT, chain(base_url, tag))
            print(tag, flush=True)

    obeying = asyncio.create_task(obey())
    await over.wait()
    obeying.cancel()
    await flow.close()
