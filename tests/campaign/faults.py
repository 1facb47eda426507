"""The faults: each is done to a process or to the network, and recorded with what it hit. Those of
databases are in database_faults.py, all kinds in kinds.py."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psutil

from tests.campaign.load import Client
from tests.campaign.world import LEASE_S, SECOND, World

Json = Any

OPEN = "status IN ('pending', 'running', 'waiting')"
BACK_S = 60.0
"""How long what was killed may take to come back before the next fault."""
MORE_S = 90.0
"""How much longer than asked faults may come until enough kinds have hit."""


class Fault(msgspec.Struct, kw_only=True):
    """One fault. ``hit``: what it was done to was at work then, on ``executions`` (those it may have
    touched, by id) or on the calls of ``tags``. ``pids``: processes that were killed or stopped."""

    number: int
    kind: str
    at: float
    until: float = 0.0
    hit: bool = False
    pids: tuple[int, ...] = ()
    stopped: bool = False
    everything: bool = False
    executions: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    calls: tuple[int, ...] = ()
    detail: str = ""


class Kind(msgspec.Struct, frozen=True):
    """What is done. ``lasting``: how often the next faults come while such a one lasts; ``alone``: it comes
    when nothing else lasts."""

    name: str
    weight: float
    do: Callable[[Faults, Fault], Awaitable[None]]
    lasting: float = 0.0
    alone: bool = False


class Faults:
    """Does faults to a world and keeps their record."""

    def __init__(
        self,
        world: World,
        client: Client,
        record: Path,
        chance: random.Random,
        kinds: Sequence[Kind],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.done: list[Fault] = []
        self.world, self.chance, self._client = world, chance, client
        self._record, self._say = record, say
        self._number = 0
        self.seconds: float | None = None
        self._kinds = {kind.name: kind for kind in kinds}

    @property
    def hit(self) -> set[str]:
        """The kinds that hit something so far."""
        return {fault.kind for fault in self.done if fault.hit}

    async def run(
        self, until: float, kinds: tuple[str, ...] = (), gap_s: float = 2.5, least: int = 0
    ) -> None:
        """Faults at random until that (monotonic) moment; every kind once first, in random order. While
        fewer than ``least`` kinds have hit it goes on with those that have not, ``MORE_S`` longer at most.
        """
        names = list(kinds or self._kinds)
        first = self.chance.sample(names, len(names))
        lasting: asyncio.Task[Fault] | None = None
        while (now := time.monotonic()) < until or (len(self.hit) < least and now < until + MORE_S):
            wanted = names if now < until else [name for name in names if name not in self.hit]
            weights = [self._kinds[name].weight for name in wanted]
            name = first.pop() if first else self.chance.choices(wanted, weights)[0]
            kind = self._kinds[name]
            if lasting is not None and (lasting.done() or kind.alone):
                await lasting
                lasting = None
            task = asyncio.create_task(self.do(name))
            if lasting is None and self.chance.random() < kind.lasting:
                lasting = task
            else:
                await task
            await asyncio.sleep(min(4 * gap_s, 0.3 + self.chance.expovariate(1 / gap_s)))
        if lasting is not None:
            await lasting

    async def do(self, name: str, seconds: float | None = None) -> Fault:
        """One fault, until it is over and what it killed is back. ``seconds``: how long it lasts, where
        that is not left to chance."""
        self.seconds = seconds
        self._number += 1
        fault = Fault(number=self._number, kind=name, at=time.time())
        try:
            await self._kinds[name].do(self, fault)
        except (TimeoutError, OSError, asyncpg.PostgresError, psutil.Error) as error:
            # What did not come back in time is looked at again by the faults that follow.
            fault.detail = f"{fault.detail} ({type(error).__name__}: {str(error)[:200]})"
        finally:
            fault.until = time.time()
            self.done.append(fault)
            self._say(
                f"fault {fault.number}: {fault.kind} {fault.detail}, over after "
                f"{fault.until - fault.at:.1f} s, {'hit' if fault.hit else 'missed'}"
            )
            with self._record.open("a") as file:
                file.write(json.dumps(msgspec.to_builtins(fault)) + "\n")
        return fault

    # What is at work now

    def _calls(self, pids: set[int] | None = None) -> list[tuple[int, int, str]]:
        """The ledger's calls that are not answered yet: (id, pid, tag)."""
        with contextlib.closing(sqlite3.connect(self.world.ledger, timeout=10)) as database:
            rows = database.execute("SELECT id, pid, tag FROM calls WHERE ended IS NULL").fetchall()
        return [row for row in rows if pids is None or row[1] in pids]

    async def owned(
        self, owners: list[str] | None = None, kinds: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Open executions (of these owners or kinds), asked past the proxy."""
        statement = f"SELECT execution_id, workflow_name FROM executions WHERE {OPEN}"
        try:
            connection = await asyncpg.connect(self.world.database.dsn, timeout=5)
            try:
                if owners is None:
                    rows = await connection.fetch(statement)
                else:
                    rows = await connection.fetch(f"{statement} AND owner = ANY($1)", owners)
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return ()  # another fault is on
        return tuple(
            f"exec_{row['execution_id'].hex}"
            for row in rows
            if not kinds or row["workflow_name"] in kinds
        )

    def note_calls(self, fault: Fault, pids: set[int] | None) -> None:
        calls = self._calls(pids)
        fault.calls = tuple(call for call, _, _ in calls)
        fault.tags = tuple(tag for _, _, tag in calls)

    # Processes

    def _victim(self, title: str) -> int | None:
        """One of these processes, rather one at work."""
        found = {process.pid for process in self.world.members(title)}
        busy = [pid for _, pid, _ in self._calls(found)]
        return self.chance.choice(sorted(busy or found)) if found else None

    async def _stop(self, fault: Fault, pid: int, seconds: float) -> None:
        """Stop a process for so long; it may be gone when that is over."""
        fault.stopped, fault.detail = True, f"{seconds:.1f} s"
        fault.at = time.time()
        kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        kill(pid, signal.SIGCONT)

    def _pause_s(self) -> float:
        """From half a second to twice the lease, as often shorter than it as longer."""
        if self.seconds is not None:
            return self.seconds
        if self.chance.random() < 0.5:
            return self.chance.uniform(0.5, LEASE_S)
        return self.chance.uniform(LEASE_S, 2 * LEASE_S)

    async def worker(self, fault: Fault, stop: bool = False) -> None:
        pid = self._victim("ray::PoolActor")
        if pid is None:
            return
        fault.pids = (pid,)
        self.note_calls(fault, {pid})
        fault.hit = bool(fault.calls)
        if stop:
            await self._stop(fault, pid, self._pause_s())
        else:
            fault.at = time.time()
            kill(pid, signal.SIGKILL)

    async def coordinator(self, fault: Fault, stop: bool = False) -> None:
        found = {process.pid for process in self.world.members("ray::CoordinatorActor")}
        known = sorted(found & set(self.world.coordinators))
        if not known:
            await self.world.look()
            return
        pid = self.chance.choice(known)
        owner = self.world.coordinators[pid]
        fault.pids, fault.detail = (pid,), owner
        fault.executions = await self.owned([owner])
        fault.hit = bool(fault.executions)
        if stop:
            await self._stop(fault, pid, self._pause_s())
        else:
            fault.at = time.time()
            kill(pid, signal.SIGKILL)
        await self.until_led()

    async def until_led(self, limit_s: float = BACK_S) -> None:
        """Wait until every coordinator takes submissions."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = (await self.world.look()).get("coordinators", [])
            if sum(bool(each["alive"]) for each in found) == 2:
                return
            await asyncio.sleep(0.3)

    async def replica(self, fault: Fault, stop: bool = False) -> None:
        found = self.world.members("ray::ServeReplica")
        if not found:
            return
        pid = self.chance.choice(found).pid
        fault.pids, fault.hit = (pid,), self._client.open_requests > 0
        fault.detail = f"{self._client.open_requests} requests open"
        if stop:
            await self._stop(fault, pid, self._pause_s())
        else:
            fault.at = time.time()
            kill(pid, signal.SIGKILL)
            await self._until_served()

    async def _until_served(self) -> None:
        deadline = time.monotonic() + BACK_S
        while time.monotonic() < deadline:
            if self.world.members("ray::ServeReplica"):
                return
            await asyncio.sleep(0.2)

    async def node(self, fault: Fault) -> None:
        """The raylet of the second node; Ray takes its time to say that the node is dead."""
        raylet = self.world.raylets().get(SECOND)
        if raylet is None:
            await self.world.start_second()
            return
        below = {process.pid for process in raylet.children(recursive=True)}
        owners = [own for pid, own in self.world.coordinators.items() if pid in below]
        fault.executions = await self.owned(owners) if owners else ()
        self.note_calls(fault, below)
        fault.pids = (raylet.pid, *sorted(below))
        fault.hit = bool(fault.calls or fault.executions)
        fault.at = time.time()
        kill(raylet.pid, signal.SIGKILL)
        deadline = time.monotonic() + BACK_S
        while SECOND in (await self.world.look()).get("nodes", [SECOND]):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        fault.hit = fault.hit or self._called(fault)
        await self.world.restart_second()
        await self.until_led()

    def _called(self, fault: Fault) -> bool:
        """Whether its processes called since: workers outlive their raylet until Ray buries the node."""
        with contextlib.closing(sqlite3.connect(self.world.ledger, timeout=10)) as database:
            rows = database.execute("SELECT pid FROM calls WHERE began > ?", (fault.at,)).fetchall()
        return bool({pid for (pid,) in rows} & set(fault.pids))

    async def system(self, fault: Fault) -> None:
        """The head's raylet, and the whole of Ray with it; then a start anew."""
        raylet = self.world.raylets().get("head")
        if raylet is None:
            return
        fault.everything, fault.executions = True, await self.owned()
        self.note_calls(fault, None)
        fault.hit = bool(fault.executions)
        fault.at = time.time()
        kill(raylet.pid, signal.SIGKILL)
        await asyncio.sleep(1.0)
        for _ in range(3):
            try:
                await self.world.restart_system()
            except (TimeoutError, RuntimeError) as error:
                fault.detail = f"one start failed: {str(error)[-200:]}"
            else:
                break
        await self.until_led()


def kill(pid: int, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.Error):
        os.kill(pid, sign)
