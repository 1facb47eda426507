"""The worker's side of a pool: one long-lived actor that does attempts and streams their reports.

Coordinators reach it with one call per tick (:meth:`PoolActor.run_batch`) and listen on one long-lived
stream each (:meth:`PoolActor.reports`). What was finished is kept until the coordinator has
acknowledged it, so a broken connection loses nothing while the process lives.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from agentflow.engine.workers import Attempt, Delta, Done, Failed, Performer, Report
from agentflow.execution.events import ErrorInfo, Worker

Json = Any

DELTA_S = 0.02
"""Pieces of replies are gathered this long; the first of an attempt never waits, nor does its end."""
STALE_S = 60.0
"""A coordinator that has no open attempt here and was silent this long does not keep a worker alive."""
ORPHAN_S = 30.0
"""How long the attempts of a coordinator that left go on for another one to adopt."""


class Taken(msgspec.Struct, frozen=True):
    """Another coordinator adopted this attempt. Whoever hears it is not told how the attempt ends; should
    he be its owner after all, he has lost it."""

    id: str


Told = Report | Taken
"""What a worker tells a coordinator."""


def resolve(dotted: str) -> Any:
    """What ``package.module:attribute`` names. Raises ImportError or AttributeError."""
    module, _, attribute = dotted.partition(":")
    return getattr(importlib.import_module(module), attribute)


def pack(items: Sequence[Attempt] | Sequence[Told]) -> bytes:
    """Attempts or reports as they travel. Pickle shares the node that attempts have in common (a
    twentieth of the size of msgpack for a fan-out, the same time) and has no limit on integers."""
    return pickle.dumps(tuple(items), protocol=5)


def unpack(payload: bytes) -> tuple[Any, ...]:
    """The inverse of :func:`pack`; only ever given what a process of this cluster packed."""
    found: tuple[Any, ...] = pickle.loads(payload)
    return found


def stopped(attempt_id: str, pool: str = "", host: str = "") -> Failed:
    """The report of an attempt that was cancelled before it could report itself."""
    error = ErrorInfo("Cancelled", "The attempt was cancelled")
    return Failed(attempt_id, error, (), Worker(os.getpid(), host, pool))


class Channel:
    """What goes back to one coordinator: pending reports, and batches it has not acknowledged."""

    def __init__(self, incarnation: str) -> None:
        self.incarnation = incarnation
        self.reader: object = None
        self.touched = time.monotonic()
        self.unacknowledged: deque[tuple[int, bytes, frozenset[str]]] = deque()
        self._pending: list[Told] = []
        self._seq = 0
        self._something = asyncio.Event()
        self._urgent = asyncio.Event()

    def add(self, report: Told) -> None:
        """Queue a report; the first piece of a reply and a finished attempt wake the reader at once."""
        last = self._pending[-1] if self._pending else None
        if isinstance(report, Delta) and isinstance(last, Delta) and last.id == report.id:
            self._pending[-1] = Delta(report.id, last.offset, last.text + report.text)
        else:
            self._pending.append(report)
        self._something.set()
        if not isinstance(report, Delta) or report.offset == 0:
            self._urgent.set()

    def acknowledge(self, seq: int) -> None:
        """The coordinator has every batch up to this one."""
        self.touched = time.monotonic()
        while self.unacknowledged and self.unacknowledged[0][0] <= seq:
            self.unacknowledged.popleft()

    def finished(self, attempt_id: str) -> bool:
        """Whether the attempt ended here and its report is not acknowledged."""
        return self.report_of(attempt_id) is not None

    def waits(self, attempt_id: str) -> bool:
        """Whether the report of how the attempt ended is still to be sent."""
        return any(r.id == attempt_id and isinstance(r, Done | Failed) for r in self._pending)

    def report_of(self, attempt_id: str) -> Done | Failed | None:
        """How an attempt ended, if that is kept here."""
        sent = [unpack(payload) for _, payload, ids in self.unacknowledged if attempt_id in ids]
        reports: Iterable[Told] = itertools.chain(self._pending, *sent)
        ends = (r for r in reports if r.id == attempt_id and isinstance(r, Done | Failed))
        return next(ends, None)

    @property
    def busy(self) -> bool:
        """Whether reports are kept here."""
        return bool(self._pending or self.unacknowledged)

    def supersede(self) -> object:
        """A new reader; the one before it ends."""
        self.reader = object()
        self.wake()
        return self.reader

    def wake(self) -> None:
        self._something.set()
        self._urgent.set()

    async def next(self) -> tuple[int, bytes] | None:
        """The next batch; None when only woken."""
        await self._something.wait()
        if not self._urgent.is_set():
            try:
                async with asyncio.timeout(DELTA_S):
                    await self._urgent.wait()
            except TimeoutError:
                pass  # nothing finished meanwhile: the pieces leave by themselves
        reports, self._pending = self._pending, []
        self._something.clear()
        self._urgent.clear()
        if not reports:
            return None
        self._seq += 1
        ended = frozenset(report.id for report in reports if isinstance(report, Done | Failed))
        payload = pack(reports)
        if ended:
            self.unacknowledged.append((self._seq, payload, ended))
        return self._seq, payload


class Bench:
    """Where the performer works: on the actor's own loop, or on a loop in a thread of its own, so that
    code which computes cannot hold up reports and cancellations; there one attempt at a time."""

    def __init__(self, performer: Performer, own_thread: bool) -> None:
        self._performer = performer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        if own_thread:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="attempts", daemon=True).start()

    async def perform(
        self, attempt: Attempt, on_text: Callable[[str], None], pool: str, host: str
    ) -> Done | Failed:
        if self._loop is None:
            return await self._performer.perform(attempt, on_text, pool, host)
        home = asyncio.get_running_loop()

        def hop(text: str) -> None:
            home.call_soon_threadsafe(on_text, text)

        done: Done | Failed = await self._there(self._in_turn(attempt, hop, pool, host))
        return done

    async def close(self) -> None:
        if self._loop is None:
            await self._performer.close()
        else:
            await self._there(self._performer.close())

    async def _in_turn(
        self, attempt: Attempt, on_text: Callable[[str], None], pool: str, host: str
    ) -> Done | Failed:
        async with self._turn:
            return await self._performer.perform(attempt, on_text, pool, host)

    async def _there(self, work: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop is not None
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class PoolActor:
    """One worker of a pool, in a process of its own. Every method is called on its event loop."""

    def __init__(self, name: str, performer: str, own_thread: bool, temporary: bool) -> None:
        import ray

        self.name = name
        self.instance = uuid.uuid4().hex
        self._performer = performer
        self._own_thread = own_thread
        self._temporary = temporary
        self._host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        self._node_id = str(ray.get_runtime_context().get_node_id())
        self._bench: Bench | None = None
        self._channels: dict[str, Channel] = {}
        self._tasks: dict[str, tuple[str, asyncio.Task[Done | Failed]]] = {}
        self._leaving = False
        self._batches = self._attempts = 0
        if temporary:
            self._watch = asyncio.get_running_loop().create_task(self._leave_when_stale())

    async def attach(self, coordinator: str, incarnation: str) -> dict[str, Json]:
        """Announce a coordinator. What an incarnation before left here is kept a while for adoption.

        Returns ``{instance, pid, node_id}``; ``instance`` changes when this process was restarted.
        Raises what the performer's opener raises.
        """
        if self._leaving:
            return {"instance": None, "pid": os.getpid(), "node_id": self._node_id}
        if self._bench is None:
            from agentflow.settings import load

            self._bench = Bench(resolve(self._performer)(load()), self._own_thread)
        channel = self._channels.get(coordinator)
        if channel is None or channel.incarnation != incarnation:
            self._part_with(coordinator)
            channel = self._channels[coordinator] = Channel(incarnation)
        channel.touched = time.monotonic()
        return {"instance": self.instance, "pid": os.getpid(), "node_id": self._node_id}

    async def run_batch(
        self, coordinator: str, instance: str, acknowledged: int, payload: bytes
    ) -> bool:
        """Start these attempts; sending one twice starts it once. False: not for this process."""
        channel = self._channels.get(coordinator)
        if instance != self.instance or channel is None:
            return False
        channel.acknowledge(acknowledged)
        self._batches += 1
        for attempt in unpack(payload):
            owner, _ = self._tasks.get(attempt.id, (coordinator, None))
            if owner != coordinator:
                channel.add(Taken(attempt.id))
            elif attempt.id not in self._tasks and not channel.finished(attempt.id):
                self._attempts += 1
                task = asyncio.create_task(self._attempt(attempt))
                self._tasks[attempt.id] = (coordinator, task)
                task.add_done_callback(partial(self._ended, attempt.id))
        return True

    async def adopt(self, coordinator: str, attempt_ids: Sequence[str]) -> list[str]:
        """Hand these attempts, or the reports kept of them, to this coordinator: those that are here."""
        channel = self._channels.get(coordinator)
        if channel is None:
            return []
        found = []
        for attempt_id in attempt_ids:
            if attempt_id in self._tasks:
                former, task = self._tasks[attempt_id]
                self._tasks[attempt_id] = (coordinator, task)
                if former != coordinator:
                    self._tell(former, Taken(attempt_id))
            else:
                kept = self._kept(attempt_id)
                if kept is None:
                    continue
                if not channel.waits(attempt_id):  # what was sent before was not taken in
                    channel.add(kept)
            found.append(attempt_id)
        return found

    def _kept(self, attempt_id: str) -> Done | Failed | None:
        """The report of an attempt that ended here for whichever coordinator."""
        reports = (channel.report_of(attempt_id) for channel in self._channels.values())
        return next((report for report in reports if report is not None), None)

    async def reports(
        self, coordinator: str, incarnation: str, acknowledged: int
    ) -> AsyncIterator[tuple[int, bytes]]:
        """Numbered batches of reports for one coordinator, until it reads anew or is forgotten.

        Ray does not tell a generator that its reader died, so the next reader ends this one.
        """
        channel = self._channels.get(coordinator)
        if channel is None or channel.incarnation != incarnation:
            return
        reader = channel.supersede()
        channel.acknowledge(acknowledged)
        for seq, payload, _ in tuple(channel.unacknowledged):
            yield seq, payload
        while channel.reader is reader:
            batch = await channel.next()
            if batch is not None:
                yield batch

    async def cancel(self, coordinator: str, attempt_ids: Sequence[str]) -> None:
        """Stop these attempts of a coordinator where code can be stopped; each is reported as
        cancelled. One that another coordinator adopted goes on."""
        for attempt_id in attempt_ids:
            owner, task = self._tasks.get(attempt_id, (None, None))
            if task is not None and owner == coordinator:
                task.cancel()

    async def release(self, coordinator: str, incarnation: str, acknowledged: int) -> None:
        """The coordinator has nothing more for this worker at present. A temporary worker that nobody
        holds ends, and what it reserved is free for others."""
        channel = self._channels.get(coordinator)
        if channel is not None and channel.incarnation == incarnation:
            channel.acknowledge(acknowledged)
            self._part_with(coordinator)
        if self._temporary and not self._held():
            await self._leave()

    async def describe(self) -> dict[str, Json]:
        """``{name, pid, node_id, open, kept, batches, attempts}``; ``kept``: unacknowledged batches."""
        return {
            "name": self.name,
            "pid": os.getpid(),
            "node_id": self._node_id,
            "open": len(self._tasks),
            "kept": sum(len(channel.unacknowledged) for channel in self._channels.values()),
            "batches": self._batches,
            "attempts": self._attempts,
        }

    async def _attempt(self, attempt: Attempt) -> Done | Failed:
        offset = 0

        def on_text(text: str) -> None:
            nonlocal offset
            self._tell(self._tasks[attempt.id][0], Delta(attempt.id, offset, text))
            offset += len(text)

        assert self._bench is not None
        return await self._bench.perform(attempt, on_text, self.name, self._host)

    def _ended(self, key: str, task: asyncio.Task[Done | Failed]) -> None:
        """Also when it was cancelled before it began, or its code cannot be interrupted."""
        owner, _ = self._tasks.pop(key)
        self._tell(
            owner, stopped(key, self.name, self._host) if task.cancelled() else task.result()
        )

    def _tell(self, coordinator: str, report: Told) -> None:
        channel = self._channels.get(coordinator)
        if channel is not None:
            channel.add(report)

    def _part_with(self, coordinator: str) -> None:
        """The coordinator, or this incarnation of it, is gone. Its attempts go on and its reports are
        kept, under a name that nobody else has, until they are adopted or it is too late for that."""
        channel = self._channels.pop(coordinator, None)
        if channel is None:
            return
        channel.supersede()
        orphans = [key for key, (owner, _) in self._tasks.items() if owner == coordinator]
        if not (orphans or channel.busy):
            return
        self._channels[name := f"{coordinator} {channel.incarnation}"] = channel
        for key in orphans:
            self._tasks[key] = (name, self._tasks[key][1])
        asyncio.get_running_loop().call_later(ORPHAN_S, self._forget, name)

    def _forget(self, coordinator: str) -> None:
        channel = self._channels.pop(coordinator, None)
        if channel is None:
            return
        channel.supersede()
        for owner, task in tuple(self._tasks.values()):
            if owner == coordinator:
                task.cancel()

    def _held(self) -> bool:
        silent_since = time.monotonic() - STALE_S
        return bool(self._tasks) or any(
            channel.touched > silent_since for channel in self._channels.values()
        )

    async def _leave_when_stale(self) -> None:
        while True:
            await asyncio.sleep(STALE_S / 2)
            if not self._held():
                await self._leave()

    async def _leave(self) -> None:
        self._leaving = True
        for channel in self._channels.values():
            channel.supersede()
        if self._bench is not None:
            await self._bench.close()
        # The process ends as a worker does that Ray has no further use for; nothing is open here.
        import ray

        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
