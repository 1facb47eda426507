"""What parked steps wait for: one row each, written and closed with the journal, answered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from agentflow.errors import Conflict, NotFound
from agentflow.execution.events import (
    ExecutionResumed,
    ExecutionStarted,
    ExecutionWaiting,
    StepWaiting,
)
from agentflow.execution.journal import Append
from agentflow.execution.keys import node_id_of
from agentflow.store import statements as sql
from agentflow.store.pool import Connection, unavailable
from agentflow.store.rows import execution_uuid, seal, tenant_uuid, unseal
from agentflow.store.sealing import Columns, Owner, Sealer, Uses

Json = Any
FAR = 253_402_300_799.0
"""The end of the year 9999: what is due after it is never due."""
_OVER = ("completed", "failed", "cancelled", "timed_out")


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """What a step waits for, or waited for. Times in seconds since the epoch; ``open``: an answer would
    be taken now, or, of a timer, its time has not come."""

    wait_id: str
    step: str
    node_id: str
    kind: str
    signal: str | None = None
    prompt: str | None = None
    form: Json = None
    assignees: tuple[str, ...] = ()
    due_at: float | None = None
    created_at: float = 0.0
    answered_at: float | None = None
    answered_by: str | None = None
    open: bool = True


_COLUMNS = """wait_id, step, node_id, kind, signal, asks, assignees, due_at, created_at, answered_at,
       answered_by, answered_at IS NULL AND closed_at IS NULL
       AND coalesce(due_at > clock_timestamp(), true) AS open"""

_ALL = f"""
SELECT {_COLUMNS}, execution_id, tenant_id FROM waits WHERE execution_id = $1 AND tenant_id = $2
 ORDER BY created_at, wait_id"""

_LOCK = """
SELECT status FROM executions WHERE execution_id = $1 AND tenant_id = $2 FOR NO KEY UPDATE"""

_MARK = """
UPDATE waits SET answered_at = clock_timestamp(), answered_by = $3
 WHERE execution_id = $1 AND wait_id = $2 AND answered_at IS NULL AND closed_at IS NULL
   AND coalesce(due_at > clock_timestamp(), true)
RETURNING wait_id"""

_OLDEST = """
SELECT wait_id FROM waits
 WHERE execution_id = $1 AND kind = 'signal' AND signal = $2 AND answered_at IS NULL
   AND closed_at IS NULL AND coalesce(due_at > clock_timestamp(), true)
 ORDER BY created_at, wait_id LIMIT 1"""

_WAITED = "SELECT 1 FROM waits WHERE execution_id = $1 AND node_id = $2 LIMIT 1"

_KEEP = """
INSERT INTO commands (execution_id, tenant_id, wait, kind, payload, asked_by)
SELECT execution_id, tenant_id, $2, 'signal', $3, $4 FROM executions WHERE execution_id = $1
    ON CONFLICT (execution_id, wait) DO NOTHING
