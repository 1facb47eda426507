"""Commands: what callers ask of an execution's owner. The insert is the promise."""

from __future__ import annotations

from collections.abc import Callable

import asyncpg

from agentflow.errors import Conflict, NotFound
from agentflow.store.notices import Notices
from agentflow.store.pool import unavailable
from agentflow.store.rows import execution_uuid, seal, tenant_uuid

CHANNEL = "agentflow_commands"

# The lock waits for an outcome that is being written, so no command is left behind by it. What is
# quarantined has no owner: it is given back to be claimed, and its next owner obeys before all else.
# What waits may have none either: it is woken.
_CANCEL = """
WITH target AS MATERIALIZED (
    SELECT execution_id, tenant_id, status FROM executions
     WHERE execution_id = $1 AND tenant_id = $2 FOR NO KEY UPDATE),
freed AS (
    UPDATE executions SET status = 'running', strikes = 0 FROM target
     WHERE executions.execution_id = target.execution_id AND target.status = 'quarantined'),
woken AS (
    UPDATE executions SET wake_at = clock_timestamp() FROM target
     WHERE executions.execution_id = target.execution_id AND target.status = 'waiting'),
command AS (
    INSERT INTO commands (execution_id, tenant_id, wait, kind, payload)
    SELECT execution_id, tenant_id, 'cancel', 'cancel', $3 FROM target
     WHERE status NOT IN ('completed', 'failed', 'cancelled', 'timed_out')
    ON CONFLICT (execution_id, wait) DO NOTHING
    RETURNING pg_notify('agentflow_commands', 'exec_' || replace(execution_id::text, '-', '')))
SELECT status, (SELECT count(*) FROM command) FROM target"""


# The row becomes claimable in the transaction that keeps the command, so whoever claims it finds both.
# What it cost so far is kept; how it ended is not: an open execution has no outcome.
_RETRY = """
WITH target AS MATERIALIZED (
    SELECT execution_id, tenant_id, status FROM executions
     WHERE execution_id = $1 AND tenant_id = $2 FOR NO KEY UPDATE),
reopened AS (
    UPDATE executions
       SET status = 'running', owner = NULL, owner_epoch = NULL, strikes = 0, final_state = NULL,
           output = NULL, error = NULL, completed_at = NULL, execution_time = 0,
           updated_at = clock_timestamp()
      FROM target
     WHERE executions.execution_id = target.execution_id
       AND target.status IN ('failed', 'timed_out', 'cancelled')),
command AS (
    INSERT INTO commands (execution_id, tenant_id, wait, kind, payload)
    SELECT execution_id, tenant_id, 'retry', 'retry', $3 FROM target
     WHERE status IN ('failed', 'timed_out', 'cancelled')
    RETURNING pg_notify('agentflow_commands', 'exec_' || replace(execution_id::text, '-', '')))
SELECT status, (SELECT count(*) FROM command) FROM target"""

_RELEASE = """
WITH target AS MATERIALIZED (
    SELECT execution_id, tenant_id, status FROM executions
     WHERE execution_id = $1 AND tenant_id = $2 FOR NO KEY UPDATE),
freed AS (
    UPDATE executions
       SET status = 'running', owner = NULL, owner_epoch = NULL, strikes = 0,
           updated_at = clock_timestamp()
      FROM target
     WHERE executions.execution_id = target.execution_id AND target.status = 'quarantined'
    RETURNING pg_notify('agentflow_commands',
                        'exec_' || replace(executions.execution_id::text, '-', ''))),
command AS (
    INSERT INTO commands (execution_id, tenant_id, wait, kind, payload)
    SELECT execution_id, tenant_id, 'release', 'release', $3 FROM target
     WHERE status = 'quarantined'
    ON CONFLICT (execution_id, wait) DO NOTHING)
SELECT status, (SELECT count(*) FROM freed) FROM target"""

_RETRIABLE = ("failed", "timed_out", "cancelled")
_INSTEAD = {
    "completed": "`agentflow executions fork` repeats part of a completed one",
    "quarantined": "`agentflow executions release` lets a quarantined one run again",
}


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


async def retry(pool: asyncpg.Pool, tenant: str, execution_id: str) -> None:
    """Ask that an execution goes on from what failed, timed out or was cancelled.

    When this returns the request is durable, and the execution is open again.
    Raises NotFound, Conflict (it has another status), StoreUnavailable.
    """
    status = await _ask(pool, _RETRY, tenant, execution_id, {})
    if status not in _RETRIABLE:
        way = _INSTEAD.get(status, "wait for its end, or cancel it first")
        raise Conflict(
            f"Execution {execution_id} is {status}; only one that failed, timed_out or was "
            f"cancelled can be retried: {way}"
        )


async def release(pool: asyncpg.Pool, tenant: str, execution_id: str, reason: str = "") -> None:
    """Let a quarantined execution run again, with no strikes.

    When this returns the request is durable, and the execution is open again.
    Raises NotFound, Conflict (it is not quarantined), StoreUnavailable.
    """
    status = await _ask(pool, _RELEASE, tenant, execution_id, {"reason": reason})
    if status != "quarantined":
        way = (
            "`agentflow executions retry` lets one go on"
            if status in _RETRIABLE
            else "it needs none"
        )
        raise Conflict(
            f"Execution {execution_id} is {status}; only a quarantined one can be released: {way}"
        )


async def _ask(
    pool: asyncpg.Pool, statement: str, tenant: str, execution_id: str, payload: dict[str, str]
) -> str:
    """The status that the execution had. Raises NotFound, StoreUnavailable."""
    key, tenant_key = execution_uuid(execution_id), tenant_uuid(tenant)
    with unavailable():
        row = await pool.fetchrow(statement, key, tenant_key, seal(payload))
    if row is None:
        raise NotFound("Execution not found")
    status: str = row["status"]
    return status


async def listen(dsn: str, on_command: Callable[[str], None]) -> Notices:
    """Calls ``on_command`` with the id of each execution that gets a command, on this event loop.

    Notices may be lost: look into the table once a second all the same. Close the result.
    """
    return Notices(dsn, CHANNEL, on_command)
