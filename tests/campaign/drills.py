"""For each deliberately broken build a drill that makes the fault certain which shows it.

The drills are judged by the checker of the campaigns; the build as it is passes all of them. They wait for
what happens, not for a while: a step was called, an append is held, an execution has a new owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import httpx2

from tests.campaign.builds import BROKEN, REAL, Build
from tests.campaign.campaign import judged
from tests.campaign.faults import Faults
from tests.campaign.kinds import KINDS
from tests.campaign.load import Client
from tests.campaign.proxy import DOWN, UP
from tests.campaign.report import Caught
from tests.campaign.workflows import BACKOFF_S
from tests.campaign.world import ALONE, LEASE_S, ON_RAY, World

SETTLE_S = 60.0
LOST_S = 20.0
"""How long what may be lost is waited for."""
NOTHING_S = 4.0
"""How long something is waited for that must not happen."""

Drill = Callable[[World, Client, Faults], Awaitable[None]]


async def _at_once(client: Client, kind: str, count: int) -> list[asyncio.Task[None]]:
    """So many executions, acknowledged; they are followed from then on."""
    found = await asyncio.gather(*(client.execute(kind) for _ in range(count)))
    return [asyncio.create_task(client.follow(execution)) for execution in found]


async def _ended(following: list[asyncio.Task[None]], limit_s: float = SETTLE_S) -> None:
    done, late = await asyncio.wait(following, timeout=limit_s)
    for task in late:
        task.cancel()
    for task in done:
        task.result()


async def _control(world: World, what: str, **body: object) -> int:
    async with httpx2.AsyncClient(timeout=SETTLE_S + 10) as http:
        answer = await http.post(f"{world.provider.removesuffix('/v1')}/control/{what}", json=body)
        return int(answer.json()["count"])


async def _called(world: World, step: str, count: int = 0, limit_s: float = SETTLE_S) -> int:
    """Wait until a step was called so often in this world; how often it was."""
    return await _control(world, "called", step=step, count=count, limit_s=limit_s)


@contextlib.asynccontextmanager
async def _locked(world: World, statement: str, *values: object) -> AsyncIterator[None]:
    """Hold a lock in the database of the system."""
    connection = await asyncpg.connect(world.database.dsn)
    try:
        async with connection.transaction():
            await connection.execute(statement, *values)
            yield
    finally:
        await connection.close()


NO_APPENDS = "LOCK TABLE journal IN SHARE MODE"
HELD_APPEND = (
    "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'journal'::regclass AND NOT granted"
)
LED = """
SELECT count(*) = 0 FROM executions e WHERE status = 'running' AND NOT EXISTS (
    SELECT 1 FROM coordinators c
     WHERE c.id = e.owner AND c.epoch = e.owner_epoch AND c.lease_until > clock_timestamp())"""
WAITS = "SELECT status = 'waiting' FROM executions WHERE execution_id = $1"
HELD_ANSWERS = "SELECT count(*) >= $1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
LEASES = """
SELECT count(*) = 0 FROM coordinators WHERE id = ANY($1) AND lease_until > clock_timestamp()"""


def _key(execution: str) -> str:
    return execution.partition("_")[2]


async def owner_stopped_while_steps_wait(world: World, client: Client, faults: Faults) -> None:
    """Steps wait to be tried again; their owner is stopped and loses them, and is back before they are
    due. Then the new owner is stopped, for as long as it holds its lease: whoever goes on with them
    meanwhile has no right to."""
    before = await _called(world, "stubborn")
    following = await _at_once(client, "backoff", 12)
    await _called(world, "stubborn", before + 12)
    fault = await faults.do("coordinator stopped", 2 * LEASE_S)
    others = {pid: name for pid, name in world.coordinators.items() if pid not in fault.pids}
    due = max(_failed(world)) + BACKOFF_S - LEASE_S / 2
    await asyncio.sleep(max(0.0, due - time.time()))
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    again = asyncio.create_task(_called(world, "stubborn", before + 24, NOTHING_S))
    expired = asyncio.create_task(world.database.until(LEASES, list(others.values())))
    await asyncio.wait({again, expired}, return_when=asyncio.FIRST_COMPLETED)
    for pid in others:
        os.kill(pid, signal.SIGCONT)
    await asyncio.gather(again, expired)
    await _ended(following)


def _failed(world: World) -> list[float]:
    """When the provider answered 500 to the step that is to be tried again."""
    with contextlib.closing(sqlite3.connect(world.ledger, timeout=10)) as database:
        rows = database.execute("SELECT began FROM calls WHERE step = 'stubborn'")
        return [row[0] for row in rows]


async def retried_after_a_failure(world: World, client: Client, faults: Faults) -> None:
    """The first answer of a step is 500, so it is called again."""
    await _ended(await _at_once(client, "stubborn", 6))


async def unheard_by_the_caller(world: World, client: Client, faults: Faults) -> None:
    """The service does what it is asked for, and ends the connection without an answer."""
    following = await _at_once(client, "stubborn http", 4)
    await _ended(following + await _at_once(client, "stubborn once", 4))


async def no_commits(world: World, client: Client, faults: Faults) -> None:
    """Calls are answered while nothing can be appended: what leaves before its commit is seen."""
    await _control(world, "hold")
    before = {step: await _called(world, step) for step in ("held", "b", "once")}
    following = await _at_once(client, "held", 4) + await _at_once(client, "relaxed held once", 4)
    await _called(world, "held", before["held"] + 8)
    async with _locked(world, NO_APPENDS):
        await _control(world, "open")
        early = {
            asyncio.create_task(_called(world, step, before[step] + 1, NOTHING_S))
            for step in ("b", "once")
        }
        await asyncio.wait(early, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(*early)
    await _ended(following)


async def owner_killed_while_calls_run(world: World, client: Client, faults: Faults) -> None:
    """The workers live on; what they do is to be adopted."""
    await _control(world, "hold")
    before = await _called(world, "held")
    following = await _at_once(client, "held", 12)
    await _called(world, "held", before + 12)
    await faults.do("coordinator killed")
    await world.database.until(LED)
    await _called(world, "held", before + 13, NOTHING_S)
    await _control(world, "open")
    await _ended(following)


async def large_results(world: World, client: Client, faults: Faults) -> None:
    await _ended(await _at_once(client, "large", 4))


async def killed_before_the_commit(world: World, client: Client, faults: Faults) -> None:
    """Nothing reaches the database; then every coordinator is killed. Nobody may have been told that
    an execution is accepted."""
    await _ended(await _at_once(client, "chain", 2))
    world.database.proxy.hole(UP, DOWN)
    asking = [asyncio.create_task(client.execute("chain")) for _ in range(4)]
    await asyncio.wait(asking, timeout=NOTHING_S, return_when=asyncio.FIRST_COMPLETED)
    _kill_coordinators(world)
    world.database.proxy.heal()
    await faults.until_led()
    await _ended([asyncio.create_task(client.follow(await task)) for task in asking], LOST_S)


def _kill_coordinators(world: World) -> None:
    for pid in world.coordinators:
        os.kill(pid, signal.SIGKILL)


async def commits_of_writes_cut(world: World, client: Client, faults: Faults) -> None:
    """The connection ends where a write is committed: after it, so that nobody hears of it, or before."""
    for passes in (True, False):
        world.target.proxy.cut_at(b"COMMIT;", 4, passes)
        await _ended(await _at_once(client, "db", 4))
        world.target.proxy.heal()


async def _waiting(world: World, client: Client) -> str:
    """An execution that waits for an answer."""
    execution = await client.execute("human")
    await world.database.until(WAITS, _key(execution))
    return execution


async def owner_killed_with_an_answer(world: World, client: Client, faults: Faults) -> None:
    """An answer is acknowledged; its owner has read it, and is killed before it can write it down."""
    execution = await _waiting(world, client)
    async with _locked(world, NO_APPENDS):
        while await client.answer(execution, "ask") != 200:
            pass
        await world.database.until(HELD_APPEND)
        _kill_coordinators(world)
    await faults.until_led()
    await _ended([asyncio.create_task(client.watch(execution))], LOST_S)


async def answers_at_once(world: World, client: Client, faults: Faults) -> None:
    """Four answers have found the wait open before one of them is taken."""
    execution = await _waiting(world, client)
    held = "SELECT 1 FROM executions WHERE execution_id = $1 FOR UPDATE"
    async with _locked(world, held, _key(execution)):
        answers = [asyncio.create_task(client.answer(execution, "ask")) for _ in range(4)]
        await world.database.until(HELD_ANSWERS, len(answers))
    await asyncio.gather(*answers)
    await _ended([asyncio.create_task(client.watch(execution))])


async def timers(world: World, client: Client, faults: Faults) -> None:
    await _ended(await _at_once(client, "timer", 4))


DRILLS: dict[str, Drill] = {
    "fencing": owner_stopped_while_steps_wait,
    "key": retried_after_a_failure,
    "unheard": unheard_by_the_caller,
    "commit": no_commits,
    "adoption": owner_killed_while_calls_run,
    "blob": large_results,
    "acknowledgement": killed_before_the_commit,
    "write": commits_of_writes_cut,
    "answer": owner_killed_with_an_answer,
    "answers": answers_at_once,
    "timer": timers,
}


async def drill(
    build: Build,
    *names: str,
    system: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Caught:
    """A world of this build goes through drills: its own, or those that are named."""
    began = time.monotonic()
    world = World(build, seed=7, nodes=1, system=system or (ALONE if build.alone else ON_RAY))
    try:
        await world.open()
        client = Client(lambda: world.url, world.provider, world.folder / "notes.db", 7, 0)
        record = world.folder / "faults.jsonl"
        faults = Faults(world, client, record, random.Random(7), KINDS, say)
        for name in names or (build.drill,):
            await DRILLS[name](world, client, faults)
        await client.settle(0.0)
        verdict = (await judged(world, faults.done, 0.0, 7, strict_adoption=True)).verdict
    finally:
        await world.close()
        world.remove()
    rules = tuple(dict.fromkeys(violation.rule for violation in verdict.violations))
    for violation in verdict.violations[:5]:
        say(f"{build.name}: {violation.rule}: {violation.what[:200]}")
    return Caught(build.name, rules, len(faults.done), time.monotonic() - began)


async def broken_builds(say: Callable[[str], None] = lambda _: None) -> list[Caught]:
    """The build as it is through every drill, then each broken one through its own."""
    found = [await drill(REAL, *DRILLS, say=say)]
    for build in BROKEN:
        found.append(await drill(build, say=say))
        say(f"{build.name}: {'; '.join(found[-1].rules) or 'NOT CAUGHT'}")
    return found
