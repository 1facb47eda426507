"""What a watcher of an execution receives, and the fan-out to watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import msgspec

from agentflow.execution.events import TERMINAL_EXECUTION, TERMINAL_STEP, StepRetrying
from agentflow.execution.journal import Journal, Recorded

PAGE = 500
"""Events of a journal that are read at once."""
FEW = 64
"""Pieces of a reply that are kept one by one."""


class TokenDelta(msgspec.Struct, frozen=True, tag=True):
    """A piece of a model's reply: sent at once, never stored, void when its attempt is.

    ``offset`` counts the characters of the attempt's text that came before it.
    """

    step: str
    attempt: int
    offset: int
    text: str


StreamItem = Recorded | TokenDelta


class Watcher:
    """What one watcher has yet to receive; ``None`` is the last. There is one for every execution that
    somebody waits for, so it holds nothing while nothing comes. ``lag``: items that it has not taken."""

    __slots__ = ("_came", "_due", "lag")

    def __init__(self) -> None:
        self._due: list[Sequence[StreamItem] | None] | None = None
        self._came: asyncio.Future[None] | None = None
        self.lag = 0

    def put(self, items: Sequence[StreamItem] | None) -> None:
        self.lag += 1
        if self._due is None:
            self._due = [items]
        else:
            self._due.append(items)
        if self._came is not None and not self._came.done():
            self._came.set_result(None)

    def take(self) -> Iterator[Sequence[StreamItem] | None]:
        """What is there, in order."""
        due, self._due = self._due or (), None
        for items in due:
            self.lag -= 1
            yield items

    def come(self) -> asyncio.Future[None]:
        """Done once there is something to take."""
        self._came = asyncio.get_running_loop().create_future()
        if self._due is not None:
            self._came.set_result(None)
        return self._came


class Stream:
    """The watchers of one execution. What each has yet to receive is bounded; one that lags too far is cut
    off and reconnects from the journal, so a slow reader never holds memory.

    What running attempts said so far is kept, up to ``KEPT`` characters of each: a watcher that comes
    after the first piece of a reply hears it from the beginning.
    """

    __slots__ = ("_beginning", "_ended", "_said", "_watchers")

    LIMIT = 10_000
    KEPT = 64 * 1024

    def __init__(self) -> None:
        self._beginning: tuple[Recorded, ...] = ()
        self._watchers: tuple[Watcher, ...] = ()
        self._said: dict[str, _Said] | None = None
        self._ended = False

    def subscribe(self) -> Watcher:
        watcher = Watcher()
        if self._ended:
            watcher.put(None)
            return watcher
        self._watchers = (*self._watchers, watcher)
        said = [
            delta for kept in (self._said or {}).values() if (delta := kept.whole()) is not None
        ]
        if said:
            watcher.put(said)
        return watcher

    def unsubscribe(self, watcher: Watcher) -> None:
        self._watchers = tuple(each for each in self._watchers if each is not watcher)

    def begin(self, recorded: Sequence[Recorded]) -> None:
        """Publish the first events of the execution. They are kept until others follow: who submits an
        execution watches it at once, and need not ask the journal; whoever comes after that does."""
        self._beginning = tuple(recorded)
        self._put(recorded)

    def since(self, after: int) -> list[Recorded] | None:
        """The events past ``after``, where all there are so far are at hand: they are, to the first who
        asks."""
        beginning, self._beginning = self._beginning, ()
        if not beginning:
            return None
        return [entry for entry in beginning if entry.seq > after]

    def add(self, recorded: Sequence[Recorded]) -> None:
        """Publish events that follow. With the end of an attempt goes what it said."""
        self._beginning = ()
        if self._said is not None:
            for item in recorded:
                if isinstance(item.event, (*TERMINAL_STEP, StepRetrying)):
                    self._said.pop(item.event.step, None)
            self._said = self._said or None
        self._put(recorded)

    def say(self, delta: TokenDelta) -> None:
        """Publish a piece of a reply."""
        if self._said is None:
            self._said = {}
        kept = self._said.get(delta.step)
        if kept is None or kept.attempt != delta.attempt:
            kept = self._said[delta.step] = _Said(delta.step, delta.attempt)
        kept.add(delta, self.KEPT)
        self._put((delta,))

    def _put(self, items: Sequence[StreamItem]) -> None:
        """Give these to every watcher of now."""
        for watcher in self._watchers:
            if watcher.lag >= self.LIMIT:
                self.unsubscribe(watcher)
                watcher.put(None)
            else:
                watcher.put(items)

    def end(self) -> None:
        """Tell every watcher, present and future, that nothing follows here."""
        self._ended = True
        for watcher in self._watchers:
            watcher.put(None)
        self._watchers = ()
        self._said = None


class _Said:
    """The text of an attempt so far; nothing once it is longer than what is kept."""

    __slots__ = ("_from", "_length", "_pieces", "_step", "attempt")

    def __init__(self, step: str, attempt: int) -> None:
        self.attempt = attempt
        self._step = step
        self._from = -1
        self._pieces: list[str] = []
        self._length = 0

    def add(self, delta: TokenDelta, limit: int) -> None:
        if self._from < 0:
            self._from = delta.offset
        self._length += len(delta.text)
        if self._length > limit:
            self._pieces.clear()
            return
        self._pieces.append(delta.text)
        if len(self._pieces) == FEW:  # each piece by itself takes ten times its letters
            self._pieces[:] = ["".join(self._pieces)]

    def whole(self) -> TokenDelta | None:
        if not self._pieces:
            return None
        return TokenDelta(self._step, self.attempt, self._from, "".join(self._pieces))


async def follow(
    journal: Journal, execution_id: str, after: int, stream: Stream | None
) -> AsyncIterator[Sequence[StreamItem]]:
    """Durable events past ``after``, then what the stream brings; it ends with it."""
    watcher = stream.subscribe() if stream is not None else None
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
        past = None
        while watcher is not None:
            for items in watcher.take():
                if items is None:
                    return
                fresh = [e for e in items if not isinstance(e, Recorded) or e.seq > after]
                if fresh:
                    yield fresh
            await watcher.come()
    finally:
        if stream is not None and watcher is not None:
            stream.unsubscribe(watcher)
