"""One simulated coordinator process: the real engine on a virtual loop, with what it is connected to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from agentflow.engine.lease import MARGIN
from agentflow.engine.workers import Attempt, OnReports, Report
from agentflow.errors import StoreUnavailable
from agentflow.execution.events import TERMINAL_EXECUTION, ExecutionCreated
from agentflow.execution.journal import Append, Claimed, Command, Recorded, Snapshot
from agentflow.plan.plan import Plan
from tests.simulator.clockwork import VirtualLoop
from tests.simulator.documents import PLANS

if TYPE_CHECKING:
    from tests.simulator.world import World

Json = Any
Answer = Callable[[Any, Exception | None], None]
RETRY_S = 0.2
SNAPSHOT_EVERY = 8
"""Events: executions here are short."""


class Killed(SystemExit):
    """The process ends here and now."""


class Process:
    """One life of a coordinator. Frozen, it does nothing; dead, whatever still runs of it is cut off."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.dead = False
        self.frozen_until = 0.0
        self.clock_offset = 0.0
        self.drives: set[str] = set()
        self.loop = VirtualLoop(lambda: world.now, self._on_fault)
        self.lease = SimLease(self)
        self.workers = SimWorkers(self)
        self.journal = SimJournal(self)
        self.engine = world.build.engine()(
            name,
            journal=self.journal,
            lease=self.lease,
            workers=self.workers,
            nodes=world.nodes,
            listeners=(Ear(self),),
            accept_s=world.accept_s,
            snapshot_every=SNAPSHOT_EVERY,
            clock=lambda: world.epoch_s + world.now + self.clock_offset,
            chance=world.chance.random,
        )
        self.engine._plans = PLANS  # compiled once per test run, not once per simulated process
        self.start()

    def start(self) -> None:
        starting = self.loop.create_task(self.engine.start())
        starting.add_done_callback(self._started)

    def _started(self, starting: asyncio.Task[None]) -> None:
        """One that cannot begin ends, and is started again as any other."""
        if not starting.cancelled() and isinstance(starting.exception(), StoreUnavailable):
            self.kill()

    def round(self) -> None:
        """All that it has to do now."""
        with contextlib.suppress(Killed):
            self.loop.round()
            while self.loop._ready and not self.dead and self.frozen_until <= self.world.now:
                self.loop.round()

    def point(self, what: str) -> None:
        """Between two effects of the engine: here it may end, or freeze when this turn of its loop is
        over. Raises Killed."""
        if self.dead:
            raise Killed
        self.world.tell(f"{self.name:<9} {what}")
        if self.world.strikes_here():
            if self.world.chance.random() < 0.4:
                self.freeze()
            else:
                self.kill()
                raise Killed

    def freeze(self) -> None:
        seconds = self.world.chance.choice((0.3, 2.5, 4.5, 8.0))
        self.frozen_until = max(self.frozen_until, self.world.now + seconds)
        self.world.count("frozen")
        self.world.tell(f"{self.name:<9} frozen until {self.frozen_until:.3f}")

    def kill(self) -> None:
        self.world.tell(f"{self.name:<9} KILLED")
        self.dead = True
        self.world.on_killed(self)

    def bury(self) -> None:
        """Nothing of it will ever go on."""
        self.dead = True
        for task in asyncio.all_tasks(self.loop):
            with contextlib.suppress(RuntimeError, Killed):
                task.get_coro().close()  # type: ignore[union-attr]
        self.loop.close()

    def _on_fault(self, context: dict[str, Any]) -> None:
        if not self.dead:
            self.world.on_fault(self.name, context)


