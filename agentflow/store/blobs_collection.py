"""Collection of blobs that nothing refers to any more, and that no writer asked for in the last hour.

It is done in two transactions. The first condemns: the blob's row becomes another one (``made``), so that
a writer that put this content long ago cannot name it without putting it again. The second proves, with
the row locked, that nobody asked for it since and that nothing names it; it removes content and row. A
writer touches the row before it puts content and locks it when it names it, so either it comes first and
the blob stays, or it waits, finds the row gone, and puts the content anew.
"""

from __future__ import annotations

import asyncio

import asyncpg

from agentflow.store.blobs import BlobStore
from agentflow.store.pool import Connection, unavailable

GRACE_S = 3600.0
"""How long content that nothing names stays after a writer asked for it."""
ROWS = 50
"""Blobs that one pair of transactions looks at."""
ROUNDS = 20
"""Pairs of one tick."""
LOCK = 0x6166626C6F62
"""Advisory lock of the database: held while blobs are collected; a backup holds it shared."""
AT_ONCE = 8

_DUE = """
SELECT tenant_id, sha256 FROM blobs WHERE look_at <= clock_timestamp()
 ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED"""

# A statement of its own, so that it sees every use that was named before the row was locked.
_JUDGE = """
UPDATE blobs b SET look_at = CASE
    WHEN EXISTS (SELECT 1 FROM blob_uses u
                  WHERE u.tenant_id = b.tenant_id AND u.sha256 = b.sha256) THEN 'infinity'
    ELSE greatest(b.touched_at + make_interval(secs => $3), clock_timestamp()) END
  FROM unnest($1::uuid[], $2::bytea[]) AS r(tenant, sha256)
 WHERE b.tenant_id = r.tenant AND b.sha256 = r.sha256
RETURNING b.tenant_id, b.sha256, b.look_at <= clock_timestamp() AS loose"""

_CONDEMN = """
UPDATE blobs b SET made = DEFAULT FROM unnest($1::uuid[], $2::bytea[]) AS r(tenant, sha256)
 WHERE b.tenant_id = r.tenant AND b.sha256 = r.sha256
RETURNING b.tenant_id, b.sha256, b.made, b.touched_at"""

_CONDEMNED = """
SELECT b.tenant_id, b.sha256 FROM blobs b
  JOIN unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::timestamptz[]) AS r(tenant, sha256, made, touched)
    ON b.tenant_id = r.tenant AND b.sha256 = r.sha256 AND b.made = r.made AND b.touched_at = r.touched
 FOR UPDATE OF b SKIP LOCKED"""

_REMOVE = """
DELETE FROM blobs b USING unnest($1::uuid[], $2::bytea[]) AS r(tenant, sha256)
 WHERE b.tenant_id = r.tenant AND b.sha256 = r.sha256
   AND NOT EXISTS (SELECT 1 FROM blob_uses u
                    WHERE u.tenant_id = b.tenant_id AND u.sha256 = b.sha256)
RETURNING b.tenant_id, b.sha256"""


async def collect(
    pool: asyncpg.Pool, store: BlobStore, *, grace_s: float = GRACE_S, rounds: int = ROUNDS
) -> int:
    """Remove what nothing refers to; how many blobs went. What another one collects, or a backup reads,
    is left to the next time. Raises StoreUnavailable."""
    removed = 0
    with unavailable():
        async with pool.acquire() as connection:
            for _ in range(rounds):
                looked, condemned = await _condemn(connection, grace_s)
                if condemned:
                    removed += await _remove(connection, store, condemned)
                if looked < ROWS:
                    break
    return removed


async def _condemn(connection: Connection, grace_s: float) -> tuple[int, list[asyncpg.Record]]:
    """How many blobs were looked at, and those of them that seem to be of no use."""
    async with connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
            return 0, []
        due = await connection.fetch(_DUE, ROWS)
        judged = await connection.fetch(_JUDGE, *_keys(due), grace_s) if due else []
        loose = [row for row in judged if row["loose"]]
        return len(due), await connection.fetch(_CONDEMN, *_keys(loose)) if loose else []


async def _remove(connection: Connection, store: BlobStore, condemned: list[asyncpg.Record]) -> int:
    async with connection.transaction():
        if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
            return 0
        marks = [row["made"] for row in condemned], [row["touched_at"] for row in condemned]
        held = await connection.fetch(_CONDEMNED, *_keys(condemned), *marks)
        gone = await connection.fetch(_REMOVE, *_keys(held)) if held else []
        # The rows stay locked until the content is gone: nobody can put it anew in between.
        room = asyncio.Semaphore(AT_ONCE)

        async def remove(row: asyncpg.Record) -> None:
            async with room:
                await store.remove(row["tenant_id"], row["sha256"].hex())

        results = await asyncio.gather(*map(remove, gone), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
    return len(gone)


def _keys(rows: list[asyncpg.Record]) -> tuple[list[object], list[object]]:
    return [row["tenant_id"] for row in rows], [row["sha256"] for row in rows]
