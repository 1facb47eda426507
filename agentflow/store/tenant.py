"""The store as one tenant sees it: every query names the tenant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec

from agentflow.errors import InvalidInput, NotFound
from agentflow.execution.journal import ExecutionRecord, Recorded, Snapshot
from agentflow.store import commands, snapshots, waits
from agentflow.store.notices import Outcomes, wait_for_event
from agentflow.store.pool import unavailable
from agentflow.store.rows import (
    SEALED,
    SEALED_WHOLE,
    SUMMARY,
    WHOLE,
    execution_uuid,
    record,
    tenant_uuid,
    unseal,
)
from agentflow.store.sealing import Owner, Sealer, recorded

Json = Any

POLL_S = 1.0
OVER = ("completed", "failed", "cancelled", "timed_out")
PAGE_LIMIT = 100


class ExecutionPage(msgspec.Struct, frozen=True):
    """Executions, newest first, as summaries (no states, no output, no steps).

    ``total`` counts all that match; ``next_cursor`` is None on the last page.
    """

    executions: tuple[ExecutionRecord, ...]
    total: int
    next_cursor: str | None = None


class TenantStore:
    """Executions of one tenant. Those of others do not exist here: asking for them is NotFound.

    Every method raises StoreUnavailable when the database is away, and those that give values BlobLost
    when a large one is missing or damaged.
    """

    def __init__(
        self, pool: asyncpg.Pool, tenant: str, outcomes: Outcomes | None, sealer: Sealer | None
    ) -> None:
        self._pool, self._tenant, self._outcomes = pool, tenant, outcomes
        self._sealer = sealer or Sealer(pool, None)
        self._tenant_key = tenant_uuid(tenant)

    async def execution(self, execution_id: str) -> ExecutionRecord:
        """The execution's row; its ``steps``, each in its newest generation, are there once it is over.
        Raises NotFound."""
        key = execution_uuid(execution_id)
        with unavailable():
            row = await self._pool.fetchrow(
                f"SELECT {WHOLE} FROM executions WHERE execution_id = $1 AND tenant_id = $2",
                key,
                self._tenant_key,
            )
            if row is None:
                raise NotFound("Execution not found")
            steps = await self._pool.fetch(
                "SELECT details FROM (SELECT DISTINCT ON (step) position, details FROM steps "
                "WHERE execution_id = $1 AND tenant_id = $2 ORDER BY step, generation DESC) AS newest "
                "ORDER BY position",
                key,
                self._tenant_key,
            )
            details = await self._sealer.unseal(
                Owner(self._tenant_key, key), [step["details"] for step in steps]
            )
            row = await self._sealer.unseal_row(row, SEALED_WHOLE)
        return record(row, tuple(map(unseal, details)))

    async def spec(self, content_hash: str) -> Json:
        """The normalised document behind a content hash. Raises NotFound."""
        with unavailable():
            sealed = await self._pool.fetchval(
                "SELECT spec FROM specs WHERE tenant_id = $1 AND content_hash = $2",
                self._tenant_key,
                content_hash,
            )
        if sealed is None:
            raise NotFound("Workflow not found")
        return unseal(sealed)

    async def is_over(self, execution_id: str) -> bool:
        """Whether the execution has ended (an operator's retry may reopen it). Raises NotFound."""
        return (await self._status(execution_id))["status"] in OVER

    async def content_hash(self, execution_id: str) -> str:
        """Names the document that the execution follows; see :meth:`spec`. Raises NotFound."""
        found: str = (await self._status(execution_id))["content_hash"]
        return found

    async def owner_of(self, execution_id: str) -> str | None:
        """The coordinator that owns the execution now, None when it was released. Raises NotFound."""
        row = await self._status(execution_id)
        owner: str | None = row["owner"]
        return owner

    async def executions(
        self,
        *,
        status: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        offset: int = 0,
    ) -> ExecutionPage:
        """A page, stable under inserts when ``cursor`` (a page's ``next_cursor``) is used.

        Raises InvalidInput for a cursor that is not one of ours.
        """
        limit = max(1, min(limit, PAGE_LIMIT))
        before = None
        if cursor is not None:
            try:
                before = execution_uuid(cursor)
            except NotFound:
                raise InvalidInput("cursor must be the next_cursor of an earlier page") from None
        with unavailable():
            rows = await self._pool.fetch(
                f"SELECT {SUMMARY} FROM executions WHERE tenant_id = $1 "
                "AND ($2::text IS NULL OR status = $2) AND ($3::uuid IS NULL OR execution_id < $3) "
                "ORDER BY execution_id DESC LIMIT $4 OFFSET $5",
                self._tenant_key,
                status,
                before,
                limit + 1,
                max(0, offset),
            )
            total = await self._pool.fetchval(
                "SELECT count(*) FROM executions WHERE tenant_id = $1 "
                "AND ($2::text IS NULL OR status = $2)",
                self._tenant_key,
                status,
            )
        page = tuple([record(await self._sealer.unseal_row(row, SEALED)) for row in rows[:limit]])
        return ExecutionPage(page, total, page[-1].id if len(rows) > limit else None)

    async def events(self, execution_id: str, after: int = 0, limit: int = 1000) -> list[Recorded]:
        """The first ``limit`` committed events with a greater seq, in order. Raises NotFound."""
        with unavailable():
            rows = await self._pool.fetch(
                "SELECT seq, payload, tenant_id FROM journal WHERE execution_id = $1 AND tenant_id = $2 "
                "AND seq > $3 ORDER BY seq LIMIT $4",
                execution_uuid(execution_id),
                self._tenant_key,
                after,
                limit,
            )
        if not rows:
            await self._status(execution_id)
        return await recorded(self._sealer, execution_uuid(execution_id), rows)

    async def snapshot(self, execution_id: str, format: str) -> Snapshot | None:
        """Its snapshot, if there is one of this format that is not ahead of its journal."""
        with unavailable():
            return await snapshots.read(
                self._pool, self._sealer, execution_id, format, self._tenant_key
            )

    async def cancel(self, execution_id: str, reason: str = "") -> bool:
        """Ask that the execution be cancelled; False when it was over already. Raises NotFound."""
        return await commands.cancel(self._pool, self._tenant, execution_id, reason)

    async def retry(self, execution_id: str) -> None:
        """Ask that an execution goes on from what failed; it is open again when this returns.

        Raises NotFound, Conflict (it did not fail, time out or get cancelled).
        """
        await commands.retry(self._pool, self._tenant, execution_id)

    async def release(self, execution_id: str, reason: str = "") -> None:
        """Let a quarantined execution run again. Raises NotFound, Conflict (it is not quarantined)."""
        await commands.release(self._pool, self._tenant, execution_id, reason)

    async def waits(self, execution_id: str) -> list[waits.Wait]:
        """Every wait of an execution, open or ended, oldest first."""
        return await waits.waits_of(self._pool, self._sealer, self._tenant, execution_id)

    async def answer(self, execution_id: str, wait_id: str, data: Json, by: str) -> None:
        """Answer a wait; no other answer will ever be taken. Raises NotFound, Conflict."""
        await waits.answer(self._pool, self._sealer, self._tenant, execution_id, wait_id, data, by)

    async def signal(
        self,
        execution_id: str,
        name: str,
        data: Json,
        by: str,
        *,
        nodes: Sequence[str],
        repeated: Sequence[str],
    ) -> str | None:
        """Send a signal to a wait, or have it kept; see :func:`agentflow.store.waits.signal`."""
        found: str | None = await waits.signal(
            self._pool,
            self._sealer,
            self._tenant,
            execution_id,
            name,
            data,
            by,
            nodes=nodes,
            repeated=repeated,
        )
        return found

    async def wait_over(
        self, execution_id: str, timeout_s: float | None = None, *, at_rest: bool = False
    ) -> bool:
        """Wait until the execution is over, at most ``timeout_s`` seconds; whether it is. ``at_rest``:
        no longer than until it waits for somebody.

        Raises NotFound.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        woken = self._outcomes.expect(execution_id) if self._outcomes else asyncio.Event()
        try:
            while True:
                woken.clear()
                status = (await self._status(execution_id))["status"]
                if status in OVER:
                    return True
                if at_rest and status == "waiting" and await self._waits_for_somebody(execution_id):
                    return False
                pause = POLL_S
                if deadline is not None:
                    pause = min(pause, deadline - time.monotonic())
                    if pause <= 0:
                        return False
                await wait_for_event(woken, pause)
        finally:
            if self._outcomes:
                self._outcomes.forget(execution_id, woken)

    async def _waits_for_somebody(self, execution_id: str) -> bool:
        return any(wait.open and wait.kind != "timer" for wait in await self.waits(execution_id))

    async def _status(self, execution_id: str) -> asyncpg.Record:
        with unavailable():
            row = await self._pool.fetchrow(
                "SELECT status, owner, content_hash FROM executions "
                "WHERE execution_id = $1 AND tenant_id = $2",
                execution_uuid(execution_id),
                self._tenant_key,
            )
        if row is None:
            raise NotFound("Execution not found")
        return row


def for_tenant(
    pool: asyncpg.Pool,
    tenant: str,
    outcomes: Outcomes | None = None,
    sealer: Sealer | None = None,
) -> TenantStore:
    """The store of one tenant. Cheap: make one per request.

    ``outcomes``, one per process, makes :meth:`TenantStore.wait_over` prompt; without it the row is
    looked at once a second. ``sealer``, one per process, reads the values that are too large for a row.
    """
    return TenantStore(pool, tenant, outcomes, sealer)
