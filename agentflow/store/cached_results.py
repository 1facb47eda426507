"""Results that are kept for reuse, in PostgreSQL. Ages are measured by the database's clock alone.

A result lasts until the time for which it was wanted has passed, and never longer than the record of the
execution that did it: it is erased with that one, and not found any more from the moment its row is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from agentflow.errors import BlobLost, StoreError
from agentflow.execution.caching import Kept, Wanted
from agentflow.execution.events import Blob
from agentflow.store.blobs_references import LIMIT
from agentflow.store.pool import Connection, unavailable
from agentflow.store.rows import execution_id, execution_uuid, tenant_uuid
from agentflow.store.sealing import NOTHING, Columns, Owner, Sealer, Uses

log = logging.getLogger(__name__)

LONGEST_S = 1e9
"""A result is kept no longer, whatever is wanted: some thirty years."""
EXPIRED_ROWS = 1_000
"""Results that one transaction removes."""

_FIND = """
SELECT r.place, c.tenant_id, c.execution_id, c.content, c.tokens, c.cost,
       extract(epoch FROM c.kept_at)::float8 AS at
  FROM unnest($1::uuid[], $2::bytea[], $3::float8[]) WITH ORDINALITY AS r(tenant, key, ttl, place)
  JOIN cached_results c ON c.tenant_id = r.tenant AND c.key = r.key
 WHERE least(c.expires_at, c.kept_at + make_interval(secs => r.ttl)) > clock_timestamp()
   AND EXISTS (SELECT 1 FROM executions e WHERE e.execution_id = c.execution_id)"""

# Locked against erasure until the blobs are named. The tenant is the one whose execution it is.
_KEEP = """
INSERT INTO cached_results AS c (tenant_id, key, execution_id, content, tokens, cost, expires_at)
SELECT e.tenant_id, r.key, e.execution_id, r.content, r.tokens, r.cost,
       clock_timestamp() + make_interval(secs => r.ttl)
  FROM unnest($1::uuid[], $2::bytea[], $3::uuid[], $4::bytea[], $5::bigint[], $6::float8[], $7::float8[])
       AS r(tenant, key, execution, content, tokens, cost, ttl)
  JOIN executions e ON e.execution_id = r.execution AND e.tenant_id = r.tenant
 ORDER BY r.tenant, r.key FOR KEY SHARE OF e
    ON CONFLICT (tenant_id, key) DO UPDATE
   SET execution_id = excluded.execution_id, content = excluded.content, tokens = excluded.tokens,
       cost = excluded.cost, kept_at = excluded.kept_at, expires_at = excluded.expires_at
RETURNING c.execution_id"""

_TOUCH = """
WITH held AS MATERIALIZED (
    SELECT b.tenant_id, b.sha256 FROM blobs b
      JOIN unnest($1::uuid[], $2::bytea[]) AS r(tenant, sha256)
        ON b.tenant_id = r.tenant AND b.sha256 = r.sha256
     ORDER BY b.tenant_id, b.sha256 FOR NO KEY UPDATE OF b)
UPDATE blobs b SET touched_at = clock_timestamp() FROM held
 WHERE b.tenant_id = held.tenant_id AND b.sha256 = held.sha256
RETURNING b.tenant_id, b.sha256"""
"""From now on the collector leaves what is still there alone for a while."""

_EXPIRED = """
WITH gone AS (
    DELETE FROM cached_results WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM cached_results WHERE expires_at < clock_timestamp()
         ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1)
SELECT count(*) FROM gone"""


class _Content(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a row holds of a result."""

    result: Any
    delta: dict[str, Any]
    blobs: tuple[Blob, ...] = ()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Content).decode


