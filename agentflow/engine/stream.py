"""What a watcher of an execution receives, and the fan-out to watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from agentflow.execution.events import TERMINAL_EXECUTION
from agentflow.execution.journal import Journal, Recorded

PAGE = 500
"""Events of a journal that are read at once."""


class TokenDelta(msgspec.Struct, frozen=True, tag=True):
    """A piece of a model's reply: sent at once, never stored, void when its attempt is.

    ``offset`` counts the characters of the attempt's text that came before it.
    """

    step: str
    attempt: int
    offset: int
    text: str


StreamItem = Recorded | TokenDelta


class Stream:
    """The watchers of one execution. Each has a bounded queue; one that lags too far is cut off
    (``None`` is its last item) and reconnects from the journal, so a slow reader never holds memory.
    """

    LIMIT = 10_000

    def __init__(self) -> None:
        self._beginning: tuple[Recorded, ...] = ()
        self._queues: set[asyncio.Queue[Sequence[StreamItem] | None]] = set()
        self._ended = False

    def subscribe(self) -> asyncio.Queue[Sequence[StreamItem] | None]:
        queue: asyncio.Queue[Sequence[StreamItem] | None] = asyncio.Queue()
        if self._ended:
            queue.put_nowait(None)
        else:
            self._queues.add(queue)
        return queue

    def unsubscribe(self, queue: asyncio.Queue[Sequence[StreamItem] | None]) -> None:
        self._queues.discard(queue)

    def begin(self, recorded: Sequence[Recorded]) -> None:
        """Publish the first events of the execution. They are kept until others follow: who submits an
        execution watches it at once, and need not ask the journal."""
        self._beginning = tuple(recorded)
        self.publish(recorded)

    def since(self, after: int) -> list[Recorded] | None:
        """The events past ``after``, where all there are so far are at hand."""
        if not self._beginning:
            return None
        return [entry for entry in self._beginning if entry.seq > after]

    def add(self, recorded: Sequence[Recorded]) -> None:
        """Publish events that follow."""
        self._beginning = ()
        self.publish(recorded)

    def publish(self, items: Sequence[StreamItem]) -> None:
        """Give these to every watcher of now."""
        for queue in tuple(self._queues):
            if queue.qsize() >= self.LIMIT:
                self._queues.discard(queue)
                queue.put_nowait(None)
            else:
                queue.put_nowait(items)

    def end(self) -> None:
        """Tell every watcher, present and future, that nothing follows here."""
        self._ended = True
        for queue in self._queues:
            queue.put_nowait(None)
        self._queues.clear()

    def __bool__(self) -> bool:
        return bool(self._queues)


async def follow(
    journal: Journal, execution_id: str, after: int, stream: Stream | None
) -> AsyncIterator[Sequence[StreamItem]]:
    """Durable events past ``after``, then what the stream brings; it ends with it."""
    queue = stream.subscribe() if stream is not None else None
    try:
        past: Sequence[Recorded] | None = stream.since(after) if stream is not None else None
        at_hand = past is not None
        if past is None:
            past = await journal.read(execution_id, after, PAGE)
        while past:
            yield past
            after = past[-1].seq
            if isinstance(past[-1].event, TERMINAL_EXECUTION):
                return
            if at_hand or len(past) < PAGE:
                break
            past = await journal.read(execution_id, after, PAGE)
        if queue is None:
            return
        while (items := await queue.get()) is not None:
            fresh = [item for item in items if not isinstance(item, Recorded) or item.seq > after]
            if fresh:
                yield fresh
    finally:
        if stream is not None and queue is not None:
            stream.unsubscribe(queue)
