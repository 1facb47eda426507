"""PostgreSQL: pooled connections, bound parameters, read-only where nothing is to be written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import msgspec
from asyncpg.pool import PoolConnectionProxy

from agentflow.errors import ConnectionFailed, ProviderAuthError, ProviderRejected, StepError
from agentflow.sources import sql
from agentflow.sources.postgres_values import CODECS, bound, columns_of
from agentflow.sources.sql import RowFile, SqlReply, SqlRequest
from agentflow.sources.sqlserver import (
    CONNECT_S,
    TIMEOUT_S,
    Address,
    Server,
    failed,
    tls,
    would_change,
)
from agentflow.spec.sql import POSTGRES

Json = Any
Connection = asyncpg.Connection | PoolConnectionProxy
_FAULTS = (
    asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError
)  # fmt: skip
"""What the driver raises; ValueError where a value cannot be read."""
_IDLE_S = 60.0
_GRACE_S = 2.0
"""How much longer than the server we wait for the end of a statement."""

_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
)
_ROLLED_BACK = (
    asyncpg.TransactionRollbackError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutdatedSchemaCacheError,
)


class PostgresSource:
    """One PostgreSQL database; its connections are shared by every statement of a tenant's steps."""

    def __init__(self, server: Server) -> None:
        self._server = server
        config = server.config
        size = int(config.get("pool_size") or 5) + int(config.get("max_overflow", 10) or 0)
        self._wait_s = float(config.get("pool_timeout") or 30.0)
        self._opening, self._opened = asyncio.Lock(), False
        self._pool = asyncpg.create_pool(
            connect=self._connect,
            min_size=0,
            max_size=size,
            max_inactive_connection_lifetime=_IDLE_S,
            init=_initialise,
        )

    async def execute(self, request: SqlRequest, file: RowFile | None = None) -> SqlReply:
        """Execute a statement once, in a transaction of its own. Raises StepError."""
        statement = self._server.check(request, POSTGRES)
        order: list[str] = []

        def place(name: str) -> str:
            if name not in order:
                order.append(name)
            return f"${order.index(name) + 1}"

        text = statement.rewritten(place)
        values = [request.values[name] for name in order]
        address = self._server.address()
        limit = self._server.timeout_s(request, file is not None)
        async with self._acquired(address) as connection:
            progress: list[str] = []
            try:
                async with asyncio.timeout(limit + _GRACE_S):
                    given = connection, request, text, order, values, limit, progress
                    if request.mode == "read":
                        return await self._read(*given, file)
                    return await self._write(*given)
            except StepError:
                raise
            except TimeoutError:
                raise self._server.after(progress, address.late(limit)) from None
            except _FAULTS as error:
                raise self._server.after(progress, _meant(error, address, limit)) from None

    async def _read(
        self,
        connection: Connection,
        request: SqlRequest,
        text: str,
        names: Sequence[str],
        values: Sequence[Json],
        limit: float,
        progress: list[str],
        file: RowFile | None,
    ) -> SqlReply:
        async with _transaction(connection, [], readonly=True):
            await connection.execute(_limits(limit))
            progress.append("begun")
            statement = await connection.prepare(text)
            fitted = bound(statement.get_parameters(), names, values)
            cursor = await statement.cursor(*fitted)
            if request.offset:
                await cursor.forward(request.offset)
            rows = self._server.result(columns_of(statement), request, file)
            await sql.take(rows, cursor.fetch)
            return rows.reply()

    async def _write(
        self,
        connection: Connection,
        request: SqlRequest,
        text: str,
        names: Sequence[str],
        values: Sequence[Json],
        limit: float,
        progress: list[str],
    ) -> SqlReply:
        """With a dedupe table the effect and the row that tells of it are one transaction. ``progress``
        tells how far it came."""
        table = self._server.dedupe_table()
        async with _transaction(connection, progress, isolation="read_committed"):
            await connection.execute(f"SET TRANSACTION READ WRITE; {_limits(limit)}")
            progress.append("begun")
            if table is not None and not await self._claimed(connection, table, request.key):
                kept = f"SELECT result FROM {table} WHERE key = $1"
                reply = sql.remembered(await connection.fetchval(kept, request.key))
            else:
                reply = await self._changed(connection, request, text, names, values)
                if table is not None:
                    keep = f"UPDATE {table} SET result = $2 WHERE key = $1"
                    await connection.execute(keep, request.key, sql.recorded(reply))
        return reply

    async def _claimed(self, connection: Connection, table: str, key: str) -> bool:
        """Whether this transaction is the first with this key; waits for one that is under way."""
        claim = f"INSERT INTO {table} (key) VALUES ($1) ON CONFLICT (key) DO NOTHING RETURNING key"
        try:
            return await connection.fetchval(claim, key) is not None
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            raise self._server.no_dedupe_table(table) from None

    async def _changed(
        self,
        connection: Connection,
        request: SqlRequest,
        text: str,
        names: Sequence[str],
        values: Sequence[Json],
    ) -> SqlReply:
        statement = await connection.prepare(text)
        fitted = bound(statement.get_parameters(), names, values)
        columns = columns_of(statement)
        rows = self._server.result(columns, request)
        if not columns:
            await statement.fetch(*fitted)
            word, _, count = (statement.get_statusmsg() or "").rpartition(" ")
            return SqlReply(row_count=int(count) if word and count.isdecimal() else 0)
        cursor, changed, wanted, found = await statement.cursor(*fitted), 0, 0, 0
        while found == wanted:  # to the end, so that all of the statement takes effect
            wanted = rows.batch(sql.BATCH_ROWS)
            given = await cursor.fetch(wanted)
            await rows.add(given)
            found = len(given)
            changed += found
        return msgspec.structs.replace(rows.reply(), row_count=changed)

    async def prepare(self) -> str:
        """Create the dedupe table where it is not there; its name. Raises StepError."""
        table = self._server.dedupe_table() or sql.DEDUPE_TABLE
        address = self._server.address()
        async with self._acquired(address) as connection:
            try:
                await connection.execute(
                    f"BEGIN READ WRITE; CREATE TABLE IF NOT EXISTS {table} (key text PRIMARY KEY, "
                    "result text, at timestamptz NOT NULL DEFAULT now()); COMMIT"
                )
            except _FAULTS as error:
                raise _meant(error, address, TIMEOUT_S) from None
        return table

    @asynccontextmanager
    async def _acquired(self, address: Address) -> AsyncIterator[Connection]:
        """A connection of the pool. Raises StepError where none can be had."""
        try:
            async with self._opening:
                await self._pool
                self._opened = True
            connection = await self._pool.acquire(timeout=self._wait_s)
        except TimeoutError:
            raise ConnectionFailed(
                f"{address.where}: no connection within {self._wait_s:g} s"
            ) from None
        except _FAULTS as error:
            raise _unreachable(error, address) from None
        try:
            yield connection
        finally:
            await _released(self._pool, connection)

    async def _connect(self, *_: Any, **more: Any) -> asyncpg.Connection:
        """A new connection, to an address that was checked."""
        address = self._server.address()
        host = await self._server.reachable(address)
        settings = {
            "application_name": "agentflow",
            "timezone": "UTC",
            "datestyle": "ISO",
            "intervalstyle": "iso_8601",
            "standard_conforming_strings": "on",
            "default_transaction_read_only": "on",
        }
        if self._server.config.get("schema"):
            schema = str(self._server.config["schema"]).replace('"', '""')
            settings["search_path"] = f'"{schema}"'
        encrypted: Any = tls(address) if address.ssl == "verify-full" else address.ssl
        kept = {
            name: more[name]
            for name in ("loop", "connection_class", "record_class")
            if name in more
        }
        try:
            return await asyncpg.connect(
                host=host,
                port=address.port,
                user=address.user,
                password=address.password,
                database=address.database,
                ssl=encrypted,
                timeout=CONNECT_S,
                server_settings=settings,
                **kept,
            )
        except TimeoutError:
            raise ConnectionFailed(
                f"No connection to {address.where} within {CONNECT_S:g} s"
            ) from None

    async def close(self) -> None:
        """Close every connection."""
        if not self._opened:
            return
        try:
            await asyncio.wait_for(self._pool.close(), 5)
        except TimeoutError:
            self._pool.terminate()