class Ear:
    """A listener: what it is told must be durable."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        process = self._process
        if process.dead:
            return
        process.world.judge(process.world.rules.told, execution_id, recorded)
        for each in recorded:
            if isinstance(each.event, ExecutionCreated):
                process.world.driven(process, execution_id)
            elif isinstance(each.event, TERMINAL_EXECUTION):
                process.drives.discard(execution_id)

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._process.world.tell(f"{self._process.name:<9} goes on with {execution_id}")
        self._process.world.driven(self._process, execution_id)

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._process.world.tell(f"{self._process.name:<9} lets go of {execution_id}")
        self._process.drives.discard(execution_id)


class SimLease:
    """The keeper of a lease, with the rules of engine.lease.LeaseKeeper, in a thread of its own: it goes
    on while the loop is busy, and stands still while the process is frozen."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._term = 0
        self._stop_at = self._started_at = self._next_beat = 0.0
        self._on_lost: Callable[[], None] = lambda: None

    @property
    def held(self) -> bool:
        return self._process.world.now < self._stop_at

    def start(self, epoch: int, on_lost: Callable[[], None]) -> None:
        self.stop()
        world = self._process.world
        self._on_lost, self._started_at, self._next_beat = on_lost, world.now, world.now
        self._stop_at = world.now + world.lease_s * (1 - MARGIN)
        self._beat(self._term, epoch)

    def stop(self) -> None:
        self._term += 1
        self._stop_at = 0.0

    def _beat(self, term: int, epoch: int) -> None:
        """Renew when it is time, sweep in between."""
        world = self._process.world
        if term != self._term:
            return
        if world.now >= self._stop_at:
            self._lost()
        elif world.now >= self._next_beat:
            self._renew(term, epoch)
        else:
            if world.now - self._started_at >= world.lease_s:
                self._sweep()
            pause = min(world.heartbeat_s, self._next_beat - world.now)
            world.later(pause, self._process, self._beat, term, epoch)

    def _renew(self, term: int, epoch: int) -> None:
        process, sent_at, open_ = self._process, self._process.world.now, [True]
        store, lease_s = process.world.store, process.world.lease_s

        def answered(renewed: Any, error: Exception | None) -> None:
            if term != self._term or not open_:
                return
            open_.clear()
            if error is not None:
                process.world.later(RETRY_S, process, self._beat, term, epoch)
            elif not renewed:
                self._lost()
            else:
                self._stop_at = sent_at + lease_s * (1 - MARGIN)
                self._next_beat = sent_at + process.world.heartbeat_s
                self._beat(term, epoch)

        process.world.ask(process, "renew", lambda: store.renew(process.name, epoch), answered)
        left = self._stop_at - sent_at
        process.world.later(left, process, answered, None, StoreUnavailable())

    def _sweep(self) -> None:
        process = self._process

        def answered(buried: Any, error: Exception | None) -> None:
            if buried:
                process.world.tell(f"{process.name:<9} buried {buried}")
                process.engine.on_buried(buried)

        process.world.ask(process, "bury", lambda: process.world.store.bury(process.name), answered)

    def _lost(self) -> None:
        self._process.world.tell(f"{self._process.name:<9} lost its lease")
        self.stop()
        self._on_lost()


