"""Folds of long journals, in PostgreSQL: kept by the owner of an execution alone, gone with it."""

from __future__ import annotations

import hashlib
from uuid import UUID

import asyncpg

from agentflow.execution.journal import Snapshot
from agentflow.store.rows import execution_uuid
from agentflow.store.sealing import Owner, Sealer
from agentflow.store.statements import LEASE

# A snapshot ahead of its journal is of a database that was since put back to an earlier day.
_READ = """
SELECT s.seq, s.state, s.running, s.generations, s.tenant_id FROM snapshots s
 WHERE s.execution_id = $1 AND s.format = $2 AND ($3::uuid IS NULL OR s.tenant_id = $3)
   AND s.seq <= (SELECT max(j.seq) FROM journal j WHERE j.execution_id = s.execution_id)"""

# The execution's row is not locked against its appends: nobody can claim it while the lease is held.
_KEEP = f"""
WITH {LEASE}
INSERT INTO snapshots (execution_id, tenant_id, seq, format, state, running, generations)
SELECT e.execution_id, e.tenant_id, $4, $5, $6, $7, $8 FROM lease, executions e
 WHERE e.execution_id = $3 AND e.owner = $1 AND e.owner_epoch = $2
   FOR KEY SHARE OF e
    ON CONFLICT (execution_id) DO UPDATE
   SET seq = excluded.seq, format = excluded.format, state = excluded.state,
       running = excluded.running, generations = excluded.generations, at = clock_timestamp()
RETURNING 1"""

_HEAD = 2 * hashlib.sha256().digest_size + 1
"""Bytes of the line with the digest that a content begins with; lines of JSON follow
(execution.snapshot)."""


async def read(
    pool: asyncpg.Pool, sealer: Sealer, execution_id: str, format: str, tenant: UUID | None = None
) -> Snapshot | None:
    """See execution.journal.Journal.snapshot. ``tenant``: only if it is this one's. Raises BlobLost."""
    row = await pool.fetchrow(_READ, execution_uuid(execution_id), format, tenant)
    if row is None:
        return None
    owner = Owner(row["tenant_id"], execution_uuid(execution_id))
    head, body = row["state"][:_HEAD], row["state"][_HEAD:]
    return Snapshot(
        execution_id=execution_id,
        seq=row["seq"],
        format=format,
        content=head + await sealer.unseal_lines(owner, body),
        running=tuple(zip(row["running"], row["generations"], strict=True)),
    )


async def keep(
    pool: asyncpg.Pool, sealer: Sealer, owner: str, epoch: int, snapshot: Snapshot
) -> bool:
    """See execution.journal.Journal.keep_snapshot."""
    key = execution_uuid(snapshot.execution_id)
    head, body = snapshot.content[:_HEAD], snapshot.content[_HEAD:]
    kept = await pool.fetchval(
        _KEEP,
        owner,
        epoch,
        key,
        snapshot.seq,
        snapshot.format,
        head + await sealer.seal_lines(key, body),
        [step for step, _ in snapshot.running],
        [generation for _, generation in snapshot.running],
    )
    return kept is not None