async def _released(pool: asyncpg.Pool, connection: Any) -> None:
    """Give a connection back, clean; the pool itself closes one that cannot be cleaned."""
    try:
        await pool.release(connection, timeout=5)
    except _FAULTS:
        pass


@asynccontextmanager
async def _transaction(
    connection: Connection, progress: list[str], **kind: Any
) -> AsyncIterator[None]:
    """A transaction, committed at the end. One that fails is rolled back, or where the server does not
    answer to that, its connection ends, and so it does."""
    transaction = connection.transaction(**kind)
    await transaction.start()
    try:
        yield
    except BaseException:
        try:
            async with asyncio.timeout(_GRACE_S):
                await transaction.rollback()
        except _FAULTS:  # TimeoutError is one
            connection.terminate()
        raise
    progress.append("committing")
    await transaction.commit()


def _limits(seconds: float) -> str:
    millis = max(int(seconds * 1000), 1)
    return f"SET LOCAL statement_timeout = {millis}; SET LOCAL lock_timeout = {millis}"


def _meant(error: Exception, address: Address, limit: float) -> StepError:
    """The step error of an error of the driver."""
    if isinstance(error, asyncpg.QueryCanceledError | asyncpg.LockNotAvailableError):
        return address.late(limit)
    if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
        return would_change()
    if isinstance(error, asyncpg.DataError | ValueError):
        return failed(address, str(error))
    if isinstance(error, _LOST):
        return address.lost(type(error).__name__)
    code = str(getattr(error, "sqlstate", "") or "")
    if isinstance(error, _ROLLED_BACK):
        return address.rolled_back(f"{type(error).__name__}, {code}")
    return failed(address, str(error), code)


def _unreachable(error: Exception, address: Address) -> StepError:
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return ProviderAuthError(
            f"{address.where} refused user {address.user!r} ({type(error).__name__}): check the "
            "variable that dsn_env names"
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return ProviderRejected(f"{address.where} does not exist")
    if "SSL" in str(error) or "ssl" in type(error).__name__.lower():
        return ProviderRejected(
            f"{address.where} allows no connection with ssl {address.ssl!r}: its certificate does not "
            "fit, it has none, or it is no PostgreSQL server"
        )
    return ConnectionFailed(f"No connection to {address.where} ({type(error).__name__})")


async def _initialise(connection: Connection) -> None:
    """Types that Python would not keep as they are come and go as the server writes them."""
    for name, (encode, decode) in CODECS.items():
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encode, decoder=decode, format="text"
        )
