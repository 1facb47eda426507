"""Faults of a database, and of the network between it and the system.

What is done to the system's own database touches everything. What is done to the one that workflows write
to touches the executions that use it, and is no reason for a call of anybody else to be repeated.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable

import asyncpg

from tests.campaign.database import Database
from tests.campaign.faults import Fault, Faults, kill
from tests.campaign.target import BUSY

WRITING = ("db", "once db")
"""Kinds of workflows that use the other database."""
LOOK_S = 4.0
"""How long a statement that is under way is looked for."""


async def _meet(faults: Faults, fault: Fault, database: Database) -> None:
    """Note what is at work on this database now."""
    if database is faults.world.database:
        fault.everything, fault.executions = True, await faults.owned()
        faults.note_calls(fault, None)
    else:
        fault.executions = await faults.owned(kinds=WRITING)


async def backend(faults: Faults, fault: Fault, database: Database) -> None:
    """One server process in the middle of a statement: all of them start anew."""
    await _meet(faults, fault, database)
    pid = await _busy_backend(database)
    if pid is None:
        return
    fault.hit = bool(fault.executions)
    fault.at = time.time()
    kill(pid, signal.SIGKILL)
    await database.until_up(lambda: True)


async def _busy_backend(database: Database) -> int | None:
    deadline = time.monotonic() + LOOK_S
    try:
        connection = await asyncpg.connect(database.dsn, timeout=5)
        try:
            while time.monotonic() < deadline:
                if found := await connection.fetch(BUSY):
                    return int(found[0]["pid"])
        finally:
            await connection.close()
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        pass  # another fault is on
    return None


async def postmaster(faults: Faults, fault: Fault, database: Database) -> None:
    """The whole server, which is started again at once."""
    await _meet(faults, fault, database)
    pid = database.postmaster()
    if database is faults.world.database:
        fault.pids, fault.hit = (pid,), bool(fault.executions)
    else:
        fault.hit = await _busy_backend(database) is not None
    fault.at = time.time()
    kill(pid, signal.SIGKILL)
    await asyncio.sleep(0.2)
    await database.until_up(lambda: database.postmaster() != pid)


async def _network(
    faults: Faults, fault: Fault, database: Database, begin: Callable[[], None], seconds: float
) -> None:
    await _meet(faults, fault, database)
    if database is faults.world.target:
        await _busy_backend(database)
    fault.at = time.time()
    begin()
    await asyncio.sleep(seconds)
    fault.hit = bool(fault.executions) and database.proxy.touched > 0
    fault.detail = f"{fault.detail} {seconds:.1f} s, {database.proxy.touched} pieces"
    database.proxy.heal()


async def delay(faults: Faults, fault: Fault, database: Database) -> None:
    pause = faults.chance.uniform(0.02, 0.4)
    fault.detail = f"{pause * 1000:.0f} ms each way,"
    seconds = faults.chance.uniform(2, 6)
    await _network(faults, fault, database, lambda: database.proxy.delay(pause), seconds)


async def cut(faults: Faults, fault: Fault, database: Database) -> None:
    count = int(10 ** faults.chance.uniform(0, 4))
    fault.detail = f"after {count} bytes,"
    seconds = faults.chance.uniform(0.3, 1.5)
    await _network(faults, fault, database, lambda: database.proxy.cut_after(count), seconds)


async def hole(faults: Faults, fault: Fault, database: Database, *ways: str) -> None:
    seconds = faults.chance.choice((1, 2, 3, 5, 8, 15)) * faults.chance.uniform(0.8, 1.0)
    await _network(faults, fault, database, lambda: database.proxy.hole(*ways), seconds)


async def reset(faults: Faults, fault: Fault, database: Database) -> None:
    await _meet(faults, fault, database)
    fault.at = time.time()
    count = database.proxy.reset()
    fault.hit, fault.detail = bool(fault.executions) and count > 0, f"{count} connections"
