"""The journal in PostgreSQL: every write proves, in the statement that inserts, that it may."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import asyncpg

from agentflow.errors import Conflict, FencedOut, StoreError, StoreUnavailable
from agentflow.execution.events import (
    Event,
    ExecutionResumed,
    ExecutionStarted,
    ModelCall,
    StepCompleted,
    StepLate,
    decode,
    encode,
    kind,
)
from agentflow.execution.journal import Append, Claimed, Command, Recorded, Submission
from agentflow.store import statements as sql
from agentflow.store.pool import Connection, unavailable
from agentflow.store.rows import execution_id, execution_uuid, seal, tenant_id, tenant_uuid, unseal

RETENTION_DAYS = 90
"""How long an execution is kept after its end, where its workflow does not say."""
LONGEST_DAYS = 1_000_000
"""More than that no calendar of the database holds."""


class PostgresJournal:
    """The journal as the coordinator ``coordinator_id`` uses it. See execution.journal.Journal.

    Appends may be called concurrently for different executions; each takes a connection of the pool.
    After StoreUnavailable call :meth:`enter` and then :meth:`last_seq` before sending again: entering
    waits for what this coordinator still has in flight at the server.
    """

    def __init__(self, pool: asyncpg.Pool, coordinator_id: str, lease_s: float) -> None:
        self.epoch = 0
        self._pool, self._me, self._lease_s = pool, coordinator_id, lease_s
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
            if any(map(_has_more_than_events, batch)):
                async with self._pool.acquire() as connection, connection.transaction():
                    await self._append_all(connection, batch)
            else:
                async with self._pool.acquire() as connection:
                    await self._append_events(connection, batch)

    async def _append_all(self, connection: Connection, batch: Sequence[Append]) -> None:
        accepted = [append for append in batch if append.accept]
        if accepted:
            await connection.execute(sql.ACCEPT, self._me, self.epoch, *_accept_columns(accepted))
        await self._append_events(connection, batch)
        started = [
            (append, at) for append in batch if not append.accept and (at := _started_at(append))
        ]
        if started:
            ids = [execution_uuid(append.execution_id) for append, _ in started]
            await connection.execute(sql.STARTED, ids, [at for _, at in started])
        answered = [command for append in batch for command in append.commands]
        if answered:
            await connection.fetchval(sql.ANSWERED, answered, len(answered))
        over = [append for append in batch if append.outcome]
        if over:
            await connection.execute(sql.OVER, *_outcome_columns(over), *_step_columns(over))
        late = _late_rows(batch)
        if late:
            await connection.execute(sql.LATE, *_columns(late, 3))

    async def _append_events(self, connection: Connection, batch: Sequence[Append]) -> None:
        columns = _event_columns(batch)
        sent = len(columns[0])
        row = await connection.fetchrow(
            sql.APPEND, self._me, self.epoch, list(set(columns[0])), *columns, sent
        )
        if row and row["struck"]:
            await self._clear_strikes(connection, batch, row["struck"])

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

    async def read(self, execution_id: str, after: int = 0) -> list[Recorded]:
        """See the contract."""
        with unavailable():
            rows = await self._pool.fetch(sql.READ, execution_uuid(execution_id), after)
        return [Recorded(row["seq"], decode(row["payload"])) for row in rows]

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
        return [
            Command(
                id=row["id"],
                execution_id=execution_id(row["execution_id"]),
                kind=row["kind"],
                payload=unseal(row["payload"]),
            )
            for row in rows
        ]

    async def release(self) -> None:
        """See the contract. Waits for appends in flight; later ones are fenced out."""
        async with self._transaction() as connection:
            await connection.execute(sql.END_LEASE, self._me, self.epoch)
            await connection.execute(sql.GIVE_UP, self._me, self.epoch)

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


def _has_more_than_events(append: Append) -> bool:
    if append.accept or append.outcome or append.commands:
        return True
    return any(
        isinstance(event, (ExecutionStarted, ExecutionResumed, StepLate)) for event in append.events
    )


def _started_at(append: Append) -> float | None:
    for event in append.events:
        if isinstance(event, (ExecutionStarted, ExecutionResumed)):
            return event.at
    return None


def _columns(rows: list[tuple[object, ...]], width: int) -> list[list[object]]:
    return [[row[index] for row in rows] for index in range(width)]


def _event_columns(batch: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in batch:
        key = execution_uuid(append.execution_id)
        for seq, event in enumerate(append.events, append.first_seq):
            rows.append((key, seq, *_event_row(event)))
    return _columns(rows, 8)


def _event_row(event: Event) -> tuple[object, ...]:
    step = getattr(event, "step", None)
    attempt, generation = getattr(event, "attempt", None), getattr(event, "generation", None)
    return kind(event), step, attempt, generation, encode(event), event.at


def _accept_columns(accepted: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in accepted:
        submission = append.accept
        assert submission is not None
        rows.append(
            (
                tenant_uuid(submission.tenant),
                submission.content_hash,
                seal(submission.spec),
                execution_uuid(submission.execution_id),
                submission.workflow_name,
                submission.priority,
                seal(submission.initial_state),
                seal(submission.metadata),
                submission.trace_id,
                append.events[0].at,
                _started_at(append),
                _retention_days(submission),
            )
        )
    return _columns(rows, 12)


def _retention_days(submission: Submission) -> int:
    settings = submission.spec.get("settings") or {}
    return min(int(settings.get("retention_days", RETENTION_DAYS)), LONGEST_DAYS)


def _late_rows(batch: Sequence[Append]) -> list[tuple[object, ...]]:
    """What results that came after everything else have used: (execution, tokens, dollars).

    An outcome in the same batch holds what came before it.
    """
    calls: dict[str, list[ModelCall]] = {}
    for append in batch:
        if append.outcome:
            calls.pop(append.execution_id, None)
            continue
        for event in append.events:
            if isinstance(event, StepLate):
                calls.setdefault(append.execution_id, []).extend(event.calls)
    return [
        (
            execution_uuid(execution),
            sum(call.usage.total for call in made),
            sum(call.cost for call in made),
        )
        for execution, made in calls.items()
    ]


def _outcome_columns(over: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in over:
        outcome = append.outcome
        assert outcome is not None
        rows.append(
            (
                execution_uuid(append.execution_id),
                outcome.status,
                seal(outcome.final_state),
                seal(outcome.output),
                None if outcome.error is None else seal(outcome.error),
                outcome.tokens_used,
                outcome.cost,
                outcome.execution_time,
                outcome.nodes_executed,
                outcome.ended_at,
            )
        )
    return _columns(rows, 10)


def _step_columns(over: Sequence[Append]) -> list[list[object]]:
    rows: list[tuple[object, ...]] = []
    for append in over:
        key, tenant = execution_uuid(append.execution_id), tenant_uuid(append.tenant)
        for position, step in enumerate(append.outcome.steps if append.outcome else ()):
            name = str(step["step"])
            node = str(step.get("node_id", name))
            generation, status = int(step.get("generation", 0)), str(step.get("status", ""))
            rows.append((key, tenant, position, name, generation, node, status, seal(step)))
    return _columns(rows, 8)
