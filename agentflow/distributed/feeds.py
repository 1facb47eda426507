"""What goes from a coordinator to a replica of the API: everything that it watches, on one stream.

A stream of Ray's costs milliseconds to open, to end, and for each thing that it carries. So there is one
between each two of them, and what comes together leaves together; to watch an execution is a plain call.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import ray
from ray.exceptions import RayError

from agentflow.engine.stream import Stream, StreamItem
from agentflow.errors import AgentFlowError, StoreUnavailable

Json = Any
Items = Sequence[StreamItem]

log = logging.getLogger(__name__)

IDLE_S = 60.0
"""A feed on which nobody watches anything is ended after so long: its reader may be gone."""


class Ended(msgspec.Struct, frozen=True):
    """Nothing follows for this watcher; ``error``: why, where it is not the end of the execution."""

    error: AgentFlowError | None = None


class Feed:
    """The coordinator's end."""

    def __init__(self, idle_s: float = IDLE_S) -> None:
        self._idle_s = idle_s
        self._watched: dict[int, asyncio.Task[None]] = {}
        self._pending: list[tuple[int, Items | Ended]] = []
        self._something = asyncio.Event()

    def open(self, key: int, items: AsyncIterator[Items]) -> None:
        """Pass on what comes, under this key, until it ends or is closed."""
        task = asyncio.create_task(self._pass_on(key, items))
        self._watched[key] = task
        task.add_done_callback(partial(self._over, key))

    def close(self, key: int) -> None:
        """Nobody listens to this any more."""
        task = self._watched.pop(key, None)
        if task is not None:
            task.cancel()

    async def batches(self) -> AsyncIterator[bytes]:
        """What came since the last batch, as :func:`unpack` reads it; the first one says that the feed is
        there. Ends when nothing was watched for a while."""
        try:
            yield pickle.dumps([], protocol=5)
            while await self._comes():
                told, self._pending = self._pending, []
                self._something.clear()
                yield pickle.dumps(told, protocol=5)
        finally:
            for key in tuple(self._watched):
                self.close(key)

    async def _comes(self) -> bool:
        while True:
            try:
                async with asyncio.timeout(self._idle_s):
                    await self._something.wait()
            except TimeoutError:
                if not self._watched and not self._pending:
                    return False
            else:
                return True

    async def _pass_on(self, key: int, items: AsyncIterator[Items]) -> None:
        async for each in items:
            self._tell(key, each)

    def _over(self, key: int, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self._watched.pop(key, None) is None:
            return
        error = task.exception()
        if error is not None and not isinstance(error, AgentFlowError):
            log.error("watching an execution failed", exc_info=error)
            error = StoreUnavailable(f"{type(error).__name__}: {error}")
        self._tell(key, Ended(error))

    def _tell(self, key: int, told: Items | Ended) -> None:
        self._pending.append((key, told))
        self._something.set()


def unpack(payload: bytes) -> list[tuple[int, Items | Ended]]:
    """The inverse of what :meth:`Feed.batches` yields; only given what a process of this cluster made."""
    found: list[tuple[int, Items | Ended]] = pickle.loads(payload)
    return found


class FeedReader:
    """The end of the replica: the watchers of one coordinator's executions.

    ``answer`` awaits a call of an actor. Ended with the coordinator's process or the connection to it;
    then another one is needed.
    """

    def __init__(self, coordinator: Any, answer: Callable[[Any], Awaitable[Any]]) -> None:
        self.ended = False
        self._id = uuid.uuid4().hex
        self._coordinator = coordinator
        self._answer = answer
        self._keys = itertools.count()
        self._queues: dict[int, asyncio.Queue[Items | Ended]] = {}
        self._there = asyncio.Event()
        self._stream = coordinator.feed.options(num_returns="streaming").remote(self._id)
        self._reading = asyncio.create_task(self._read())

    async def watch(self, execution_id: str, after: int) -> AsyncGenerator[Items, None]:
        """What the coordinator tells of an execution; ends also with the feed, or when the watcher lags
        too far. Raises AgentFlowError, RayError."""
        await self._there.wait()
        if self.ended:
            return
        key = next(self._keys)
        queue = self._queues[key] = asyncio.Queue()
        try:
            if not await self._answer(
                self._coordinator.watch.remote(self._id, key, execution_id, after)
            ):
                return
            while not isinstance(told := await queue.get(), Ended):
                yield told
            if told.error is not None:
                raise told.error
        finally:
            if self._queues.pop(key, None) is not None and not self.ended:
                self._coordinator.unwatch.remote(self._id, key)

    async def close(self) -> None:
        """Watch nothing any more."""
        ray.cancel(self._stream)
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for ref in self._stream:
                payload = await self._answer(ref)
                self._there.set()
                for key, told in unpack(payload):
                    self._pass_on(key, told)
        except (AgentFlowError, RayError) as error:
            log.info("a feed of a coordinator ended: %s", type(error).__name__)
        finally:
            self.ended = True
            self._there.set()
            for queue in self._queues.values():
                queue.put_nowait(Ended())

    def _pass_on(self, key: int, told: Items | Ended) -> None:
        queue = self._queues.get(key)
        if queue is None:
            return
        if isinstance(told, Ended):
            del self._queues[key]
        elif queue.qsize() >= Stream.LIMIT:
            del self._queues[key]
            self._coordinator.unwatch.remote(self._id, key)
            told = Ended()
        queue.put_nowait(told)
