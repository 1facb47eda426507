"""The faults: each is done to a process or to the network, and recorded with what it hit."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import psutil

from tests.campaign.load import Client
from tests.campaign.proxy import DOWN, UP
from tests.campaign.world import LEASE_S, SECOND, World

Json = Any

OPEN = "status IN ('pending', 'running', 'waiting')"
BACK_S = 60.0
"""How long what was killed may take to come back before the next fault."""


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


Kind = tuple[str, float, Callable[["Faults", Fault], Awaitable[None]]]


class Faults:
    """Does faults to a world and keeps their record."""

    def __init__(
        self,
        world: World,
        client: Client,
        record: Path,
        chance: random.Random,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.done: list[Fault] = []
        self._world, self._client, self._chance = world, client, chance
        self._record, self._say = record, say
        self._number = 0
        self._seconds: float | None = None
        self._kinds = {name: (weight, do) for name, weight, do in KINDS}

    async def run(self, until: float, kinds: tuple[str, ...] = (), gap_s: float = 2.5) -> None:
        """Faults at random until that (monotonic) moment; every kind once first, in random order."""
        names = list(kinds or self._kinds)
        first = self._chance.sample(names, len(names))
        lasting: asyncio.Task[None] | None = None
        while time.monotonic() < until:
            weights = [self._kinds[name][0] for name in names]
            name = first.pop() if first else self._chance.choices(names, weights)[0]
            if lasting is not None and (lasting.done() or name in ALONE):
                await lasting
                lasting = None
            task = asyncio.create_task(self.do(name))
            if lasting is None and self._chance.random() < LASTING.get(name, 0.0):
                lasting = task
            else:
                await task
            await asyncio.sleep(min(4 * gap_s, 0.3 + self._chance.expovariate(1 / gap_s)))
        if lasting is not None:
            await lasting

    async def do(self, name: str, seconds: float | None = None) -> Fault:
        """One fault, until it is over and what it killed is back. ``seconds``: how long it lasts, where
        that is not left to chance."""
        self._seconds = seconds
        self._number += 1
        fault = Fault(number=self._number, kind=name, at=time.time())
        try:
            await self._kinds[name][1](self, fault)
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
        with contextlib.closing(sqlite3.connect(self._world.ledger, timeout=10)) as database:
            rows = database.execute("SELECT id, pid, tag FROM calls WHERE ended IS NULL").fetchall()
        return [row for row in rows if pids is None or row[1] in pids]

    async def _owned(self, owners: list[str] | None = None) -> tuple[str, ...]:
        """Open executions (of these owners), asked past the proxy."""
        statement = f"SELECT execution_id FROM executions WHERE {OPEN}"
        try:
            connection = await asyncpg.connect(self._world.dsn, timeout=5)
            try:
                if owners is None:
                    rows = await connection.fetch(statement)
                else:
                    rows = await connection.fetch(f"{statement} AND owner = ANY($1)", owners)
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return ()  # another fault is on
        return tuple(f"exec_{row['execution_id'].hex}" for row in rows)

    def _note_calls(self, fault: Fault, pids: set[int] | None) -> None:
        calls = self._calls(pids)
        fault.calls = tuple(call for call, _, _ in calls)
        fault.tags = tuple(tag for _, _, tag in calls)

    # Processes

    def _victim(self, title: str) -> int | None:
        """One of these processes, rather one at work."""
        found = {process.pid for process in self._world.members(title)}
        busy = [pid for _, pid, _ in self._calls(found)]
        return self._chance.choice(sorted(busy or found)) if found else None

    async def _stop(self, fault: Fault, pid: int, seconds: float) -> None:
        """Stop a process for so long; it may be gone when that is over."""
        fault.stopped, fault.detail = True, f"{seconds:.1f} s"
        fault.at = time.time()
        _kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        _kill(pid, signal.SIGCONT)

    def _pause_s(self) -> float:
        """From half a second to twice the lease, as often shorter than it as longer."""
        if self._seconds is not None:
            return self._seconds
        if self._chance.random() < 0.5:
            return self._chance.uniform(0.5, LEASE_S)
        return self._chance.uniform(LEASE_S, 2 * LEASE_S)

    async def worker(self, fault: Fault, stop: bool = False) -> None:
        pid = self._victim("ray::PoolActor")
        if pid is None:
            return
        fault.pids = (pid,)
        self._note_calls(fault, {pid})
        fault.hit = bool(fault.calls)
        if stop:
            await self._stop(fault, pid, self._pause_s())
        else:
            fault.at = time.time()
            _kill(pid, signal.SIGKILL)

    async def coordinator(self, fault: Fault, stop: bool = False) -> None:
        found = {process.pid for process in self._world.members("ray::CoordinatorActor")}
        known = sorted(found & set(self._world.coordinators))
        if not known:
            await self._world.look()
            return
        pid = self._chance.choice(known)
        owner = self._world.coordinators[pid]
        fault.pids, fault.detail = (pid,), owner
        fault.executions = await self._owned([owner])
        fault.hit = bool(fault.executions)
        if stop:
            await self._stop(fault, pid, self._pause_s())
        else:
            fault.at = time.time()
            _kill(pid, signal.SIGKILL)
        await self.until_led()

    async def until_led(self, limit_s: float = BACK_S) -> None:
        """Wait until every coordinator takes submissions."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            found = (await self._world.look()).get("coordinators", [])
            if sum(bool(each["alive"]) for each in found) == 2:
                return
            await asyncio.sleep(0.3)

    async def replica(self, fault: Fault, stop: bool = False) -> None:
        found = self._world.members("ray::ServeReplica")
        if not found:
            return
        pid = self._chance.choice(found).pid
        fault.pids, fault.hit = (pid,), self._client.open_requests > 0
        fault.detail = f"{self._client.open_requests} requests open"
        if stop:
            await self._stop(fault, pid, self._pause_s())
        else:
            fault.at = time.time()
            _kill(pid, signal.SIGKILL)
            await self._until_served()

    async def _until_served(self) -> None:
        deadline = time.monotonic() + BACK_S
        while time.monotonic() < deadline:
            if self._world.members("ray::ServeReplica"):
                return
            await asyncio.sleep(0.2)

    async def node(self, fault: Fault) -> None:
        """The raylet of the second node; Ray takes its time to say that the node is dead."""
        raylet = self._world.raylets().get(SECOND)
        if raylet is None:
            await self._world.start_second()
            return
        below = {process.pid for process in raylet.children(recursive=True)}
        owners = [own for pid, own in self._world.coordinators.items() if pid in below]
        fault.executions = await self._owned(owners) if owners else ()
        self._note_calls(fault, below)
        fault.pids = (raylet.pid, *sorted(below))
        fault.hit = bool(fault.calls or fault.executions)
        fault.at = time.time()
        _kill(raylet.pid, signal.SIGKILL)
        deadline = time.monotonic() + BACK_S
        while SECOND in (await self._world.look()).get("nodes", [SECOND]):
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.5)
        fault.hit = fault.hit or self._called(fault)
        await self._world.restart_second()
        await self.until_led()

    def _called(self, fault: Fault) -> bool:
        """Whether its processes called since: workers outlive their raylet until Ray buries the node."""
        with contextlib.closing(sqlite3.connect(self._world.ledger, timeout=10)) as database:
            rows = database.execute("SELECT pid FROM calls WHERE began > ?", (fault.at,)).fetchall()
        return bool({pid for (pid,) in rows} & set(fault.pids))

    async def system(self, fault: Fault) -> None:
        """The head's raylet, and the whole of Ray with it; then a start anew."""
        raylet = self._world.raylets().get("head")
        if raylet is None:
            return
        fault.everything, fault.executions = True, await self._owned()
        self._note_calls(fault, None)
        fault.hit = bool(fault.executions)
        fault.at = time.time()
        _kill(raylet.pid, signal.SIGKILL)
        await asyncio.sleep(1.0)
        for _ in range(3):
            try:
                await self._world.restart_system()
            except (TimeoutError, RuntimeError) as error:
                fault.detail = f"one start failed: {str(error)[-200:]}"
            else:
                break
        await self.until_led()

    # The database

    async def backend(self, fault: Fault) -> None:
        """One server process in the middle of a statement: all of them start anew."""
        fault.everything, fault.executions = True, await self._owned()
        pid = await self._busy_backend()
        self._note_calls(fault, None)
        if pid is None:
            return
        fault.hit = bool(fault.executions)
        fault.at = time.time()
        _kill(pid, signal.SIGKILL)
        await self._world.until_database(lambda: True)

    async def _busy_backend(self) -> int | None:
        statement = (
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'agentflow'"
            " AND state <> 'idle' AND pid <> pg_backend_pid()"
        )
        try:
            connection = await asyncpg.connect(self._world.dsn, timeout=5)
            try:
                for _ in range(400):
                    found = await connection.fetch(statement)
                    if found:
                        return int(found[0]["pid"])
            finally:
                await connection.close()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass  # another fault is on
        return None

    async def postmaster(self, fault: Fault) -> None:
        fault.everything, fault.executions = True, await self._owned()
        self._note_calls(fault, None)
        pid = self._world.postmaster()
        fault.pids, fault.hit = (pid,), bool(fault.executions)
        fault.at = time.time()
        _kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.2)
        await self._world.until_database(lambda: self._world.postmaster() != pid)

    # The network

    async def _network(self, fault: Fault, begin: Callable[[], None], seconds: float) -> None:
        fault.everything, fault.executions = True, await self._owned()
        self._note_calls(fault, None)
        fault.at = time.time()
        begin()
        await asyncio.sleep(seconds)
        fault.hit = bool(fault.executions) and self._world.proxy.touched > 0
        fault.detail = f"{fault.detail} {seconds:.1f} s, {self._world.proxy.touched} pieces"
        self._world.proxy.heal()

    async def delay(self, fault: Fault) -> None:
        pause = 0.3 if self._seconds else self._chance.uniform(0.02, 0.4)
        fault.detail = f"{pause * 1000:.0f} ms each way,"
        await self._network(
            fault,
            lambda: self._world.proxy.delay(pause),
            self._seconds or self._chance.uniform(2, 6),
        )

    async def cut(self, fault: Fault) -> None:
        count = int(10 ** self._chance.uniform(0, 4))
        fault.detail = f"after {count} bytes,"
        await self._network(
            fault, lambda: self._world.proxy.cut_after(count), self._chance.uniform(0.3, 1.5)
        )

    async def hole(self, fault: Fault, *ways: str) -> None:
        seconds = self._chance.choice((1, 2, 3, 5, 8, 15)) * self._chance.uniform(0.8, 1.0)
        await self._network(fault, lambda: self._world.proxy.hole(*ways), seconds)

    async def reset(self, fault: Fault) -> None:
        fault.everything, fault.executions = True, await self._owned()
        self._note_calls(fault, None)
        fault.at = time.time()
        count = self._world.proxy.reset()
        fault.hit, fault.detail = bool(fault.executions) and count > 0, f"{count} connections"


