"""MySQL and MariaDB: pooled connections, bound parameters, read-only where nothing is to be written."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiomysql
import pymysql
from pymysql.constants import CLIENT, FIELD_TYPE, FLAG

from agentflow.errors import (
    ConnectionFailed,
    ProviderAuthError,
    ProviderRejected,
    StepError,
)
from agentflow.sources import sql
from agentflow.sources.jsontext import read_json
from agentflow.sources.mysql_values import literal, with_t
from agentflow.sources.sql import Column, RowFile, SqlReply, SqlRequest
from agentflow.sources.sqlserver import (
    CONNECT_S,
    TIMEOUT_S,
    Address,
    Server,
    failed,
    tls,
    would_change,
)
from agentflow.spec.sql import MYSQL

Json = Any
_FAULTS = (
    pymysql.err.Error, OSError, EOFError, ValueError, IndexError, struct.error, AssertionError
)  # fmt: skip
"""What the driver raises: its own errors, and what it stumbles over in a reply that is garbage."""
_IDLE_S = 60.0
_GRACE_S = 2.0
_LATE = (1205, 1317, 1969, 3024)
"""Lock wait, interrupted, and the limit of a statement, of MariaDB and of MySQL."""
_LOST = (0, 1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1927, 2006, 2013, 2055, 4031)
_ROLLED_BACK = (1020, 1021, 1037, 1041, 1213, 1613, 1614)
_READ_ONLY = (1290, 1792, 1836)
_NO_TABLE = (1054, 1146)
_INIT = (
    "SET SESSION time_zone = '+00:00', autocommit = 1, sql_mode = "
    "REPLACE(REPLACE(@@SESSION.sql_mode, 'NO_BACKSLASH_ESCAPES', ''), 'ANSI_QUOTES', '')"
)


_DECODERS: dict[int, Callable[[Any], Any]] = {
    **dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.LONG, FIELD_TYPE.INT24), int),
    **dict.fromkeys((FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR), int),
    **dict.fromkeys((FIELD_TYPE.FLOAT, FIELD_TYPE.DOUBLE), float),
    FIELD_TYPE.DATETIME: with_t,
    FIELD_TYPE.TIMESTAMP: lambda text: with_t(text) + "Z",
    FIELD_TYPE.BIT: lambda data: int.from_bytes(data, "big"),
    FIELD_TYPE.JSON: read_json,
}
"""Types that do not stay as the server writes them."""
_BINARY = 63
"""The character set of what is no text."""
_COLUMNS = {
    **dict.fromkeys((FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.LONG, FIELD_TYPE.INT24), "int64"),
    **dict.fromkeys((FIELD_TYPE.LONGLONG, FIELD_TYPE.YEAR), "int64"),
    **dict.fromkeys((FIELD_TYPE.DECIMAL, FIELD_TYPE.NEWDECIMAL), "decimal"),
    FIELD_TYPE.FLOAT: "float32", FIELD_TYPE.DOUBLE: "float64", FIELD_TYPE.BIT: "uint64",
    FIELD_TYPE.DATE: "date", FIELD_TYPE.NEWDATE: "date", FIELD_TYPE.DATETIME: "timestamp",
    FIELD_TYPE.TIMESTAMP: "timestamptz", FIELD_TYPE.JSON: "json",
    FIELD_TYPE.TIME: "text", FIELD_TYPE.GEOMETRY: "bytes",
}  # fmt: skip
"""The others are text or bytes. A TIME is a length of up to 838 hours."""


class _Connection(aiomysql.Connection):  # type: ignore[misc]
    """A connection that says nothing to a server which does not encrypt, where it must."""

    needs_tls = False

    async def _request_authentication(self) -> None:
        if self.needs_tls and not self.server_capabilities & CLIENT.SSL:
            raise _NoTls()
        await super()._request_authentication()


class _NoTls(Exception):
    """The server does not encrypt."""


class MysqlSource:
    """One MySQL or MariaDB database; its connections are shared by every statement of a tenant."""

    def __init__(self, server: Server) -> None:
        self._server = server
        config = server.config
        size = int(config.get("pool_size") or 5) + int(config.get("max_overflow", 10) or 0)
        self._wait_s = float(config.get("pool_timeout") or 30.0)
        self._room = asyncio.Semaphore(size)
        self._free: list[tuple[_Connection, float]] = []

    async def execute(self, request: SqlRequest, file: RowFile | None = None) -> SqlReply:
        """Execute a statement once, in a transaction of its own. Raises StepError."""
        statement = self._server.check(request, MYSQL)
        names: list[str] = []

        def place(name: str) -> str:
            names.append(name)
            return "?"

        text = statement.rewritten(place)
        literals = [literal(name, request.values[name]) for name in names]
        address = self._server.address()
        limit = self._server.timeout_s(request, file is not None)
        progress: list[str] = []
        async with self._acquired(address) as connection:
            try:
                async with asyncio.timeout(limit + _GRACE_S):
                    given = connection, request, text, literals, limit, progress
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
        connection: _Connection,
        request: SqlRequest,
        text: str,
        literals: Sequence[str],
        limit: float,
        progress: list[str],
        file: RowFile | None,
    ) -> SqlReply:
        most = self._server.most_rows(request, file is not None)
        await self._limit(connection, limit, request.offset + most + 1)
        await connection.query("START TRANSACTION READ ONLY")
        progress.append("begun")
        cursor = await self._performed(connection, text, literals)
        for _ in range(request.offset):
            if await cursor.fetchone() is None:
                break
        rows = self._server.result(_columns(cursor), request, file)
        await sql.take(rows, partial(_fetched, cursor))
        if rows.truncated and await cursor.fetchone() is not None:
            connection.close()  # the rest is not wanted, however long it is
        else:
            await cursor.close()
            await connection.query("ROLLBACK")
        return rows.reply()

    async def _write(
        self,
        connection: _Connection,
        request: SqlRequest,
        text: str,
        literals: Sequence[str],
        limit: float,
        progress: list[str],
    ) -> SqlReply:
        """With a dedupe table the effect and the row that tells of it are one transaction."""
        table = self._server.dedupe_table()
        key = literal("key", request.key)
        await self._limit(connection, limit, None)
        await connection.query("START TRANSACTION READ WRITE")
        progress.append("begun")
        if table is not None and not await self._claimed(connection, table, key):
            kept = await _cell(connection, f"SELECT result FROM {table} WHERE `key` = {key}")
            await connection.query("ROLLBACK")
            return sql.remembered(kept)
        cursor = await self._performed(connection, text, literals)
        rows = self._server.result(_columns(cursor), request)
        while cursor.description and (found := await _fetched(cursor, sql.FIRST_ROWS)):
            await rows.add(found)
        reply = rows.reply()
        if not cursor.description:
            reply = SqlReply(row_count=max(int(cursor.rowcount), 0))
        await cursor.close()
        if table is not None:
            kept = literal("result", sql.recorded(reply))
            await connection.query(f"UPDATE {table} SET result = {kept} WHERE `key` = {key}")
        progress.append("committing")
        await connection.query("COMMIT")
        return reply

    async def _claimed(self, connection: _Connection, table: str, key: str) -> bool:
        """Whether this transaction is the first with this key; waits for one that is under way."""
        try:
            changed = await connection.query(f"INSERT IGNORE INTO {table} (`key`) VALUES ({key})")
        except pymysql.err.Error as error:
            if _code(error) in _NO_TABLE:
                raise self._server.no_dedupe_table(table) from None
            raise
        return bool(changed)

    async def _performed(
        self, connection: _Connection, text: str, literals: Sequence[str]
    ) -> aiomysql.SSCursor:
        """The statement, prepared by the server (which takes one statement only) and executed with
        values that are no part of it. No text of an author is ever sent outside a literal."""
        values = [f"@agentflow_{index} = {value}" for index, value in enumerate(literals)]
        settings = ", ".join([f"@agentflow_text = {literal('query', text)}", *values])
        await connection.query(f"SET {settings}")
        await connection.query("PREPARE agentflow FROM @agentflow_text")
        using = ", ".join(f"@agentflow_{index}" for index in range(len(literals)))
        cursor = await connection.cursor(aiomysql.SSCursor)
        await cursor.execute(f"EXECUTE agentflow{' USING ' if using else ''}{using}")
        return cursor

    async def _limit(self, connection: _Connection, seconds: float, rows: int | None) -> None:
        """Have the server keep the limits of a statement too."""
        if "mariadb" in connection.get_server_info().lower():
            limit = f"max_statement_time = {seconds:.3f}"
        else:
            limit = f"max_execution_time = {max(int(seconds * 1000), 1)}"
        wait = max(int(seconds), 1)
        most = "DEFAULT" if rows is None else str(rows)
        await connection.query(
            f"SET SESSION {limit}, innodb_lock_wait_timeout = {wait}, sql_select_limit = {most}"
        )

    async def prepare(self) -> str:
        """Create the dedupe table where it is not there; its name. Raises StepError."""
        table = self._server.dedupe_table() or sql.DEDUPE_TABLE
        address = self._server.address()
        async with self._acquired(address) as connection:
            try:
                await connection.query(
                    f"CREATE TABLE IF NOT EXISTS {table} (`key` VARCHAR(100) CHARACTER SET ascii "
                    "COLLATE ascii_bin PRIMARY KEY, result LONGTEXT CHARACTER SET utf8mb4, "
                    "at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE = InnoDB"
                )
            except _FAULTS as error:
                raise _meant(error, address, TIMEOUT_S) from None
        return table

    @asynccontextmanager
    async def _acquired(self, address: Address) -> AsyncIterator[_Connection]:
        """A connection; it is kept for the next one unless something went wrong. Raises StepError."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._room.acquire()
        except TimeoutError:
            raise ConnectionFailed(
                f"{address.where}: no connection within {self._wait_s:g} s"
            ) from None
        connection: _Connection | None = None
        try:
            connection = self._kept() or await self._connect(address)
            yield connection
            if not connection.closed:
                self._free.append((connection, time.monotonic()))
                connection = None
        finally:
            if connection is not None:
                connection.close()
            self._room.release()

    def _kept(self) -> _Connection | None:
        """A free connection that still lives."""
        while self._free:
            connection, since = self._free.pop()
            reader = connection._reader
            dead = connection.closed or reader is None or reader.at_eof() or reader.exception()
            if not dead and time.monotonic() - since < _IDLE_S:
                return connection
            connection.close()
        return None

    async def _connect(self, address: Address) -> _Connection:
        """A new connection, to an address that was checked. Raises StepError."""
        try:
            async with asyncio.timeout(CONNECT_S):
                host = await self._server.reachable(address)
        except TimeoutError as error:
            raise _unreachable(error, address) from None
        connection = _Connection(
            host=host,
            port=address.port,
            user=address.user,
            password=address.password,
            db=address.database,
            charset="utf8mb4",
            connect_timeout=CONNECT_S,
            conv=_DECODERS,
            ssl=tls(address),
            init_command=_INIT,
            program_name="agentflow",
        )
        connection.needs_tls = address.ssl != "prefer"
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection._connect()
        except BaseException as error:
            connection.close()
            if isinstance(error, (*_FAULTS, TimeoutError, _NoTls)):
                raise _unreachable(error, address) from None
            raise
        return connection

    async def close(self) -> None:
        """Close every connection that is not in use; the others close when they are given back."""
        self._room = asyncio.Semaphore(0)
        for connection, _ in self._free:
            connection.close()
        self._free.clear()


