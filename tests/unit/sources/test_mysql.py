"""MySQL sources, on a real MariaDB server that is killed and started again; see also test_databases."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentflow.errors import ConnectionFailed, ProviderUnavailable
from tests.unit.sources.databases import Batches, Insistence, MysqlSide, Open, one, read, write
from tests.unit.sources.test_databases import MANY

Json = Any


@pytest.fixture
def database(mysql: MysqlSide) -> MysqlSide:
    """The database of this module's tests."""
    return mysql


async def test_mysql_gives_every_type_as_json(open_source: Open, mysql: MysqlSide) -> None:
    source = await open_source(allow_write=True)
    await mysql.ask(
        f"CREATE TABLE {mysql.database}.v (a DECIMAL(20,4), b DATE, c DATETIME(3), d TIMESTAMP(0) NULL, "
        "e TIME, f UUID, g VARBINARY(9), h JSON, i BIT(9), j FLOAT, k DOUBLE, l BIGINT UNSIGNED, "
        "m TINYINT(1), n ENUM('x', 'y'), o YEAR, p TEXT, q INT, r BLOB)",
    )
    row = {
        "a": "12345678901234.5000",
        "b": "2026-02-03",
        "c": "2026-02-03T04:05:06.789",
        "d": "2026-02-03T04:05:06Z",
        "e": "-100:02:03",
        "f": "5c0f6f2e-0000-4000-8000-000000000001",
        "h": '{"a": [1, null]}',
        "j": 0.1,
        "k": 1e300,
        "l": 2**64 - 1,
        "m": 1,
        "n": "y",
        "o": 2026,
        "p": "caf\u00e9 \U0001f600",
        "q": None,
    }
    given = {**row, "d": "2026-02-03 04:05:06"}
    names = ", ".join(given)
    places = ", ".join(f":{name}" for name in given)
    insert = f"INSERT INTO v ({names}, g, i, r) VALUES ({places}, X'00FF', b'100000001', '')"
    await source.execute(write(insert, **given))
    reply = await source.execute(read("SELECT * FROM v"))
    assert reply.rows == [{**row, "g": "AP8=", "i": 257, "r": ""}]


async def test_mysql_binds_numbers_and_values(open_source: Open) -> None:
    source = await open_source()
    for value, wanted in ((7, 7), (-1.5, -1.5), (1e-7, 1e-7), (True, 1), (None, None),
                          ({"a": ["\u00e9"]}, '{"a":["\u00e9"]}'), (2**63, 2**63)):  # fmt: skip
        assert await one(source, ":a", a=value) == wanted
    reply = await source.execute(read("SELECT id FROM t WHERE title = :t LIMIT :n", t="t7", n=5))
    assert reply.rows == [{"id": 7}]


async def test_mysql_goes_on_after_its_server_was_killed(
    open_source: Open, mysql: MysqlSide
) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    await source.prepare()
    insert = write("INSERT INTO t (id) VALUES (41)")
    await source.execute(insert)
    file = Batches(stops=True)
    streaming = asyncio.create_task(source.execute(read(MANY, limit=10**8), file))
    await asyncio.wait_for(file.begun.wait(), 10)
    task = asyncio.create_task(one(source, "SLEEP(30)"))
    await mysql.working("SLEEP(30)")
    try:
        await asyncio.to_thread(mysql.maria.stop)
        file.go_on.set()
        for lost in (task, streaming):
            with pytest.raises(ProviderUnavailable, match="was lost"):
                await asyncio.wait_for(lost, 20)
        with pytest.raises(ConnectionFailed):
            await one(source, "1")
    finally:
        await asyncio.to_thread(mysql.maria.start)
    assert await one(source, "1") == 1
    assert (await source.execute(insert)).repeated


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
async def test_mysql_encrypts(open_source: Open, mysql: MysqlSide, mode: str) -> None:
    options = f"?ssl-ca={mysql.maria.authority}" if mode == "verify-full" else ""
    source = await open_source(mysql.dsn + options, ssl=mode)
    query = (
        "SELECT VARIABLE_VALUE AS v FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = :n"
    )
    assert (await source.execute(read(query, n="Ssl_cipher"))).rows[0]["v"].startswith("TLS")


async def test_mysql_writes_once_each_though_its_server_is_killed(
    open_source: Open, mysql: MysqlSide
) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    await source.prepare()
    insert = "INSERT INTO t (id, title) VALUES (:k, 'x') RETURNING id"
    insistence = Insistence(source, insert, (ProviderUnavailable, ConnectionFailed))
    for first in range(100, 160, 30):
        writes = insistence.begin(range(first, first + 30))
        await writes[0]
        await asyncio.to_thread(mysql.maria.stop)
        await asyncio.to_thread(mysql.maria.start)
        replies = await asyncio.wait_for(asyncio.gather(*writes), 30)
        assert [reply.rows for reply in replies] == [[{"id": n}] for n in range(first, first + 30)]
    assert await one(source, "(SELECT COUNT(*) FROM t WHERE id >= 100)") == 60 and insistence.lost


async def test_mysql_tells_the_types_of_the_columns_of_a_file(
    open_source: Open, mysql: MysqlSide
) -> None:
    await mysql.ask(
        f"CREATE TABLE {mysql.database}.v (a DECIMAL(9,2), b DATE, c DATETIME, d TIMESTAMP, e TIME, "
        "f VARBINARY(9), g VARCHAR(9), h BIT(9), i FLOAT, j DOUBLE, k BIGINT UNSIGNED, l INT, "
        "m TINYINT(1), n ENUM('x'), o YEAR, p TEXT, q BLOB, r GEOMETRY)"
    )
    file = Batches()
    await (await open_source()).execute(read("SELECT * FROM v"), file)
    types = {column.name: column.type for column in file.columns}
    assert types == {
        "a": "decimal", "b": "date", "c": "timestamp", "d": "timestamptz", "e": "text",
        "f": "bytes", "g": "text", "h": "uint64", "i": "float32", "j": "float64", "k": "uint64",
        "l": "int64", "m": "int64", "n": "text", "o": "uint64", "p": "text", "q": "bytes", "r": "bytes",
    }  # fmt: skip
