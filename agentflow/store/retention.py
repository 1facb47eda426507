"""Erasure of executions whose time is over, and of coordinators long gone. In small batches.

An execution goes in two steps. Its row and its commands go at once, and with them everything that
anybody could ask for; what may be large (its journal, its steps, what it referred to) is noted in
``erasures`` and removed piece by piece. Ages are measured by the database's clock alone, and no lock of an
execution is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import NamedTuple

import asyncpg

from agentflow.errors import ConfigError, StoreUnavailable
from agentflow.store.blobs import BlobStore
from agentflow.store.blobs_collection import collect
from agentflow.store.cached_results import EXPIRED_ROWS, remove_expired
from agentflow.store.pool import Connection, unavailable

ROWS = 200
"""Executions that one transaction takes."""
PIECE = 5_000
"""Rows of journals, and of steps, that one transaction removes."""
ROUNDS = 20
"""Transactions of one tick. What is left waits for the next tick."""
TICK_S = 30.0
BUSY_S = 1.0
"""The pause after a tick that left something."""
TIDY_S = 3600.0
"""How often what dead writers left in the place of blobs is looked for."""
GONE_S = 3600.0
"""How long the row of a coordinator stays after its end."""
PIECES = ("journal", "steps", "snapshots", "waits", "cached_results", "blob_uses")
"""Tables whose rows are removed piece by piece."""
ERASED = ("executions", "commands", "erasures", *PIECES)
"""Every table with rows of an execution."""

log = logging.getLogger(__name__)

_LOCK = 0x6166726574
"""Advisory lock of the database: one coordinator erases at a time, the others do not wait for it."""

# An index probe for each number of days that is in use, then the oldest of each, until there are enough.
EXPIRE = """
WITH RECURSIVE terms AS (
    (SELECT retention_days AS days FROM executions
      WHERE status IN ('completed', 'failed', 'cancelled', 'timed_out')
      ORDER BY retention_days LIMIT 1)
    UNION ALL
    SELECT further.days FROM terms t, LATERAL (
        SELECT e.retention_days AS days FROM executions e
         WHERE e.status IN ('completed', 'failed', 'cancelled', 'timed_out')
           AND e.retention_days > t.days
         ORDER BY e.retention_days LIMIT 1) AS further),
due AS MATERIALIZED (
    SELECT old.execution_id FROM terms t, LATERAL (
        SELECT e.execution_id FROM executions e
         WHERE e.status IN ('completed', 'failed', 'cancelled', 'timed_out')
           AND e.retention_days = t.days
           AND coalesce(e.ended_at, e.completed_at)
               < clock_timestamp() - make_interval(days => least(t.days, $1::int))
         ORDER BY e.retention_days, coalesce(e.ended_at, e.completed_at) LIMIT $2
           FOR UPDATE SKIP LOCKED) AS old
     LIMIT $2),
asked AS (
    DELETE FROM commands WHERE execution_id = ANY(ARRAY(SELECT execution_id FROM due))),
gone AS (
    DELETE FROM executions WHERE execution_id = ANY(ARRAY(SELECT execution_id FROM due))
    RETURNING execution_id, tenant_id)
INSERT INTO erasures (execution_id, tenant_id) SELECT execution_id, tenant_id FROM gone
RETURNING execution_id"""

_PIECE = """
WITH piece AS MATERIALIZED (
    SELECT found.ctid FROM erasures e, LATERAL (
        SELECT r.ctid FROM {table} r WHERE r.execution_id = e.execution_id LIMIT $1 {lock}) AS found
     LIMIT $1),
gone AS (DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM piece)) RETURNING 1)
SELECT count(*) FROM gone"""
"""Rows of an erased execution change no more, so their places (ctid) are theirs. But for results, which
others may keep anew: those that somebody has locked are left to the next time."""
_LOCKS = {"cached_results": "FOR UPDATE SKIP LOCKED"}

_LOOSEN = """
WITH piece AS MATERIALIZED (
    SELECT found.ctid FROM erasures e, LATERAL (
        SELECT r.ctid FROM blob_uses r WHERE r.execution_id = e.execution_id LIMIT $1) AS found
     LIMIT $1),
gone AS (DELETE FROM blob_uses WHERE ctid = ANY(ARRAY(SELECT ctid FROM piece))
         RETURNING tenant_id, sha256),
held AS MATERIALIZED (
    SELECT b.tenant_id, b.sha256 FROM blobs b
     WHERE (b.tenant_id, b.sha256) IN (SELECT tenant_id, sha256 FROM gone)
     ORDER BY b.tenant_id, b.sha256 FOR NO KEY UPDATE),
loosened AS (
    UPDATE blobs b SET look_at = least(b.look_at, clock_timestamp()) FROM held
     WHERE b.tenant_id = held.tenant_id AND b.sha256 = held.sha256)