class CachedResults:
    """See execution.caching.Results. ``sealer`` takes what is too large for a row."""

    def __init__(self, pool: asyncpg.Pool, sealer: Sealer) -> None:
        self._pool, self._sealer = pool, sealer

    async def find(self, wanted: Sequence[Wanted]) -> list[Kept | None]:
        """See the contract. One whose content cannot be read is not found. Raises StoreUnavailable."""
        found: list[Kept | None] = [None] * len(wanted)
        with unavailable():
            rows = await self._pool.fetch(
                _FIND,
                [tenant_uuid(each.tenant) for each in wanted],
                [each.key for each in wanted],
                [min(each.ttl_s, LONGEST_S) for each in wanted],
            )
        read = await asyncio.gather(*map(self._read, rows))
        there = await self._touched(
            {(row["tenant_id"], blob.sha256) for row, kept in zip(rows, read) if kept
             for blob in kept.blobs}
        )  # fmt: skip
        for row, kept in zip(rows, read, strict=True):
            if kept and all((row["tenant_id"], blob.sha256) in there for blob in kept.blobs):
                found[row["place"] - 1] = kept
        return found

    async def _read(self, row: asyncpg.Record) -> Kept | None:
        try:
            plain = await self._sealer.unseal_row(row, ("content",))
            content = _decode(plain["content"])
        except BlobLost:  # it is logged, and the work is done again
            return None
        except (
            msgspec.DecodeError
        ) as error:  # another version's, and it must not hide its neighbours
            name = execution_id(row["execution_id"])
            log.warning("result_unreadable", extra={"execution_id": name, "reason": str(error)})
            return None
        return Kept(
            result=content.result,
            delta=content.delta,
            blobs=content.blobs,
            execution_id=execution_id(row["execution_id"]),
            tokens=row["tokens"],
            cost=row["cost"],
            at=row["at"],
        )

    async def _touched(self, blobs: set[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
        """Those of the blobs that are there, and will be for a while."""
        if not blobs:
            return blobs
        columns = [tenant for tenant, _ in blobs], [bytes.fromhex(sha256) for _, sha256 in blobs]
        with unavailable():
            rows = await self._pool.fetch(_TOUCH, *columns)
        return {(row["tenant_id"], row["sha256"].hex()) for row in rows}

    async def keep(self, results: Sequence[tuple[Wanted, Kept]]) -> None:
        """See the contract. Raises StoreError, StoreUnavailable."""
        newest = {(want.tenant, want.key): (want, kept) for want, kept in results}
        owners = [
            Owner(tenant_uuid(want.tenant), execution_uuid(kept.execution_id))
            for want, kept in newest.values()
        ]
        contents: list[Any] = await asyncio.to_thread(
            _contents, [kept for _, kept in newest.values()]
        )
        uses = NOTHING
        if max(map(len, contents), default=0) > LIMIT:
            uses = await self._sealer.seal(Columns(owners, [contents], (0,)))
        columns = (
            [owner.tenant for owner in owners],
            [want.key for want, _ in newest.values()],
            [owner.execution for owner in owners],
            contents,
            [kept.tokens for _, kept in newest.values()],
            [kept.cost for _, kept in newest.values()],
            [min(want.ttl_s, LONGEST_S) for want, _ in newest.values()],
        )
        try:
            with unavailable():
                async with self._pool.acquire() as connection, connection.transaction():
                    kept_of = await connection.fetch(_KEEP, *columns)
                    await self._name(connection, uses, {row["execution_id"] for row in kept_of})
        except asyncpg.PostgresError as error:
            raise StoreError(f"The database refused results for reuse: {error}") from error

    async def _name(self, connection: Connection, uses: Uses, executions: set[UUID]) -> None:
        """Name what was sealed, but for executions that are gone, whose results were not kept."""
        named = {(execution, blob) for execution, blob in uses.named if execution in executions}
        made = {blob: uses.made[blob] for _, blob in named}
        await self._sealer.name(connection, Uses(made, named))


def _contents(results: Sequence[Kept]) -> list[bytes]:
    """What rows hold of these; of large ones it takes a while."""
    return [_encode(_Content(kept.result, kept.delta, kept.blobs)) for kept in results]


async def remove_expired(pool: asyncpg.Pool, rows: int = EXPIRED_ROWS) -> int:
    """Remove results whose time is over, the longest over first; how many went, at most ``rows``. What
    somebody else is removing, or keeping anew, is left to it. Raises StoreUnavailable."""
    with unavailable():
        return int(await pool.fetchval(_EXPIRED, rows))
