"""Commands: what callers ask of an execution's owner. The insert is the promise."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from agentflow.errors import NotFound
from agentflow.store.notices import Notices
from agentflow.store.pool import unavailable
from agentflow.store.rows import execution_uuid, seal, tenant_uuid

CHANNEL = "agentflow_commands"

# The lock waits for an outcome that is being written, so no command is left behind by it. What is
# quarantined has no owner: it is given back to be claimed, and its next owner obeys before all else.
_CANCEL = """
WITH target AS MATERIALIZED (
    SELECT execution_id, tenant_id, status FROM executions
     WHERE execution_id = $1 AND tenant_id = $2 FOR NO KEY UPDATE),
freed AS (
    UPDATE executions SET status = 'running', strikes = 0 FROM target
     WHERE executions.execution_id = target.execution_id AND target.status = 'quarantined'),
command AS (
    INSERT INTO commands (execution_id, tenant_id, wait, kind, payload)
    SELECT execution_id, tenant_id, 'cancel', 'cancel', $3 FROM target
     WHERE status NOT IN ('completed', 'failed', 'cancelled', 'timed_out')
    ON CONFLICT (execution_id, wait) DO NOTHING
    RETURNING pg_notify('agentflow_commands', 'exec_' || replace(execution_id::text, '-', '')))
SELECT status, (SELECT count(*) FROM command) FROM target"""


async def cancel(pool: asyncpg.Pool, tenant: str, execution_id: str, reason: str = "") -> bool:
    """Ask that the execution be cancelled; False when it was over already.

    When this returns True the request is durable; asking again changes nothing.
    Raises NotFound, StoreUnavailable.
    """
    key, tenant_key = execution_uuid(execution_id), tenant_uuid(tenant)
    with unavailable():
        row = await pool.fetchrow(_CANCEL, key, tenant_key, seal({"reason": reason}))
    if row is None:
        raise NotFound("Execution not found")
    return row["status"] not in ("completed", "failed", "cancelled", "timed_out")


async def listen(dsn: str, on_command: Callable[[str], None]) -> Notices:
    """Calls ``on_command`` with the id of each execution that gets a command, on this event loop.

    Notices may be lost: look into the table once a second all the same. Close the result.
    """
    return Notices(dsn, CHANNEL, on_command)
