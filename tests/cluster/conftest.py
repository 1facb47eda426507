"""One Ray for all tests of this folder, started as the product starts it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from ipaddress import ip_network
from typing import Any

import pytest

from agentflow.distributed import cluster as clusters
from agentflow.engine.workers import Attempt, Delta, Done, Failed, Report
from agentflow.ids import new_id
from agentflow.plan.plan import PlanNode, Resources, Retry
from agentflow.settings import Settings
from tests.conftest import new_folder

OPENERS = "tests.cluster.openers"
NAMESPACE = "agentflow-tests"
"""Of the pools whose nodes are made for tests, beside those of the real coordinators."""


@pytest.fixture(scope="session")
def settings() -> Iterator[Settings]:
    from agentflow.store import embedded

    folder = new_folder()
    yield Settings(
        data_dir=folder / "data",
        lease_s=4.0,
        heartbeat_s=1.0,
        log_level="WARNING",
        egress_allow=(ip_network("127.0.0.0/8"),),
    )
    embedded.destroy(folder / "data")
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def cluster(settings: Settings) -> Iterator[clusters.Cluster]:
    started = clusters.start(
        settings, dashboard=True, num_cpus=4, num_gpus=1, labels={"zone": "eu"}
    )
    yield started
    started.shutdown()


class Gate:
    """Where attempts of the node type ``gate`` come and wait to be told their result."""

    def __init__(self) -> None:
        self.port = 0
        self._arrived: dict[str, asyncio.StreamWriter] = {}
        self._left: set[str] = set()
        self._moved = asyncio.Condition()
        self._server: Any = None

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        self._server.close()
        for writer in self._arrived.values():
            writer.close()

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        step = (await reader.readline()).decode().strip()
        async with self._moved:
            self._arrived[step] = writer
            self._moved.notify_all()
        await reader.read()
        async with self._moved:
            self._left.add(step)
            self._moved.notify_all()

    async def arrival(self, *steps: str) -> None:
        """Wait until attempts of all these steps are being done."""
        async with asyncio.timeout(20), self._moved:
            await self._moved.wait_for(lambda: self._arrived.keys() >= set(steps))

    async def departure(self, step: str) -> None:
        """Wait until the attempt of this step has let go."""
        async with asyncio.timeout(20), self._moved:
            await self._moved.wait_for(lambda: step in self._left)

    def forget(self) -> None:
        """Who comes from now on comes anew."""
        self._arrived.clear()
        self._left.clear()

    def tell(self, step: str, result: str) -> None:
        self._arrived[step].write(f"{result}\n".encode())


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    opened = Gate()
    await opened.open()
    yield opened
    await opened.close()


class Inbox:
    """Receives reports, as an engine does."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.keeps = False
        self._workers: Any = None
        self._sent: set[str] = set()
        self._moved = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    def serve(self, workers: Any) -> None:
        """Receive what these workers report, and acknowledge it, unless ``keeps``."""
        self._workers, dispatch = workers, workers.dispatch

        def remember(attempts: Sequence[Attempt]) -> None:
            self._sent.update(attempt.id for attempt in attempts)
            dispatch(attempts)

        workers.dispatch = remember
        workers.open(self.receive)

    async def stop_all(self) -> None:
        """Cancel what a test left running: workers outlive their coordinator."""
        ended = {each.id for each in self.reports if not isinstance(each, Delta)}
        left = self._sent - ended
        self._workers.cancel(list(left))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10), self._moved:
                await self._moved.wait_for(
                    lambda: left <= {e.id for e in self.reports if not isinstance(e, Delta)}
                )

    def receive(self, reports: Sequence[Report]) -> None:
        self.reports += reports
        if self._workers is not None and not self.keeps:
            ended = [each.id for each in reports if not isinstance(each, Delta)]
            self._workers.acknowledge(ended)
        task = asyncio.get_running_loop().create_task(self._notify())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _notify(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def end(self, attempt: Attempt, timeout_s: float = 40.0) -> Done | Failed:
        """How this attempt ended; it must have ended once only."""
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(lambda: self._ends(attempt))
        (end,) = self._ends(attempt)
        return end

    async def any_end(self, attempts: Sequence[Attempt], timeout_s: float = 40.0) -> Done | Failed:
        """How the first of these ended."""
        async with asyncio.timeout(timeout_s), self._moved:
            await self._moved.wait_for(lambda: any(map(self._ends, attempts)))
        return next(end for each in attempts for end in self._ends(each))

    def _ends(self, attempt: Attempt) -> list[Done | Failed]:
        return [
            each for each in self.reports if each.id == attempt.id and not isinstance(each, Delta)
        ]

    def deltas(self, attempt: Attempt) -> list[Delta]:
        return [each for each in self.reports if isinstance(each, Delta) and each.id == attempt.id]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
async def workers(cluster: clusters.Cluster, inbox: Inbox) -> AsyncIterator[Any]:
    """RayWorkers of a coordinator that has a name of its own in every test."""
    from agentflow.distributed.dispatch import RayWorkers

    opened = RayWorkers(new_id("test"), f"{OPENERS}:open_performer", NAMESPACE)
    inbox.serve(opened)
    yield opened
    await inbox.stop_all()
    await opened.close()


def attempt(
    node_type: str,
    step: str = "",
    *,
    placement: str = "io",
    resources: Resources | None = None,
    view: dict[str, Any] | None = None,
    **options: Any,
) -> Attempt:
    """An attempt of a step on a node made for tests."""
    step = step or new_id("step")
    node = PlanNode(
        index=0,
        id=step,
        type=node_type,
        options=options,
        rank=0,
        placement="pool" if resources else placement,
        effects="pure",
        retry=Retry(),
        resources=resources,
    )
    return Attempt(
        id=new_id("att"),
        tenant="default",
        execution_id=new_id("exec"),
        step=step,
        attempt=1,
        generation=0,
        epoch=1,
        node=node,
        view=view or {},
        fields=(),
        sources=(),
    )


async def described(name: str) -> dict[str, Any]:
    """What the pool worker of this name says of itself."""
    import ray

    found = await ray.get_actor(name, namespace=NAMESPACE).describe.remote()
    return dict(found)


async def poll(found: Callable[[], Awaitable[Any]], timeout_s: float) -> Any:
    """The first true answer, for what lies in other processes and announces nothing."""
    async with asyncio.timeout(timeout_s):
        while not (answer := await found()):
            await asyncio.sleep(0.05)
    return answer
