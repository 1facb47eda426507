"""Group commit: what gathers while a transaction is under way leaves with the next one.

An idle writer commits at once. While a transaction is in flight, what comes gathers: another one leaves
beside it once ``ENOUGH`` appends have gathered, or the first one has lasted longer than ``PATIENCE_S``, so
that none is held up by what another one waits for. Where many executions have gathered before an idle
writer, half of them leave first: while the database commits for one half the coordinator works on the other.
An execution is in one transaction at a time, so its order is kept.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from agentflow.errors import AgentFlowError, Conflict, FencedOut, StoreError, StoreUnavailable
from agentflow.execution.events import StepCompleted, encode
from agentflow.execution.journal import Append, Journal

Settle = Callable[[AgentFlowError | None], None]
"""Called once per append, in order, on the loop: with None when durable, else why it never will be."""
Entry = tuple[Append, Settle]
Json = Any

log = logging.getLogger(__name__)

_as_json = msgspec.json.Encoder().encode

ENOUGH = 24
PATIENCE_S = 0.01
MAX_EVENTS = 200
MAX_BYTES = 8_000_000
LONG = 16_384
"""Characters of a text that is weighed without being encoded."""
LEVELS, WIDTH = 3, 64
"""How far down, and into objects of how many fields, such a text is looked for."""
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
        self._queue: deque[Entry] = deque()
        self._flying: set[str] = set()
        self._wake = (asyncio.Event(), asyncio.Event())
        self._idle = asyncio.Event()
        self._late = False
        self._tasks: list[asyncio.Task[None]] = []
        self.available = True
        """False while the database is away."""

    def start(self) -> None:
        self._idle.set()
        self._tasks = [asyncio.create_task(self._lane()), asyncio.create_task(self._side_lane())]

    def put(self, append: Append, settle: Settle) -> None:
        """Queue an append; ``settle`` is called when it is durable, or never will be."""
        self._queue.append((append, settle))
        self._idle.clear()
        self._wake[0].set()
        if self._late or len(self._queue) % ENOUGH == 0:
            self._wake[1].set()

    async def flush(self) -> None:
        """Wait until everything queued is settled."""
        await self._idle.wait()

    async def close(self) -> None:
        """Stop; what is still queued is settled as fenced out."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        waiting = list(self._queue)
        self._queue.clear()
        _settle(waiting, FencedOut("The coordinator has stopped"))

    async def _lane(self) -> None:
        loop, (wake, beside) = asyncio.get_running_loop(), self._wake

        def late() -> None:
            self._late = True
            beside.set()

        while True:
            await wake.wait()
            wake.clear()
            while batch := self._take():
                if len(self._queue) >= ENOUGH:
                    beside.set()
                timer = loop.call_later(PATIENCE_S, late)
                try:
                    await self._carry(batch)
                finally:
                    timer.cancel()
                    self._late = False

    async def _side_lane(self) -> None:
        """What leaves beside a transaction of the other lane."""
        while True:
            await self._wake[1].wait()
            self._wake[1].clear()
            while (self._late or len(self._queue) >= ENOUGH) and (batch := self._take()):
                await self._carry(batch)
                self._wake[0].set()  # what this one kept from leaving may leave

    async def _carry(self, batch: list[Entry]) -> None:
        """One transaction, to its end."""
        first = batch[0][0].execution_id
        flying = {append.execution_id for append, _ in batch}
        self._flying |= flying
        try:
            refused = await self._commit(batch)
        except asyncio.CancelledError:
            _settle(batch, FencedOut("The coordinator has stopped"))
            raise
        finally:
            self._flying -= flying
        if refused is not None:
            self._refuse_rest([], first, refused)
        _survive(self._on_committed)
        if not (self._queue or self._flying):
            self._idle.set()

    def _take(self) -> list[Entry]:
        """The next transaction: at most MAX_EVENTS events and MAX_BYTES where there are several appends,
        none of an execution that another one is in flight for."""
        batch: list[Entry] = []
        passed: list[Entry] = []
        taken: set[str] = set()
        events, room = 0, MAX_BYTES
        half = len(self._queue) if self._flying else max(ENOUGH, (len(self._queue) + 1) // 2)
        while self._queue:
            append = self._queue[0][0]
            if append.execution_id in self._flying:
                passed.append(self._queue.popleft())
                continue
            if len(batch) >= half and append.execution_id not in taken:
                break
            events += len(append.events)
            if batch or len(self._queue) > 1:
                room -= _weight(append)
            if batch and (events > MAX_EVENTS or room < 0):
                break
            batch.append(self._queue.popleft())
            taken.add(append.execution_id)
        self._queue.extendleft(reversed(passed))
        return batch

    async def _commit(
        self, batch: list[Entry], may_regain: bool = True, again: bool = False
    ) -> AgentFlowError | None:
        """Bring a batch to its end: durable, or refused one by one. ``again``: some of it may have
        been sent before. Returns why a single append was refused."""
        try:
            await self._append(batch, again)
        except FencedOut as error:
            if may_regain and not await self._owned(batch):
                await self._regain()
                return await self._commit(batch, may_regain=False, again=True)
            return await self._refuse(batch, error, may_regain)
        except AgentFlowError as error:
            return await self._refuse(batch, error, may_regain)
        except Exception as error:  # what one execution holds must not stop all the others
            log.exception("append_failed")
            refusal = StoreError(f"The journal cannot hold it: {type(error).__name__}: {error}")
            return await self._refuse(batch, refusal, may_regain)
        _settle(batch, None)
        return None

    async def _refuse(
        self, batch: list[Entry], error: AgentFlowError, may_regain: bool
    ) -> AgentFlowError | None:
        """A batch is refused whole for the sake of one: find out which."""
        if len(batch) == 1:
            _settle(batch, error)
            return error
        while batch:
            execution_id = batch[0][0].execution_id
            refused = await self._commit([batch[0]], may_regain, again=True)
            del batch[0]
            if refused is not None:
                self._refuse_rest(batch, execution_id, refused)
        return None

    def _refuse_rest(self, batch: list[Entry], execution_id: str, error: AgentFlowError) -> None:
        """What an execution did after a refused append is refused with it, in the batch and in the
        queue: no row may ever stand behind a gap."""
        if isinstance(
            error, Conflict
        ):  # the id is another's: what stands behind it is not of this one
            return
        for waiting in (batch, self._queue):
            rest = [entry for entry in waiting if entry[0].execution_id == execution_id]
            for entry in rest:
                waiting.remove(entry)
            _settle(rest, error)

    async def _append(self, batch: list[Entry], again: bool) -> None:
        """Append, waiting out a database that is away. What may have been committed without our
        hearing of it is looked up before it is sent again."""
        tries = 0
        try:
            while True:
                try:
                    missing = await self._missing(batch) if tries or again else batch
                    if missing:
                        await self._journal.append([append for append, _ in missing])
                    return
                except StoreUnavailable:
                    self.available = False
                    await asyncio.sleep(BACKOFF_S[min(tries, len(BACKOFF_S) - 1)])
                    tries += 1
        finally:
            self.available = True

    async def _missing(self, batch: list[Entry]) -> list[Entry]:
        """What of a batch is not in the journal. Rows are numbered by one writer, so the tail tells.

        Raises Conflict, FencedOut where another owner has written in the meantime.
        """
        last = await self._journal.last_seq([append.execution_id for append, _ in batch])
        missing: list[Entry] = []
        for append, settle in batch:
            if last[append.execution_id] < append.first_seq:
                missing.append((append, settle))
            elif not await self._is_written(append):
                raise Conflict() if append.accept else FencedOut()
        return missing

    async def _is_written(self, append: Append) -> bool:
        """Whether the journal holds these very events."""
        after, count = append.first_seq - 1, len(append.events)
        recorded = await self._journal.read(append.execution_id, after, count)
        written = [encode(entry.event) for entry in recorded]
        return written == [encode(event) for event in append.events]

    async def _owned(self, batch: list[Entry]) -> set[str]:
        """Those of the batch that are still ours; none when the lease has ended."""
        while True:
            try:
                return await self._journal.owned([append.execution_id for append, _ in batch])
            except StoreUnavailable:
                await asyncio.sleep(BACKOFF_S[-1])


def _settle(batch: list[Entry], error: AgentFlowError | None) -> None:
    """Tell everybody in the batch, once."""
    while batch:
        _, settle = batch.pop(0)
        _survive(partial(settle, error))


def _survive(call: Callable[[], None]) -> None:
    try:
        call()
    except Exception:  # the writer carries every other execution too
        log.exception("turn_failed")


def _weight(append: Append) -> int:
    """The bytes that an append takes to its transaction, about; what cannot be encoded leaves alone."""
    try:
        if _is_heavy(append):
            return sum(_bytes_of(value, LEVELS) for value in _values(append))
        return len(_as_json((append.events, append.outcome, append.accept)))
    except (TypeError, ValueError, OverflowError, RecursionError):
        return MAX_BYTES


def _is_heavy(append: Append) -> bool:
    """Whether it holds a long text, as far as can be told without a long look: every append is asked."""
    for event in append.events:
        if type(event) is StepCompleted and (
            _is_long(event.delta, LEVELS) or _is_long(event.result, LEVELS)
        ):
            return True
    if append.accept is None and append.outcome is None:
        return False
    return any(_is_long(value, LEVELS) for value in _values(append))


def _values(append: Append) -> Iterator[Json]:
    """What an append holds of authors and their callers; by far the most of it where it is heavy."""
    if append.accept is not None:
        yield append.accept.initial_state
        yield append.accept.spec
    if append.outcome is not None:
        yield append.outcome.final_state
        yield append.outcome.output
    for event in append.events:
        if isinstance(event, StepCompleted):
            yield event.delta
            yield event.result


def _is_long(value: Json, levels: int) -> bool:
    if type(value) is str:
        return len(value) > LONG
    if type(value) is dict and levels and len(value) <= WIDTH:
        for child in value.values():
            if type(child) is str:
                if len(child) > LONG:
                    return True
            elif child and _is_long(child, levels - 1):
                return True
    return False


def _bytes_of(value: Json, levels: int) -> int:
    """About how long it is, encoded; a long text that lies a few levels down is not encoded for that."""
    if isinstance(value, str) and value.isascii():
        return len(value)
    if isinstance(value, dict) and levels and len(value) <= WIDTH:
        return sum(_bytes_of(child, levels - 1) for child in value.values())
    return len(_as_json(value))
