"""The lease of a coordinator, renewed on a connection of its own, and the burial of the dead.

A lapsed lease is never revived: its holder enters again, with a new epoch. Burying raises the epoch,
which fences the buried one before its executions are given away, so a wrong verdict does no harm.

The connection of the lease also holds a lock of the coordinator and its epoch. The server frees it the
moment the process is gone, which tells the others long before the lease ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import asyncpg

from agentflow.errors import StoreUnavailable
from agentflow.store.pool import connect, unavailable

SETTLED_S = 1.0
"""How long a connection must have stood before the absence of others proves anything: after the server
was away everybody's session is gone, and all come back within that time."""
_LOCK_WAIT = "SET LOCAL lock_timeout = '300ms'"
"""Others look at the lock for less than a millisecond; what lasts is a former session of our own."""

_RENEW = """
UPDATE coordinators SET lease_until = clock_timestamp() + make_interval(secs => $3),
       guarded = CASE WHEN $4 THEN epoch END
 WHERE id = $1 AND epoch = $2 AND lease_until > clock_timestamp() RETURNING epoch"""

_GUARD = "SELECT pg_advisory_lock(hashtextextended($1::text || ' ' || $2::bigint, 0))"

# Only for those that said they hold the lock; one that has just entered does not yet.
_MISSING = """
WITH guarded AS MATERIALIZED (
    SELECT id, epoch FROM coordinators
     WHERE guarded = epoch AND lease_until > '-infinity' AND id <> $1)
SELECT id, epoch FROM guarded
 WHERE pg_try_advisory_xact_lock_shared(hashtextextended(id || ' ' || epoch, 0))"""

_BURY = """
UPDATE coordinators SET epoch = epoch + 1, lease_until = '-infinity', ended_at = clock_timestamp()
 WHERE id IN (
    SELECT id FROM coordinators
     WHERE lease_until < clock_timestamp() AND lease_until > '-infinity' AND id <> $1
       FOR UPDATE SKIP LOCKED)
RETURNING id"""

_BURY_EARLY = """
UPDATE coordinators SET epoch = epoch + 1, lease_until = '-infinity', ended_at = clock_timestamp()
 WHERE id = $1 AND epoch = $2 AND lease_until > '-infinity' RETURNING epoch"""


class PostgresHeartbeat:
    """See engine.lease.Heartbeat. Used by one event loop alone; it connects when it must."""

    def __init__(self, dsn: str, coordinator_id: str, lease_s: float) -> None:
        self._dsn, self._me, self._lease_s = dsn, coordinator_id, lease_s
        self._connection: asyncpg.Connection | None = None
        self._since = 0.0
        self._broken = asyncio.Event()
        self._guarded: int | None = None

    async def renew(self, epoch: int) -> bool:
        """See the contract. Raises StoreUnavailable."""
        await self._guard(epoch)
        guarded = self._guarded == epoch
        return bool(await self._fetch(_RENEW, self._me, epoch, self._lease_s, guarded))

    async def bury(self) -> list[str]:
        """See the contract. Raises StoreUnavailable."""
        return [row["id"] for row in await self._fetch(_BURY, self._me)]

    async def missing(self) -> dict[str, int]:
        """See the contract. Raises StoreUnavailable."""
        if self._connection is None or time.monotonic() - self._since < SETTLED_S:
            return {}
        return {row["id"]: row["epoch"] for row in await self._fetch(_MISSING, self._me)}

    async def bury_early(self, dead: Mapping[str, int]) -> list[str]:
        """See the contract. Raises StoreUnavailable."""
        return [each for each in dead if await self._fetch(_BURY_EARLY, each, dead[each])]

    async def rest(self, seconds: float) -> bool:
        """See the contract."""
        try:
            async with asyncio.timeout(seconds):
                await self._broken.wait()
        except TimeoutError:
            return True
        await asyncio.sleep(min(seconds, 0.01))  # where the server is away, so is the next one
        return False

    async def close(self) -> None:
        """Drop the connection, and with it the lock; the lease runs on until its end."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = self._guarded = None

    async def _guard(self, epoch: int) -> None:
        """Hold the lock of this epoch, if it can be had: without it only the end of the lease tells."""
        connection = await self._connected()
        if self._guarded == epoch:
            return
        self._guarded = None
        try:
            with unavailable():
                async with connection.transaction():
                    await connection.execute(_LOCK_WAIT)
                    await connection.execute(_GUARD, self._me, epoch)
            self._guarded = epoch
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, asyncpg.LockNotAvailableError):
                await self.close()
                raise
        except BaseException:
            await self.close()
            raise

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            broken = self._broken = asyncio.Event()
            self._guarded = None
            self._connection = await connect(self._dsn, timeout_s=max(1.0, self._lease_s / 2))
            self._connection.add_termination_listener(lambda _: broken.set())
            self._since = time.monotonic()
        return self._connection

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        connection = await self._connected()
        try:
            with unavailable():
                return await connection.fetch(statement, *values)
        except BaseException:
            # Cut short, or the server is gone: nobody knows what this connection still waits for.
            await self.close()
            raise


def heartbeat(dsn: str, coordinator_id: str, lease_s: float) -> PostgresHeartbeat:
    """What a LeaseKeeper needs of the store. Connects at its first use."""
    return PostgresHeartbeat(dsn, coordinator_id, lease_s)


async def epoch_of(pool: asyncpg.Pool, coordinator_id: str) -> int | None:
    """The present epoch of a coordinator; None when it never entered. Raises StoreUnavailable."""
    with unavailable():
        epoch: int | None = await pool.fetchval(
            "SELECT epoch FROM coordinators WHERE id = $1", coordinator_id
        )
    return epoch


async def early_bury(pool: asyncpg.Pool, coordinator_id: str, seen_epoch: int) -> bool:
    """Bury a coordinator on positive evidence of its death; whether it was this epoch that died.

    ``seen_epoch`` is the epoch that the evidence is about: one that entered since is left alone.
    Raises StoreUnavailable.
    """
    with unavailable():
        return await pool.fetchval(_BURY_EARLY, coordinator_id, seen_epoch) is not None
