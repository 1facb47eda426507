"""Group commit: what gathers while a transaction is under way leaves with the next one.

Two lanes, each with at most one transaction in flight; an execution is bound to one lane, so its order
is kept. An idle lane commits at once.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from agentflow.errors import AgentFlowError, Conflict, FencedOut, StoreUnavailable
from agentflow.execution.journal import Append, Journal

Settle = Callable[[AgentFlowError | None], None]
"""Called once per append, in order, on the loop: with None when durable, else why it never will be."""

LANES = 2
MAX_EVENTS = 200
BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Writer:
    """Commits appends through the journal. ``on_committed`` hears of every finished transaction;
    ``regain`` enters again with a new epoch when the lease has ended, and returns once that is done."""

    def __init__(
        self,
        journal: Journal,
        on_committed: Callable[[], None],
        regain: Callable[[], Awaitable[None]],
    ) -> None:
        self._journal = journal
        self._on_committed = on_committed
        self._regain = regain
        self._queues: list[deque[tuple[Append, Settle]]] = [deque() for _ in range(LANES)]
        self._wake = [asyncio.Event() for _ in range(LANES)]
        self._idle = [asyncio.Event() for _ in range(LANES)]
        self._tasks: list[asyncio.Task[None]] = []
        self.available = True
        """False while the database is away."""

    def start(self) -> None:
        for idle in self._idle:
            idle.set()
        self._tasks = [asyncio.create_task(self._lane(index)) for index in range(LANES)]

    def put(self, append: Append, settle: Settle) -> None:
        """Queue an append; ``settle`` is called when it is durable, or never will be."""
        lane = zlib.crc32(append.execution_id.encode()) % LANES
        self._queues[lane].append((append, settle))
        self._idle[lane].clear()
        self._wake[lane].set()

    async def flush(self) -> None:
        """Wait until everything queued is settled."""
        await asyncio.gather(*(idle.wait() for idle in self._idle))

    async def close(self) -> None:
        """Stop; what is still queued is settled as fenced out."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for queue in self._queues:
            self._settle(list(queue), FencedOut("The coordinator has stopped"))
            queue.clear()

    async def _lane(self, lane: int) -> None:
        queue, wake, idle = self._queues[lane], self._wake[lane], self._idle[lane]
        while True:
            await wake.wait()
            wake.clear()
            while queue:
                await self._commit(_take(queue))
                self._on_committed()
            idle.set()

    async def _commit(self, batch: list[tuple[Append, Settle]], may_regain: bool = True) -> None:
        """Bring a batch to its end: durable, or refused one by one."""
        try:
            await self._append(batch, unsure=not may_regain)
        except asyncio.CancelledError:
            self._settle(batch, FencedOut("The coordinator has stopped"))
            raise
        except FencedOut as error:
            if may_regain and not await self._owned(batch):
                await self._regain()
                await self._commit(batch, may_regain=False)
            else:
                await self._refuse(batch, error, may_regain)
        except Conflict as error:
            await self._refuse(batch, error, may_regain)
        else:
            self._settle(batch, None)

    async def _refuse(
        self, batch: list[tuple[Append, Settle]], error: AgentFlowError, may_regain: bool
    ) -> None:
        """A batch is refused whole for the sake of one: find out which."""
        if len(batch) == 1:
            self._settle(batch, error)
            return
        for entry in batch:
            await self._commit([entry], may_regain)

    async def _append(self, batch: list[tuple[Append, Settle]], *, unsure: bool) -> None:
        """Append, waiting out a database that is away. A commit whose fate is unknown is looked up
        before it is sent again: rows are numbered by one writer, so the tail tells."""
        tries = 0
        while True:
            try:
                if (tries or unsure) and await self._already_durable(batch):
                    break
                await self._journal.append([append for append, _ in batch])
                break
            except StoreUnavailable:
                self.available = False
                await asyncio.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
                tries += 1
        self.available = True

    async def _already_durable(self, batch: list[tuple[Append, Settle]]) -> bool:
        last = await self._journal.last_seq([append.execution_id for append, _ in batch])
        return all(
            last[append.execution_id] >= append.first_seq + len(append.events) - 1
            for append, _ in batch
        )

    async def _owned(self, batch: list[tuple[Append, Settle]]) -> set[str]:
        """Those of the batch that are still ours; none when the lease has ended."""
        while True:
            try:
                return await self._journal.owned([append.execution_id for append, _ in batch])
            except StoreUnavailable:
                await asyncio.sleep(BACKOFF_S[-1])

    @staticmethod
    def _settle(batch: Sequence[tuple[Append, Settle]], error: AgentFlowError | None) -> None:
        for _, settle in batch:
            settle(error)


def _take(queue: deque[tuple[Append, Settle]]) -> list[tuple[Append, Settle]]:
    """The next transaction: at least one append, at most MAX_EVENTS events where there are several."""
    batch = [queue.popleft()]
    size = len(batch[0][0].events)
    while queue and size + len(queue[0][0].events) <= MAX_EVENTS:
        batch.append(queue.popleft())
        size += len(batch[-1][0].events)
    return batch