class SimJournal:
    """The journal as one process reaches it: over a network that delays, cuts and forgets."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.epoch = 0
        self._enter_unknown = False

    async def _ask(self, what: str, work: Callable[[], Any]) -> Any:
        self._process.point(f"asks {what}")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def answered(value: Any, error: Exception | None) -> None:
            if future.done():
                return
            if error is None:
                future.set_result(value)
            else:
                future.set_exception(error)

        self._process.world.ask(self._process, what, work, answered)
        return await future

    async def enter(self) -> int:
        me, former, unknown = self._process.name, self.epoch, self._enter_unknown
        store, self._enter_unknown = self._process.world.store, True
        epoch: int = await self._ask("enter", lambda: store.enter(me, former, unknown))
        self.epoch, self._enter_unknown = epoch, False
        return epoch

    async def append(self, batch: Sequence[Append]) -> None:
        me, epoch, sent = self._process.name, self.epoch, tuple(batch)
        store = self._process.world.store
        await self._ask(
            f"append {_shown(sent)} at epoch {epoch}", lambda: store.append(me, epoch, sent)
        )

    async def last_seq(self, execution_ids: Sequence[str]) -> dict[str, int]:
        store, keys = self._process.world.store, tuple(execution_ids)
        found: dict[str, int] = await self._ask("last_seq", lambda: store.last_seq(keys))
        return found

    async def owned(self, execution_ids: Sequence[str]) -> set[str]:
        me, epoch, keys = self._process.name, self.epoch, tuple(execution_ids)
        store = self._process.world.store
        found: set[str] = await self._ask("owned", lambda: store.owned(me, epoch, keys))
        return found

    async def read(
        self, execution_id: str, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        store = self._process.world.store
        found: list[Recorded] = await self._ask(
            "read", lambda: store.read(execution_id, after, limit)
        )
        return found

    async def snapshot(self, execution_id: str, format: str) -> Snapshot | None:
        store = self._process.world.store
        found: Snapshot | None = await self._ask(
            "snapshot", lambda: store.snapshot(execution_id, format)
        )
        return found

    async def keep_snapshot(self, snapshot: Snapshot) -> bool:
        me, epoch, store = self._process.name, self.epoch, self._process.world.store
        kept: bool = await self._ask(
            "keep snapshot", lambda: store.keep_snapshot(me, epoch, snapshot)
        )
        return kept

    async def claim(self, limit: int) -> list[Claimed]:
        me, epoch, store = self._process.name, self.epoch, self._process.world.store
        found: list[Claimed] = await self._ask("claim", lambda: store.claim(me, epoch, limit))
        return found

    async def strays(self, known: Sequence[str], limit: int) -> list[Claimed]:
        me, epoch, keys = self._process.name, self.epoch, tuple(known)
        store = self._process.world.store
        found: list[Claimed] = await self._ask(
            "strays", lambda: store.strays(me, epoch, keys, limit)
        )
        return found

    async def commands(self, execution_ids: Sequence[str]) -> list[Command]:
        store, keys = self._process.world.store, tuple(execution_ids)
        found: list[Command] = await self._ask("commands", lambda: store.commands(keys))
        return found

    async def expire(self, waits: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        me, epoch, asked = self._process.name, self.epoch, tuple(waits)
        store = self._process.world.store
        found: set[tuple[str, str]] = await self._ask(
            "expire", lambda: store.expire(me, epoch, asked)
        )
        return found

    async def park(self, rests: Sequence[tuple[str, float | None]]) -> None:
        me, epoch, given = self._process.name, self.epoch, tuple(rests)
        store = self._process.world.store
        rules = self._process.world.rules

        def parked() -> None:
            for key in store.park(me, epoch, given):
                rules.released(key)

        await self._ask("park", parked)

    async def release(self) -> None:
        me, epoch, store = self._process.name, self.epoch, self._process.world.store
        await self._ask("release", lambda: store.release(me, epoch))


class SimWorkers:
    """The workers as one process reaches them; the world does the work."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._on_reports: OnReports | None = None

    def open(self, on_reports: OnReports) -> None:
        self._on_reports = on_reports

    def dispatch(self, attempts: Sequence[Attempt]) -> None:
        for attempt in attempts:
            self._process.point(f"sends {attempt.id}")
            self._process.world.pool.send(self, attempt)

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        for attempt_id in attempt_ids:
            self._process.point(f"abandons {attempt_id}")
            self._process.world.pool.abandon(attempt_id)

    def leave(self, attempt_ids: Sequence[str]) -> None:
        self._process.point(f"leaves {len(attempt_ids)} attempts")
        self._process.world.pool.leave(self, attempt_ids)

    async def adopt(self, attempts: Sequence[Attempt]) -> frozenset[str]:
        self._process.point(f"would adopt {[attempt.id for attempt in attempts]}")
        world, found = self._process.world, asyncio.get_running_loop().create_future()

        def answered(kept: frozenset[str]) -> None:
            if not found.done():
                found.set_result(kept)

        def asked() -> None:
            kept = world.pool.adopt(self, attempts)
            world.later(world.latency(), self._process, answered, kept)

        world.later(world.latency(), None, asked)
        kept: frozenset[str] = await found
        return kept

    def acknowledge(self, attempt_ids: Sequence[str]) -> None:
        self._process.point(f"acknowledges {', '.join(attempt_ids)}")
        self._process.world.pool.acknowledge(attempt_ids)

    async def close(self) -> None:
        self._on_reports = None

    def report(self, report: Report, after_s: float) -> None:
        """A report on its way to this process; lost with it."""
        self._process.world.later(after_s, self._process, self._arrives, report)

    @property
    def name(self) -> str:
        return self._process.name

    @property
    def dead(self) -> bool:
        return self._process.dead

    def _arrives(self, report: Report) -> None:
        self._process.world.tell(f"{self._process.name:<9} hears {_told(report)}")
        self._process.loop.call_soon(self._hear, report)

    def _hear(self, report: Report) -> None:
        if self._on_reports is not None and not self._process.dead:
            self._on_reports((report,))


def _shown(batch: Sequence[Append]) -> str:
    return ", ".join(
        f"{each.execution_id} {each.first_seq}..{each.first_seq + len(each.events) - 1}"
        for each in batch
    )


def _told(report: Report) -> str:
    error = getattr(report, "error", None)
    return f"{type(report).__name__} {report.id} {error.type if error else ''}"
