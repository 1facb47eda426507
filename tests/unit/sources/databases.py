"""The databases side by side: what the tests of each need beside the source, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import aiomysql
import asyncpg

from agentflow.sources.sql import Column, SqlReply, SqlRequest, SqlService
from tests import mariadb

Json = Any
Open = Callable[..., Any]


class Side(Protocol):
    """One database with a table ``t`` of 30 rows: ``id``, ``title`` and ``n``, a number.

    ``text``: its type of a text; ``sleep``: an expression of half a minute; ``slow_write``: a statement
    that changes rows but is as slow; ``taken``: its code for a key that is there already; ``harmless``:
    statements that make a function of this name, which is not, and a sequence ``s`` where it has some.
    """

    name: str
    dsn: str
    text: str
    sleep: str
    slow_write: str
    taken: str
    harmless: tuple[str, ...]

    async def ask(self, *texts: str) -> Json:
        """The first value that the last of these statements gives."""
        ...

    async def working(self, text: str) -> int:
        """The process that executes a statement with this text; waits until there is one."""
        ...

    async def kill(self, process: int) -> None:
        """End the connection of a process."""
        ...

    async def close(self) -> None:
        """Close what is open."""
        ...


class PostgresSide:
    """A database of the embedded PostgreSQL."""

    name = "postgres"
    text = "text"
    sleep = "pg_sleep(30)"
    slow_write = "UPDATE t SET n = 1 FROM pg_sleep(30)"
    taken = "23505"
    harmless = (
        "CREATE SEQUENCE s",
        "CREATE FUNCTION harmless() RETURNS bigint LANGUAGE sql AS "
        "$$ DELETE FROM t; SELECT count(*) FROM t $$",
    )

    def __init__(self, dsn: str, admin: asyncpg.Connection) -> None:
        self.dsn, self.admin = dsn, admin

    @classmethod
    async def open(cls, dsn: str) -> PostgresSide:
        side = cls(dsn, await asyncpg.connect(dsn))
        await side.admin.execute(
            "CREATE TABLE t (id bigint PRIMARY KEY, title text, n numeric);"
            "INSERT INTO t SELECT i, 't' || i, i / 10.0 FROM generate_series(1, 30) i"
        )
        return side

    async def ask(self, *texts: str) -> Json:
        found = None
        for text in texts:
            found = await self.admin.fetchval(text)
        return found

    async def working(self, text: str) -> int:
        query = (
            "SELECT pid FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid() "
            f"AND datname = current_database() AND query LIKE '%{text}%'"
        )
        return int(await found(lambda: self.ask(query)))

    async def kill(self, process: int) -> None:
        await self.ask(f"SELECT pg_terminate_backend({process})")

    async def close(self) -> None:
        await self.admin.close()


class MysqlSide:
    """A database of a MariaDB server of the tests' own."""

    name = "mysql"
    text = "CHAR"
    sleep = "SLEEP(30)"
    slow_write = "UPDATE t SET n = 1 WHERE SLEEP(30) = 0"
    taken = "1062"

    def __init__(self, maria: mariadb.MariaDb, database: str) -> None:
        self.maria, self.database, self.dsn = maria, database, maria.dsn(database)
        self.harmless = (
            "SET GLOBAL log_bin_trust_function_creators = 1",
            f"CREATE FUNCTION {database}.harmless() RETURNS INT BEGIN DELETE FROM {database}.t; "
            "RETURN 1; END",
        )

    @classmethod
    async def open(cls, maria: mariadb.MariaDb, database: str) -> MysqlSide:
        side = cls(maria, database)
        await side.ask(
            f"CREATE DATABASE {database} CHARACTER SET utf8mb4",
            f"CREATE TABLE {database}.t (id BIGINT PRIMARY KEY, title TEXT, n DECIMAL(10,2))",
            f"INSERT INTO {database}.t WITH RECURSIVE s AS (SELECT 1 AS i UNION ALL SELECT i + 1 "
            "FROM s WHERE i < 30) SELECT i, CONCAT('t', i), i / 10 FROM s",
        )
        return side

    async def ask(self, *texts: str) -> Json:
        connection = await aiomysql.connect(
            host="127.0.0.1",
            port=self.maria.port,
            user="af",
            password=mariadb.PASSWORD,
            autocommit=True,
        )
        async with connection.cursor() as cursor:
            for text in texts:
                await cursor.execute(text)
            row = await cursor.fetchone()
        connection.close()
        return row[0] if row else None

    async def working(self, text: str) -> int:
        query = (
            "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() "
            f"AND command <> 'Sleep' AND info LIKE '%{text}%'"
        )
        return int(await found(lambda: self.ask(query)))

    async def kill(self, process: int) -> None:
        await self.ask(f"KILL CONNECTION {process}")

    async def close(self) -> None:
        await self.ask(f"DROP DATABASE {self.database}")


async def found(look: Callable[[], Any]) -> Json:
    """What a look gives as soon as it gives something."""
    async with asyncio.timeout(20):
        while (seen := await look()) is None:
            await asyncio.sleep(0)
    return seen


def read(text: str, **more: Json) -> SqlRequest:
    values = {
        name: more.pop(name) for name in list(more) if name not in SqlRequest.__struct_fields__
    }
    return SqlRequest(text=text, values=values, **more)


def write(text: str, **more: Json) -> SqlRequest:
    return read(text, **{"mode": "write", "key": "k1", **more})


async def one(source: SqlService, expression: str, **more: Json) -> Json:
    return (await source.execute(read(f"SELECT {expression} AS v", **more))).rows[0]["v"]


class Batches:
    """A file that counts. It holds no rows, and stops at the first batch until it may go on."""

    def __init__(self, *, stops: bool = False) -> None:
        self.columns: tuple[Column, ...] = ()
        self.sizes: list[int] = []
        self.begun, self.go_on = asyncio.Event(), asyncio.Event()
        if not stops:
            self.go_on.set()

    def begin(self, columns: Sequence[Column], most_bytes: int) -> None:
        self.columns = tuple(columns)

    async def add(self, rows: Sequence[Sequence[Any]]) -> int:
        self.sizes.append(len(rows))
        self.begun.set()
        await self.go_on.wait()
        return sum(len(str(value)) for row in rows for value in row)


class Insistence:
    """Writes that are tried until they are done; ``lost`` counts the tries that were lost."""

    def __init__(
        self, source: SqlService, insert: str, lost_as: tuple[type[Exception], ...]
    ) -> None:
        self._source, self._insert, self._lost_as = source, insert, lost_as
        self.lost = 0

    async def write(self, number: int) -> SqlReply:
        request = write(self._insert, k=number, key=f"k{number}")
        while True:
            try:
                return await self._source.execute(request)
            except self._lost_as:
                self.lost += 1
                await asyncio.sleep(0.02)

    def begin(self, numbers: range) -> list[asyncio.Task[SqlReply]]:
        return [asyncio.create_task(self.write(number)) for number in numbers]
