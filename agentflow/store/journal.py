"""The journal in PostgreSQL: every write proves, in the statement that inserts, that it may."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import asyncpg

from agentflow.errors import BlobLost, Conflict, FencedOut, StoreError, StoreUnavailable
from agentflow.execution.events import (
    ExecutionResumed,
    ExecutionStarted,
    ExecutionWaiting,
    StepCompleted,
    StepLate,
    StepWaiting,
)
from agentflow.execution.journal import Append, Claimed, Command, Recorded, Snapshot
from agentflow.store import snapshots
from agentflow.store import statements as sql
from agentflow.store.journal_rows import Rows, columns, kept_blobs, late_rows, started_at
from agentflow.store.pool import Connection, unavailable
from agentflow.store.rows import execution_id, execution_uuid, tenant_id, unseal
from agentflow.store.sealing import NOTHING, Sealer, recorded
from agentflow.store.waits import moment, write_waits


class PostgresJournal:
    """The journal as the coordinator ``coordinator_id`` uses it. See execution.journal.Journal.

    Appends may be called concurrently for different executions; each takes a connection of the pool.
    After StoreUnavailable call :meth:`enter` and then :meth:`last_seq` before sending again: entering
    waits for what this coordinator still has in flight at the server. ``sealer`` takes what is too large
    for a row; without one it is refused.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        coordinator_id: str,
        lease_s: float,
        sealer: Sealer | None = None,
    ) -> None:
        self.epoch = 0
        self._pool, self._me, self._lease_s = pool, coordinator_id, lease_s
        self._sealer = sealer or Sealer(pool, None)
        self._enter_unknown = False

    async def enter(self) -> int:
        """See the contract. Executions that still name us with our former epoch stay ours."""
        async with self._transaction() as connection:
            unknown, self._enter_unknown = self._enter_unknown, True
            epoch: int = await connection.fetchval(sql.ENTER, self._me, self._lease_s)
            if self.epoch:
                # A former enter may have been committed without our hearing of it.
                newest = epoch - 1 if unknown else self.epoch
                await connection.execute(sql.KEEP, self._me, epoch, self.epoch, newest)
        self.epoch, self._enter_unknown = epoch, False
        return epoch

    async def append(self, batch: Sequence[Append]) -> None:
        """See the contract."""
        if not batch:
            return
        batch = sorted(batch, key=lambda append: (append.execution_id, append.first_seq))
        async with self._fenced():
            rows = Rows.of(batch)
            uses = await self._sealer.seal(*rows.values(batch)) if rows.large else NOTHING
            if kept := list(kept_blobs(batch)):
                uses = uses.and_(await self._sealer.hold(kept))
            async with self._pool.acquire() as connection:
                if uses or any(map(_has_more_than_rows, batch)):
                    async with connection.transaction():
                        await self._write(connection, batch, rows)
                        await self._write_more(connection, batch, rows)
                        await self._sealer.name(connection, uses)
                else:
                    await self._write(connection, batch, rows)

    async def _write(self, connection: Connection, batch: Sequence[Append], rows: Rows) -> None:
        """Events, what is accepted and what ends with them: one statement."""
        keys, sent = list(set(rows.events[0]) - set(rows.accepted[3])), len(rows.events[0])
        statement, more = sql.APPEND, cast(tuple[object, ...], ())
        if rows.accepted[0] or rows.over[0]:
            statement = sql.APPEND_WITH_ROWS
            more = (*rows.accepted, *rows.over, *rows.steps, _answered(batch))
        row = await connection.fetchrow(
            statement, self._me, self.epoch, keys, *rows.events, sent, *more
        )
        if row and row["struck"]:
            await self._clear_strikes(connection, batch, row["struck"])

    async def _write_more(
        self, connection: Connection, batch: Sequence[Append], rows: Rows
    ) -> None:
        """What goes with the events, in the same transaction."""
        inserted = set(rows.accepted[3]) | set(rows.over[0])
        started = [
            (key, at)
            for append in batch
            if (at := started_at(append))
            and (key := execution_uuid(append.execution_id)) not in inserted
        ]
        if started:
            await connection.execute(sql.STARTED, *columns(started, 2))
        if answered := _answered(batch):
            await connection.fetchval(sql.ANSWERED, answered, len(answered))
        await write_waits(connection, batch, rows.waits)
        late = late_rows(batch)
        if late:
            await connection.execute(sql.LATE, *columns(late, 3))

    async def _clear_strikes(
        self, connection: Connection, batch: Sequence[Append], struck: Sequence[UUID]
    ) -> None:
        """Progress clears strikes; losing this write to a crash only keeps them."""
        progressed = {
            execution_uuid(append.execution_id)
            for append in batch
            if any(isinstance(event, StepCompleted) for event in append.events)
        }
        cleared = [key for key in struck if key in progressed]
        if cleared:
            await connection.execute(sql.CLEAR_STRIKES, self._me, self.epoch, cleared)

    async def last_seq(self, execution_ids: Sequence[str]) -> dict[str, int]:
        """See the contract."""
        keys = [execution_uuid(name) for name in execution_ids]
        with unavailable():
            rows = await self._pool.fetch(sql.LAST_SEQ, keys)
        return {execution_id(row["id"]): row["seq"] for row in rows}

    async def owned(self, execution_ids: Sequence[str]) -> set[str]:
        """See the contract. Empty when the lease has ended."""
        keys = [execution_uuid(name) for name in execution_ids]
        with unavailable():
            rows = await self._pool.fetch(sql.OWNED, self._me, self.epoch, keys)
        return {execution_id(row["execution_id"]) for row in rows}

    async def read(
        self, execution_id: str, after: int = 0, limit: int | None = None
    ) -> list[Recorded]:
        """See the contract."""
        with unavailable():
            rows = await self._pool.fetch(sql.READ, execution_uuid(execution_id), after, limit)
        return await recorded(self._sealer, execution_uuid(execution_id), rows)

    async def snapshot(self, execution_id: str, format: str) -> Snapshot | None:
        """See the contract."""
        with unavailable():
            return await snapshots.read(self._pool, self._sealer, execution_id, format)

    async def keep_snapshot(self, snapshot: Snapshot) -> bool:
        """See the contract."""
        with unavailable():
            return await snapshots.keep(self._pool, self._sealer, self._me, self.epoch, snapshot)

    async def claim(self, limit: int) -> list[Claimed]:
        """See the contract. The third strike quarantines instead."""
        with unavailable():
            orphaned = await self._pool.fetch(sql.ORPHANED)
            if not orphaned:
                return []
            dead = [row["owner"] for row in orphaned if row["owner"] is not None]
            rows = await self._pool.fetch(sql.CLAIM, self._me, self.epoch, limit, dead)
        return [_claimed(row) for row in rows]

    async def strays(self, known: Sequence[str], limit: int) -> list[Claimed]:
        """See the contract."""
        keys = [execution_uuid(name) for name in known]
        with unavailable():
            rows = await self._pool.fetch(sql.STRAYS, self._me, self.epoch, keys, limit)
        return [_claimed(row) for row in rows]

    async def commands(self, execution_ids: Sequence[str]) -> list[Command]:
        """See the contract."""
        keys = [execution_uuid(name) for name in execution_ids]
        with unavailable():
            rows = await self._pool.fetch(sql.COMMANDS, keys)
        found = []
        for row in rows:
            with contextlib.suppress(BlobLost):  # it is logged, and must not stop those of others
                found.append(_command(await self._sealer.unseal_row(row, ("payload",))))
        return found

    async def expire(self, waits: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
        """See the contract."""
        keys = sorted({execution_uuid(name) for name, _ in waits})
        asked = [execution_uuid(name) for name, _ in waits], [wait for _, wait in waits]
        async with self._transaction() as connection:
            ours = await connection.fetch(sql.OURS, self._me, self.epoch, keys)
            if len(ours) < len(keys):
                raise FencedOut(
                    f"Coordinator {self._me!r} at epoch {self.epoch} may not expire waits"
                )
            await connection.execute(sql.EXPIRED, *asked)
            rows = await connection.fetch(sql.ANSWERED_BEFORE, *asked)
        return {(execution_id(row["execution_id"]), row["wait_id"]) for row in rows}

    async def park(self, rests: Sequence[tuple[str, float | None]]) -> None:
        """See the contract."""
        wakes = {execution_uuid(name): moment(wake_at) for name, wake_at in rests}
        async with self._transaction() as connection:
            ours = await connection.fetch(sql.OURS, self._me, self.epoch, sorted(wakes))
            keys = [row["execution_id"] for row in ours if row["status"] == "waiting"]
            await connection.execute(sql.PARKED, keys, [wakes[key] for key in keys])

    async def release(self) -> None:
        """See the contract. Waits for appends in flight; later ones are fenced out."""
        async with self._transaction() as connection:
            await connection.execute(sql.END_LEASE, self._me, self.epoch)
            await connection.execute(sql.GIVE_UP, self._me, self.epoch)
            await connection.execute(sql.GIVEN_UP)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        with unavailable():
            async with self._pool.acquire() as connection, connection.transaction():
                yield connection

    @contextlib.asynccontextmanager
    async def _fenced(self) -> AsyncIterator[None]:
        try:
            with unavailable():
                yield
        except asyncpg.UniqueViolationError as error:
            raise _clash(error) from error
        except asyncpg.PostgresError as error:
            if error.sqlstate != "AF001":
                raise StoreError(f"The database refused the write: {error}") from error
            raise FencedOut(
                f"Coordinator {self._me!r} at epoch {self.epoch} may not write: {error}"
            ) from error


def _command(row: Mapping[str, Any]) -> Command:
    return Command(
        id=row["id"],
        execution_id=execution_id(row["execution_id"]),
        kind=row["kind"],
        payload=unseal(row["payload"]),
        wait=row["wait"],
        by=row["asked_by"] or "",
        at=row["at"].timestamp(),
    )


def _claimed(row: asyncpg.Record) -> Claimed:
    return Claimed(
        execution_id=execution_id(row["execution_id"]),
        tenant=tenant_id(row["tenant_id"]),
        content_hash=row["content_hash"],
        spec=unseal(row["spec"]),
        strikes=row["strikes"],
    )


def _clash(error: asyncpg.UniqueViolationError) -> StoreError | Conflict:
    if error.constraint_name == "executions_pkey":
        return Conflict("An execution with this id exists already")
    if error.constraint_name == "journal_pkey":
        # An append of ours, whose end we did not hear of, was committed after all.
        return StoreUnavailable("The journal holds events that were sent before; its tail is stale")
    return StoreError(f"The database refused the write: {error}")


_WITH_MORE = (ExecutionStarted, ExecutionResumed, ExecutionWaiting, StepWaiting, StepLate)


def _has_more_than_rows(append: Append) -> bool:
    """Whether it takes more than one statement."""
    if append.commands or append.closes:
        return True
    with_more = _WITH_MORE if append.accept is None else _WITH_MORE[1:]
    return any(isinstance(event, with_more) for event in append.events)


def _answered(batch: Sequence[Append]) -> list[int]:
    return [command for append in batch for command in append.commands]
