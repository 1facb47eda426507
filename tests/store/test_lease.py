"""The keeper of a lease, over the real store: in its own thread, honest about a loss."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from agentflow.engine.lease import LeaseKeeper
from agentflow.store.journal import PostgresJournal
from agentflow.store.leases import epoch_of, heartbeat
from tests.store.samples import accept

LEASE_S = 1.0


class _Signal:
    """Set from another thread, waited for on the loop."""

    def __init__(self):
        self.loop, self.event, self.value = asyncio.get_running_loop(), asyncio.Event(), None

    def __call__(self, value=None):
        self.value = value
        self.loop.call_soon_threadsafe(self.event.set)

    async def wait(self, timeout_s=10):
        await asyncio.wait_for(self.event.wait(), timeout_s)
        return self.value


@pytest.fixture
def keepers():
    made = []

    def make(dsn, name, lease_s=LEASE_S, **options):
        options.setdefault("heartbeat_s", lease_s / 4)
        keeper = LeaseKeeper(heartbeat(dsn, name, lease_s), lease_s=lease_s, **options)
        made.append(keeper)
        return keeper

    yield make
    for keeper in made:
        keeper.stop()


async def test_keeper_renews_while_the_loop_is_busy(dsn, pool, keepers):
    journal, lost = PostgresJournal(pool, "c/0", LEASE_S), _Signal()
    keeper = keepers(dsn, "c/0")
    keeper.start(await journal.enter(), lost)
    busy_until = time.monotonic() + 2 * LEASE_S
    while time.monotonic() < busy_until:
        pass
    assert keeper.held and not lost.event.is_set()
    alive = "SELECT lease_until > clock_timestamp() FROM coordinators WHERE id = 'c/0'"
    assert await pool.fetchval(alive)


async def test_keeper_tells_once_when_the_lease_was_taken(dsn, pool, keepers):
    journal, lost = PostgresJournal(pool, "c/0", LEASE_S), _Signal()
    keeper = keepers(dsn, "c/0")
    keeper.start(await journal.enter(), lost)
    assert keeper.held
    await pool.execute("UPDATE coordinators SET epoch = epoch + 1")
    await lost.wait()
    assert not keeper.held
    lost.event.clear()
    keeper.start(await journal.enter(), lost)
    assert keeper.held
    keeper.stop()
    assert not keeper.held
    keeper.stop()
    await asyncio.sleep(0)
    assert not lost.event.is_set()


async def test_keeper_stops_in_time_when_the_store_is_away(pool, dsn, keepers):
    lost, began = _Signal(), time.monotonic()
    keeper = keepers(dsn.replace("127.0.0.1", "127.0.0.2"), "c/0")
    keeper.start(1, lost)
    await lost.wait()
    assert LEASE_S / 2 < time.monotonic() - began < LEASE_S
    assert not keeper.held


async def test_keeper_stops_in_time_when_the_store_is_silent(keepers):
    lost, began = _Signal(), time.monotonic()

    async def say_nothing(reader, writer):
        await reader.read()
        writer.close()

    deaf = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = deaf.sockets[0].getsockname()[1]
    keeper = keepers(f"postgresql://a:b@127.0.0.1:{port}/c", "c/0")
    keeper.start(1, lost)
    await lost.wait()
    assert time.monotonic() - began < LEASE_S
    keeper.stop()
    deaf.close()


async def test_keeper_buries_the_dead_whose_executions_can_then_be_claimed(
    dsn, pool, keepers, new_submission
):
    dead, one = PostgresJournal(pool, "c/0", LEASE_S), new_submission()
    await dead.enter()
    await dead.append([accept(one)])
    heir, buried = PostgresJournal(pool, "c/1", LEASE_S), _Signal()
    keeper = keepers(dsn, "c/1", on_buried=buried, sweep_s=0.05)
    keeper.start(await heir.enter(), _Signal())
    assert await heir.claim(10) == []
    assert await buried.wait() == ["c/0"]
    assert [claimed.execution_id for claimed in await heir.claim(10)] == [one.execution_id]


async def test_keeper_buries_nobody_before_it_was_alive_for_a_whole_lease(dsn, pool, keepers):
    """After an outage of the store every lease has lapsed: that proves nobody's death."""
    neighbour = PostgresJournal(pool, "c/0", LEASE_S)
    seen = await neighbour.enter()
    await pool.execute("UPDATE coordinators SET lease_until = clock_timestamp()")
    journal, buried = PostgresJournal(pool, "c/1", LEASE_S), _Signal()
    began, keeper = time.monotonic(), keepers(dsn, "c/1", on_buried=buried, sweep_s=0.02)
    keeper.start(await journal.enter(), _Signal())
    assert await epoch_of(pool, "c/0") == seen
    await buried.wait()
    assert time.monotonic() - began >= LEASE_S


async def test_keeper_can_be_stopped_by_the_one_it_tells(dsn, pool, keepers):
    done = threading.Event()
    keeper = keepers(dsn, "c/0")

    def on_lost():
        keeper.stop()
        done.set()

    keeper.start(99, on_lost)
    assert await asyncio.to_thread(done.wait, 10)
    assert not keeper.held


async def test_keeper_buries_at_once_whose_session_is_gone(dsn, pool, keepers, new_submission):
    """The lease would run on for a minute."""
    dead, one = PostgresJournal(pool, "c/0", 60), new_submission()
    keeper = keepers(dsn, "c/0", lease_s=60)
    keeper.start(await dead.enter(), _Signal())
    await dead.append([accept(one)])
    heir, buried = PostgresJournal(pool, "c/1", 60), _Signal()
    keepers(dsn, "c/1", lease_s=60, on_buried=buried).start(await heir.enter(), _Signal())
    await _eventually(pool, "SELECT guarded = epoch FROM coordinators WHERE id = 'c/0'")
    assert await heir.claim(10) == []
    keeper.stop()
    assert await buried.wait() == ["c/0"]
    assert [claimed.execution_id for claimed in await heir.claim(10)] == [one.execution_id]


async def test_coordinator_that_holds_no_session_yet_is_not_missed(dsn, pool):
    await PostgresJournal(pool, "c/0", 60).enter()
    watcher = heartbeat(dsn, "c/1", 60)
    await watcher.renew(await PostgresJournal(pool, "c/1", 60).enter())
    async with asyncio.timeout(10):
        while not await pool.fetchval(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        ) or not await watcher.rest(1.1):
            await asyncio.sleep(0)
    assert await watcher.missing() == {}
    await watcher.close()


async def test_keeper_whose_session_breaks_has_another_at_once(dsn, pool, keepers):
    """Long before its next heartbeat: nobody may take it for dead."""
    lost, journal = _Signal(), PostgresJournal(pool, "c/0", 60)
    keeper = keepers(dsn, "c/0", lease_s=60)
    keeper.start(await journal.enter(), lost)
    holder = "SELECT max(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> $1"
    first = await _eventually(pool, holder, 0)
    await pool.execute("SELECT pg_terminate_backend($1)", first)
    assert await _eventually(pool, holder, first) != first
    assert keeper.held and not lost.event.is_set()


async def _eventually(pool, query, *values):
    """The first answer that is true, of what another thread brings about."""
    async with asyncio.timeout(10):
        while not (found := await pool.fetchval(query, *values)):
            await asyncio.sleep(0.01)
    return found