RETURNING pg_notify('agentflow_commands', 'exec_' || replace(execution_id::text, '-', ''))"""

_WAKE = """
UPDATE executions SET wake_at = clock_timestamp() WHERE execution_id = $1 AND status = 'waiting'"""


async def waits_of(
    pool: asyncpg.Pool, sealer: Sealer, tenant: str, execution_id: str
) -> list[Wait]:
    """Every wait of an execution, oldest first. Raises BlobLost, StoreUnavailable."""
    with unavailable():
        rows = await pool.fetch(_ALL, execution_uuid(execution_id), tenant_uuid(tenant))
    return [_wait(await sealer.unseal_row(row, ("asks",))) for row in rows]


def _wait(row: Mapping[str, Any]) -> Wait:
    asks = unseal(row["asks"])
    return Wait(
        wait_id=row["wait_id"],
        step=row["step"],
        node_id=row["node_id"],
        kind=row["kind"],
        signal=row["signal"],
        prompt=asks["prompt"] or None,
        form=asks["form"],
        assignees=tuple(row["assignees"]),
        due_at=row["due_at"].timestamp() if row["due_at"] else None,
        created_at=row["created_at"].timestamp(),
        answered_at=row["answered_at"].timestamp() if row["answered_at"] else None,
        answered_by=row["answered_by"],
        open=row["open"],
    )


async def answer(
    pool: asyncpg.Pool,
    sealer: Sealer,
    tenant: str,
    execution_id: str,
    wait_id: str,
    data: Json,
    by: str,
) -> None:
    """Answer a wait. When this returns the answer is durable, and no other will ever be taken.

    Raises NotFound, Conflict (answered or expired, or the execution is over), StoreUnavailable.
    """
    key = execution_uuid(execution_id)
    payload, uses = await _sealed(sealer, Owner(tenant_uuid(tenant), key), data)
    with unavailable():
        async with pool.acquire() as connection, connection.transaction():
            await _lock(connection, tenant, execution_id)
            await _mark(connection, key, wait_id, payload, by)
            await sealer.name(connection, uses)


async def _sealed(sealer: Sealer, owner: Owner, data: Json) -> tuple[bytes, Uses]:
    """What is sent, as the row of a command keeps it."""
    columns: list[list[Any]] = [[seal({"data": data})]]
    uses = await sealer.seal(Columns([owner], columns, (0,)))
    return columns[0][0], uses


async def signal(
    pool: asyncpg.Pool,
    sealer: Sealer,
    tenant: str,
    execution_id: str,
    name: str,
    data: Json,
    by: str,
    *,
    nodes: Sequence[str],
    repeated: Sequence[str],
) -> str | None:
    """Send a signal: to the oldest open wait for it, whose name is returned; or it is kept for the next
    one that begins.

    ``nodes``: those that wait for this signal; ``repeated``: those of them that may wait again. When
    this returns the signal is durable. Raises NotFound, Conflict (no wait for it can come any more, or
    one is kept already), StoreUnavailable.
    """
    key = execution_uuid(execution_id)
    payload, uses = await _sealed(sealer, Owner(tenant_uuid(tenant), key), data)
    with unavailable():
        async with pool.acquire() as connection, connection.transaction():
            await _lock(connection, tenant, execution_id)
            wait_id: str | None = await connection.fetchval(_OLDEST, key, name)
            if wait_id is None:
                waited = [
                    node
                    for node in nodes
                    if node not in repeated and await connection.fetchval(_WAITED, key, node)
                ]
                if len(waited) == len(nodes):
                    raise Conflict(
                        f"The wait for signal {name!r} was answered before, or has ended"
                    )
                if not await connection.fetch(_KEEP, key, sql.KEPT + name, payload, by):
                    raise Conflict(
                        f"A signal {name!r} is kept already, for a wait that has not begun"
                    )
            else:
                await _mark(connection, key, wait_id, payload, by)
            await sealer.name(connection, uses)
    return wait_id


async def _mark(connection: Connection, key: UUID, wait_id: str, payload: bytes, by: str) -> None:
    """Raises Conflict when the wait takes no answer any more."""
    if await connection.fetchval(_MARK, key, wait_id, by) is None:
        raise Conflict(f"Wait {wait_id!r} was answered before, has expired, or has ended")
    await connection.execute(_KEEP, key, wait_id, payload, by)
    await connection.execute(_WAKE, key)


async def _lock(connection: Connection, tenant: str, execution_id: str) -> None:
    """Whatever follows sees all that was committed for the execution. Raises NotFound, Conflict."""
    key = execution_uuid(execution_id)
    status = await connection.fetchval(_LOCK, key, tenant_uuid(tenant))
    if status is None:
        raise NotFound("Execution not found")
    if status in _OVER:
        raise Conflict(f"Execution {execution_id} is {status}: it waits for nothing any more")


async def write_waits(
    connection: Connection, batch: Sequence[Append], begun: list[list[Any]]
) -> None:
    """Open and close what the events of a transaction say, and note which executions wait. ``begun``:
    the columns of what they open (:func:`opened`)."""
    if begun[0]:
        await connection.executemany(sql.OPENED, list(zip(*begun, strict=True)))
    closed = [
        (execution_uuid(append.execution_id), wait) for append in batch for wait in append.closes
    ]
    if closed:
        await connection.execute(sql.CLOSED, *map(list, zip(*closed, strict=True)))
    wakes: dict[UUID, float | None] = {}
    for append in batch:
        waits, key = _waits(append), execution_uuid(append.execution_id)
        if append.outcome:
            wakes.pop(key, None)
        elif waits:
            wakes[key] = moment(append.wake_at)
        elif waits is False:  # it went on again before it was written that it waits
            wakes.pop(key, None)
    if wakes:
        await connection.execute(sql.WAITING, list(wakes), list(wakes.values()))


def moment(at: float | None) -> float | None:
    """A time that the database's calendar holds; None for what is too far away."""
    return None if at is None or at > FAR else at


OPENED_COLUMNS = 11


def opened(append: Append) -> list[tuple[object, ...]]:
    """A row for each wait that begins; what it asks is encoded."""
    key, tenant = execution_uuid(append.execution_id), tenant_uuid(append.tenant)
    return [
        (
            key,
            tenant,
            event.wait_id,
            event.step,
            event.generation,
            node_id_of(event.step),
            event.kind,
            event.signal or None,
            moment(event.until),
            seal({"prompt": event.prompt, "form": event.form}),
            list(event.assignees),
        )
        for event in append.events
        if isinstance(event, StepWaiting)
    ]


def _waits(append: Append) -> bool | None:
    """Whether an execution waits after these events; None where they do not say."""
    about = [
        event
        for event in append.events
        if isinstance(event, (ExecutionStarted, ExecutionResumed, ExecutionWaiting))
    ]
    return isinstance(about[-1], ExecutionWaiting) if about else None