async def _cell(connection: _Connection, text: str) -> str | None:
    cursor = await connection.cursor()
    await cursor.execute(text)
    row = await cursor.fetchone()
    await cursor.close()
    return row[0] if row else None


def _columns(cursor: aiomysql.Cursor) -> list[Column]:
    """The columns of a result, with their types as the server tells them."""
    found = []
    for field in cursor._result.fields if cursor.description else ():
        text = "bytes" if field.charsetnr == _BINARY else "text"
        kind = _COLUMNS.get(field.type_code, text)
        if kind == "int64" and field.flags & FLAG.UNSIGNED:
            kind = "uint64"
        found.append(Column(field.name, kind))
    return found


async def _fetched(cursor: aiomysql.SSCursor, wanted: int) -> list[Any]:
    """So many more rows, or all that are left."""
    found: list[Any] = []
    while len(found) < wanted and (row := await cursor.fetchone()) is not None:
        found.append(row)
    return found


def _code(error: BaseException) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else -1


def _meant(error: BaseException, address: Address, limit: float) -> StepError:
    """The step error of an error of the driver."""
    code = _code(error)
    if not isinstance(error, pymysql.err.Error) or code in _LOST:
        if isinstance(error, UnicodeDecodeError):
            return failed(address, "it sent text that is not UTF-8")
        return address.lost(f"{type(error).__name__}, {code}")
    if code in _LATE:
        return address.late(limit)
    if code in _READ_ONLY:
        return would_change()
    if code in _ROLLED_BACK:
        return address.rolled_back(str(code))
    return failed(address, str(error.args[-1]), str(code))


def _unreachable(error: BaseException, address: Address) -> StepError:
    cause = error.__cause__ or error.__context__
    told = f"{error} {cause}"
    if isinstance(error, _NoTls) or "CERTIFICATE" in told.upper() or "SSL" in told.upper():
        return ProviderRejected(
            f"{address.where} allows no connection with ssl {address.ssl!r}: its certificate does not "
            "fit, it has none, or it is no MySQL server"
        )
    if _code(error) in (1044, 1045, 1698):
        return ProviderAuthError(
            f"{address.where} refused user {address.user!r} ({_code(error)}): check the variable that "
            "dsn_env names"
        )
    if _code(error) == 1049:
        return ProviderRejected(f"{address.where} does not exist")
    return ConnectionFailed(f"No connection to {address.where} ({type(error).__name__})")