def _kill(pid: int, sign: int) -> None:
    with contextlib.suppress(ProcessLookupError, psutil.Error):
        os.kill(pid, sign)


KINDS: tuple[Kind, ...] = (
    ("worker killed", 6, lambda faults, fault: faults.worker(fault)),
    ("worker stopped", 4, lambda faults, fault: faults.worker(fault, stop=True)),
    ("coordinator killed", 6, lambda faults, fault: faults.coordinator(fault)),
    ("coordinator stopped", 6, lambda faults, fault: faults.coordinator(fault, stop=True)),
    ("API replica killed", 2, lambda faults, fault: faults.replica(fault)),
    ("API replica stopped", 1, lambda faults, fault: faults.replica(fault, stop=True)),
    ("node killed (its raylet)", 1.5, lambda faults, fault: faults.node(fault)),
    ("all of Ray killed, and restarted", 0.3, lambda faults, fault: faults.system(fault)),
    ("database process killed", 3, lambda faults, fault: faults.backend(fault)),
    ("database killed", 2, lambda faults, fault: faults.postmaster(fault)),
    ("network slow", 2, lambda faults, fault: faults.delay(fault)),
    ("connections cut after n bytes", 4, lambda faults, fault: faults.cut(fault)),
    ("network black hole", 2, lambda faults, fault: faults.hole(fault, UP, DOWN)),
    ("black hole from the database", 2, lambda faults, fault: faults.hole(fault, DOWN)),
    ("connections reset", 2, lambda faults, fault: faults.reset(fault)),
)
"""Name, weight, what is done."""
LASTING = {
    "worker stopped": 0.3,
    "coordinator stopped": 0.3,
    "network slow": 0.3,
    "network black hole": 0.3,
    "node killed (its raylet)": 1.0,
}
"""How often the next faults come while such a one lasts."""
ALONE = {"all of Ray killed, and restarted"}
"""Comes when nothing else lasts."""