SELECT count(*) FROM gone"""
"""The collector looks at once at what an erased execution referred to."""

# Scalar queries, here and below, because each is one index probe; an anti-join may read the whole table.
_DONE = """
DELETE FROM erasures e
 WHERE (SELECT 1 FROM journal j WHERE j.execution_id = e.execution_id LIMIT 1) IS NULL
   AND (SELECT 1 FROM steps s WHERE s.execution_id = e.execution_id LIMIT 1) IS NULL
   AND (SELECT 1 FROM snapshots s WHERE s.execution_id = e.execution_id LIMIT 1) IS NULL
   AND (SELECT 1 FROM waits w WHERE w.execution_id = e.execution_id LIMIT 1) IS NULL
   AND (SELECT 1 FROM cached_results r WHERE r.execution_id = e.execution_id LIMIT 1) IS NULL
   AND (SELECT 1 FROM blob_uses u WHERE u.execution_id = e.execution_id LIMIT 1) IS NULL"""

_GONE = """
DELETE FROM coordinators WHERE id IN (
    SELECT c.id FROM coordinators c
     WHERE c.lease_until < clock_timestamp() - make_interval(secs => $1)
       AND coalesce(c.ended_at, c.lease_until) < clock_timestamp() - make_interval(secs => $1)
       AND (SELECT 1 FROM executions e
             WHERE e.owner = c.id AND e.status IN ('pending', 'running', 'waiting') LIMIT 1) IS NULL
     LIMIT $2 FOR UPDATE OF c SKIP LOCKED)
RETURNING id"""


class Erased(NamedTuple):
    """How many executions went, and whether there is more to do at once."""

    executions: int
    more: bool


async def erase(pool: asyncpg.Pool, cap_days: int | None = None, rounds: int = ROUNDS) -> Erased:
    """Erase what is due, in at most ``rounds`` small transactions.

    ``cap_days``: nothing is kept longer after its end, whatever its workflow says. What another
    coordinator is erasing is left to it. Raises StoreUnavailable.
    """
    erased = 0
    with unavailable():
        async with pool.acquire() as connection:
            for _ in range(rounds):
                gone = await _round(connection, cap_days)
                if gone is None:
                    return Erased(erased, more=False)
                erased += gone
    return Erased(erased, more=True)


async def _round(connection: Connection, cap_days: int | None) -> int | None:
    """One transaction; None when nothing is left to do, or somebody else does it."""
    async with connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
            return None
        if await _remove_pieces(connection):
            return 0
        cap = 2**31 - 1 if cap_days is None else cap_days
        gone = await connection.fetch(EXPIRE, cap, ROWS)
        return len(gone) or None


async def _remove_pieces(connection: Connection) -> bool:
    """A piece of what erased executions have left; whether there was any."""
    if not await connection.fetchval("SELECT EXISTS (SELECT 1 FROM erasures)"):
        return False
    removed = [
        await connection.fetchval(
            _LOOSEN
            if table == "blob_uses"
            else _PIECE.format(table=table, lock=_LOCKS.get(table, "")),
            PIECE,
        )
        for table in PIECES
    ]
    if max(removed) < PIECE:
        await connection.execute(_DONE)
    return True


async def forget_coordinators(pool: asyncpg.Pool, gone_s: float = GONE_S) -> list[str]:
    """Remove rows of coordinators whose lease ended ``gone_s`` seconds ago and which own nothing; their
    ids. Raises StoreUnavailable."""
    with unavailable():
        return [row["id"] for row in await pool.fetch(_GONE, gone_s, ROWS)]


class Housekeeping:
    """Does both from time to time, in a task of its own, on the pool that it is given, removes results
    that nobody may reuse any more, collects the blobs that nothing refers to, and has their place tidied
    up every ``tidy_s`` seconds.

    ``erasing``: False keeps every execution for ever.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        cap_days: int | None = None,
        *,
        blobs: BlobStore,
        erasing: bool = True,
        tick_s: float = TICK_S,
        tidy_s: float = TIDY_S,
    ) -> None:
        self._pool, self._cap_days, self._erasing = pool, cap_days, erasing
        self._blobs, self._tick_s, self._tidy_s = blobs, tick_s, tidy_s
        self._tidied = time.monotonic()
        self._task = asyncio.create_task(self._live(), name="housekeeping")

    async def close(self) -> None:
        """Stop; what is half done is rolled back, and done by the next coordinator."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _live(self) -> None:
        more = False
        while True:
            # Coordinators that start together do not all come at the same moment.
            await asyncio.sleep(BUSY_S if more else self._tick_s * random.uniform(0.5, 1.0))
            try:
                more = await self._tick()
            except (StoreUnavailable, ConfigError) as error:  # the database, or the place of blobs
                more = False
                log.warning("erasing_put_off", extra={"reason": error.message})
            except asyncpg.PostgresError:
                more = False
                log.exception("erasing_failed")

    async def _tick(self) -> bool:
        """Whether there is more to do at once."""
        erased = Erased(0, more=False)
        if self._erasing:
            erased = await erase(self._pool, self._cap_days)
        gone = await forget_coordinators(self._pool)
        results = await remove_expired(self._pool)
        blobs = await collect(self._pool, self._blobs)
        if erased.executions or gone or results or blobs:
            counts = {"executions": erased.executions, "coordinators": len(gone)}
            log.info("erased", extra={**counts, "results": results, "blobs": blobs})
        if time.monotonic() - self._tidied >= self._tidy_s:
            self._tidied = time.monotonic()
            await self._blobs.check()
        return erased.more or results == EXPIRED_ROWS
