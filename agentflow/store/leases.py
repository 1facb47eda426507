"""The lease of a coordinator, renewed on a connection of its own, and the burial of the dead.

A lapsed lease is never revived: its holder enters again, with a new epoch. Burying raises the epoch,
which fences the buried one before its executions are given away, so a wrong verdict does no harm.
"""

from __future__ import annotations

import asyncpg

from agentflow.store.pool import connect, unavailable

_RENEW = """
UPDATE coordinators SET lease_until = clock_timestamp() + make_interval(secs => $3)
 WHERE id = $1 AND epoch = $2 AND lease_until > clock_timestamp() RETURNING epoch"""

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

    async def renew(self, epoch: int) -> bool:
        """See the contract. Raises StoreUnavailable."""
        return bool(await self._fetch(_RENEW, self._me, epoch, self._lease_s))

    async def bury(self) -> list[str]:
        """See the contract. Raises StoreUnavailable."""
        return [row["id"] for row in await self._fetch(_BURY, self._me)]

    async def close(self) -> None:
        """Drop the connection; the lease runs on until its end."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._dsn, timeout_s=max(1.0, self._lease_s / 2))
        try:
            with unavailable():
                return await self._connection.fetch(statement, *values)
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
