"""Deliberately broken builds, and for each a drill that makes the fault certain which shows it.

The drills are judged by the checker of the campaigns; the build as it is passes all of them. A broken
build is a copy of the product with a few texts replaced: the product itself has no switches for this.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import time
from collections.abc import Awaitable, Callable

from tests.campaign.builds import REAL, Build, Change
from tests.campaign.campaign import judged
from tests.campaign.faults import Faults
from tests.campaign.load import BACKOFF_S, Client
from tests.campaign.proxy import DOWN, UP
from tests.campaign.report import Caught
from tests.campaign.world import LEASE_S, ON_RAY, World

SETTLE_S = 60.0

Drill = Callable[[World, Client, Faults], Awaitable[None]]


async def _at_once(client: Client, kind: str, count: int) -> list[asyncio.Task[None]]:
    """So many executions, acknowledged; they are followed from then on."""
    found = await asyncio.gather(*(client.execute(kind) for _ in range(count)))
    return [asyncio.create_task(client.follow(execution)) for execution in found]


async def _ended(following: list[asyncio.Task[None]]) -> None:
    done, late = await asyncio.wait(following, timeout=SETTLE_S)
    for task in late:
        task.cancel()
    for task in done:
        task.result()


async def owner_stopped_while_steps_wait(world: World, client: Client, faults: Faults) -> None:
    """Steps wait to be tried again; their owner is stopped and loses them, and is back before they are
    due. Then the new owner is stopped for a moment: whoever goes on with them has no right to."""
    following = await _at_once(client, "backoff", 12)
    while len(failed := _failed(world)) < 12:
        await asyncio.sleep(0.2)
    fault = await faults.do("coordinator stopped", 2 * LEASE_S)
    others = [pid for pid in world.coordinators if pid not in fault.pids]
    last = max(failed) + BACKOFF_S
    await asyncio.sleep(max(0.0, last - 2.5 - time.time()))
    for sign in (signal.SIGSTOP, signal.SIGCONT):
        for pid in others:
            os.kill(pid, sign)
        await asyncio.sleep(3.2)
    await _ended(following)


def _failed(world: World) -> list[float]:
    """When the provider answered 500 to the step that is to be tried again."""
    with contextlib.closing(sqlite3.connect(world.ledger, timeout=10)) as database:
        rows = database.execute("SELECT ended FROM calls WHERE step = 'stubborn' AND status = 500")
        return [row[0] for row in rows]


async def retried_after_a_failure(world: World, client: Client, faults: Faults) -> None:
    """The first answer of a step is 500, so it is called again."""
    await _ended(await _at_once(client, "stubborn", 6))


async def slow_database(world: World, client: Client, faults: Faults) -> None:
    """Commits take a while, so that what leaves before them is seen."""
    slow = asyncio.create_task(faults.do("network slow", 4.0))
    await asyncio.sleep(0.2)
    following = await _at_once(client, "chain", 8) + await _at_once(client, "relaxed once", 8)
    await _ended([*following, asyncio.create_task(_whole(slow))])


async def _whole(task: asyncio.Task[object]) -> None:
    await task


async def owner_killed_while_calls_run(world: World, client: Client, faults: Faults) -> None:
    """The workers live on; what they do is to be adopted."""
    following = await _at_once(client, "patient", 12)
    await asyncio.sleep(3.0)
    await faults.do("coordinator killed")
    await _ended(following)


async def large_results(world: World, client: Client, faults: Faults) -> None:
    await _ended(await _at_once(client, "large", 4))


async def killed_before_the_commit(world: World, client: Client, faults: Faults) -> None:
    """Nothing reaches the database; then every coordinator is killed. Nobody may have been told that
    an execution is accepted."""
    await _ended(await _at_once(client, "chain", 2))
    world.proxy.hole(UP, DOWN)
    asking = [asyncio.create_task(client.execute("chain")) for _ in range(4)]
    await asyncio.wait(asking, timeout=3.0)
    for pid in list(world.coordinators):
        os.kill(pid, signal.SIGKILL)
    world.proxy.heal()
    await faults.until_led()
    await _ended([asyncio.create_task(client.follow(await task)) for task in asking])


DRILLS: dict[str, Drill] = {
    "fencing": owner_stopped_while_steps_wait,
    "key": retried_after_a_failure,
    "commit": slow_database,
    "adoption": owner_killed_while_calls_run,
    "blob": large_results,
    "acknowledgement": killed_before_the_commit,
}

STATEMENTS = "agentflow/store/statements.py"
BROKEN = (
    Build(
        "fencing off",
        (
            Change(
                STATEMENTS,
                "     WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2\n"
                "     ORDER BY e.execution_id FOR NO KEY UPDATE OF e),\nwritten",
                "     WHERE e.execution_id = ANY($3::uuid[])\n"
                "     ORDER BY e.execution_id FOR NO KEY UPDATE OF e),\nwritten",
            ),
            Change(
                STATEMENTS,
                " WHERE e.execution_id = ANY($3::uuid[]) AND e.owner = $1 AND e.owner_epoch = $2\n"
                "   AND c.epoch = $2 AND c.lease_until > clock_timestamp()",
                " WHERE e.execution_id = ANY($3::uuid[]) AND $1::text IS NOT NULL\n"
                "   AND $2::bigint IS NOT NULL",
            ),
        ),
        "fencing",
        ("only the owner writes",),
    ),
    Build(
        "key not stable (the attempt is in it)",
        (
            Change(
                "agentflow/nodes/base.py",
                "self.tenant, self.execution_id, self.step, call_index, self.generation",
                "self.tenant, self.execution_id, self.step, self.attempt, self.generation",
            ),
        ),
        "key",
        ("one key per step",),
    ),
    Build(
        "dispatch before commit",
        (
            Change(
                "agentflow/engine/scheduler.py",
                "early, effects = owned.durability.split(effects, self._may_lead())",
                "early, effects = effects, []",
            ),
        ),
        "commit",
        ("commit before call",),
    ),
    Build(
        "intent of a once step after its effect",
        (
            Change(
                "agentflow/engine/durability.py",
                '.effects == "once":\n                later.append(effect)',
                '.effects == "once":\n                early.append(effect)',
            ),
        ),
        "commit",
        ("commit before call",),
    ),
    Build(
        "adoption off",
        (
            Change(
                "agentflow/distributed/dispatch.py",
                "return frozenset(attempt_id for adopted in found for attempt_id in adopted)",
                "return frozenset()",
            ),
        ),
        "adoption",
        ("what a living worker does is adopted",),
    ),
    Build(
        "blob after its completion",
        (
            Change(
                "agentflow/store/sealing.py",
                "            await self._put({blob: blobs[blob] for blob in new})\n",
                "            put = self._put({blob: blobs[blob] for blob in new})\n"
                "            later = asyncio.get_running_loop().call_later\n"
                "            later(0.5, asyncio.ensure_future, put)\n",
            ),
        ),
        "blob",
        ("a large value is there before its name",),
    ),
    Build(
        "acknowledged before commit",
        (
            Change(
                "agentflow/engine/scheduler.py",
                "await asyncio.shield(durable)",
                "await asyncio.sleep(0)",
            ),
        ),
        "acknowledgement",
        ("what was acknowledged is kept, and ends",),
    ),
)


async def drill(
    build: Build,
    *names: str,
    system: str = ON_RAY,
    say: Callable[[str], None] = lambda _: None,
) -> Caught:
    """A world of this build goes through drills: its own, or those that are named."""
    began = time.monotonic()
    world = World(build, seed=7, nodes=1, system=system)
    try:
        await world.open()
        client = Client(lambda: world.url, world.provider, world.folder / "notes.db", 7, 0)
        faults = Faults(world, client, world.folder / "faults.jsonl", random.Random(7), say)
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
