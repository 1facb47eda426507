"""MySQL sources, on a real MariaDB server that is killed and started again."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiomysql
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    QueryRefused,
    StepError,
)
from agentflow.sources import sql
from agentflow.sources.credentials import Credentials
from agentflow.sources.mysql import MysqlSource
from agentflow.sources.sql import SqlReply, SqlRequest
from agentflow.sources.sqlserver import open_database
from tests import mariadb
from tests.conftest import new_folder
from tests.unit.sources.conftest import LOOPBACK

pytestmark = pytest.mark.skipif(
    not mariadb.installed(), reason="MariaDB is not installed (apt-get install mariadb-server-core)"
)
Json = Any
Open = Callable[..., Any]
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def maria() -> Iterator[mariadb.MariaDb]:
    folder = new_folder()
    server = mariadb.MariaDb(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder)


@pytest.fixture
async def dsn(maria: mariadb.MariaDb) -> AsyncIterator[str]:
    """The address of a fresh database with a table ``t``."""
    name = f"test_{uuid.uuid4().hex}"
    await _ask(
        maria,
        f"CREATE DATABASE {name} CHARACTER SET utf8mb4",
        f"CREATE TABLE {name}.t (id BIGINT PRIMARY KEY, title TEXT, n DECIMAL(10,2))",
        f"INSERT INTO {name}.t WITH RECURSIVE s AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM s "
        "WHERE i < 30) SELECT i, CONCAT('t', i), i / 10 FROM s",
    )
    yield maria.dsn(name)
    await _ask(maria, f"DROP DATABASE {name}")


async def _ask(maria: mariadb.MariaDb, *texts: str) -> Any:
    connection = await aiomysql.connect(
        host="127.0.0.1", port=maria.port, user="af", password=mariadb.PASSWORD, autocommit=True
    )
    async with connection.cursor() as cursor:
        for text in texts:
            await cursor.execute(text)
        found = await cursor.fetchone()
    connection.close()
    return found


@pytest.fixture
async def open_source(dsn: str) -> AsyncIterator[Open]:
    opened: list[Any] = []
    own = dsn

    async def make(dsn: str = own, policy: Policy = LOOPBACK, **config: Json) -> MysqlSource:
        credentials = Credentials({"DB": dsn}, lambda name: name == "DB")
        given = {"dsn_env": "DB", **config}
        opened.append(await open_database("main", given, policy=policy, credentials=credentials))
        return opened[-1]

    yield make
    for source in opened:
        await source.close()


def read(text: str, **more: Json) -> SqlRequest:
    values = {
        name: more.pop(name) for name in list(more) if name not in SqlRequest.__struct_fields__
    }
    return SqlRequest(text=text, values=values, **more)


def write(text: str, **more: Json) -> SqlRequest:
    return read(text, **{"mode": "write", "key": "k1", **more})


async def one(source: MysqlSource, expression: str, **more: Json) -> Json:
    return (await source.execute(read(f"SELECT {expression} AS v", **more))).rows[0]["v"]


async def test_mysql_gives_every_type_as_json(open_source: Open, maria: mariadb.MariaDb) -> None:
    source = await open_source(allow_write=True)
    database = await one(source, "DATABASE()")
    await _ask(
        maria,
        f"CREATE TABLE {database}.v (a DECIMAL(20,4), b DATE, c DATETIME(3), d TIMESTAMP(0) NULL, "
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


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NASTY = ["'; DROP TABLE t; --", "\\'", "\\", "?", ":a", "%s", "x'00'", "\x00", "\u202e", "a\nb", ""]


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXT, min_size=8, max_size=20))
async def test_mysql_keeps_texts_apart_from_the_statement(
    open_source: Open, texts: list[str]
) -> None:
    source = await open_source()
    for text in [*NASTY, *texts]:
        reply = await source.execute(
            read(
                "SELECT :a AS a, {b.c} AS b, ':a' AS c, :a = {b.c} AS d", **{"a": text, "b.c": text}
            )
        )
        assert reply.rows == [{"a": text, "b": text, "c": ":a", "d": 1}]


async def test_mysql_binds_numbers_and_values(open_source: Open) -> None:
    source = await open_source()
    for value, wanted in ((7, 7), (-1.5, -1.5), (1e-7, 1e-7), (True, 1), (None, None),
                          ({"a": ["\u00e9"]}, '{"a":["\u00e9"]}'), (2**63, 2**63)):  # fmt: skip
        assert await one(source, ":a", a=value) == wanted
    reply = await source.execute(read("SELECT id FROM t WHERE title = :t LIMIT :n", t="t7", n=5))
    assert reply.rows == [{"id": 7}]


async def test_mysql_keeps_the_limit_whatever_the_statement_says(open_source: Open) -> None:
    source = await open_source(max_rows=12, pool_size=1, max_overflow=0)
    for text in ("SELECT id FROM t ORDER BY id LIMIT 1000000", "SELECT id FROM t ORDER BY id"):
        for limit, offset, ids, truncated in (
            (5, 0, range(1, 6), True),
            (5, 27, range(28, 31), False),
            (100, 0, range(1, 13), True),
            (5, 25, range(26, 31), False),
        ):
            reply = await source.execute(read(text, limit=limit, offset=offset))
            assert [row["id"] for row in reply.rows] == list(ids)
            assert (reply.row_count, reply.truncated) == (len(ids), truncated)
    huge = "SELECT REPEAT('x', 1000000) AS v FROM t a, t b, t c LIMIT 10000"
    with pytest.raises(QueryFailed, match=f"exceed {sql.MOST_BYTES} bytes"):
        await (await open_source()).execute(read(huge, limit=10000))
    with pytest.raises(QueryFailed, match="several columns 'a'"):
        await source.execute(read("SELECT 1 AS a, 2 AS a"))
    assert await one(source, "1") == 1


@pytest.mark.parametrize(
    "text",
    [
        "DELETE FROM t",
        "SELECT 1; DELETE FROM t",
        "/*! DELETE FROM t */",
        "SELECT 1 /*!50000 INTO OUTFILE '/tmp/x' */",
        "SELECT 1 /*M!100100 + 1 */",
        "SELECT * FROM t INTO OUTFILE '/tmp/x'",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t LOCK IN SHARE MODE",
        "SELECT harmless()",
        "CALL p()",
        "SET SESSION transaction_read_only = 0",
    ],
)
async def test_mysql_refuses_what_does_not_only_read(
    open_source: Open, maria: mariadb.MariaDb, text: str
) -> None:
    source = await open_source(allow_write=True)
    database = await one(source, "DATABASE()")
    await _ask(
        maria,
        "SET GLOBAL log_bin_trust_function_creators = 1",
        f"CREATE FUNCTION {database}.harmless() RETURNS INT BEGIN DELETE FROM {database}.t; "
        "RETURN 1; END",
    )
    with pytest.raises(QueryRefused, match="Invalid SQL"):
        await source.execute(read(text))
    assert await one(source, "(SELECT COUNT(*) FROM t)") == 30


async def test_mysql_writes_only_where_it_may(open_source: Open) -> None:
    insert = write("INSERT INTO t VALUES (:i, 'new', :n)", i=31, n="1.50")
    with pytest.raises(QueryRefused, match="does not allow writes"):
        await (await open_source()).execute(insert)
    source = await open_source(allow_write=True)
    assert (await source.execute(insert)).row_count == 1
    reply = await source.execute(write("DELETE FROM t WHERE id > 28 RETURNING id, n"))
    assert [row["id"] for row in reply.rows] == [29, 30, 31] and reply.row_count == 3
    assert (await source.execute(write("UPDATE t SET n = n + 1 WHERE id < 5"))).row_count == 4
    for text in ("CREATE TABLE u (a INT)", "COMMIT", "ALTER TABLE t ADD x INT", "CALL p()"):
        with pytest.raises(QueryRefused, match="Invalid SQL"):
            await source.execute(write(text))
    with pytest.raises(QueryFailed, match="1062"):
        await source.execute(write("INSERT INTO t (id) VALUES (1)"))


async def test_mysql_write_takes_effect_once(open_source: Open) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    insert = write("INSERT INTO t (id, title) SELECT MAX(id) + 1, :x FROM t RETURNING id", x="new")
    with pytest.raises(QueryRefused, match="sources prepare"):
        await source.execute(insert)
    assert await source.prepare() == await source.prepare() == "agentflow_dedupe"
    replies: list[SqlReply] = await asyncio.gather(*(source.execute(insert) for _ in range(6)))
    assert {reply.rows[0]["id"] for reply in replies} == {31}
    assert sorted(reply.repeated for reply in replies) == [False] + [True] * 5
    assert await one(source, "(SELECT COUNT(*) FROM t)") == 31
    for _ in range(2):
        with pytest.raises(QueryFailed):
            await source.execute(write("INSERT INTO t (id) VALUES (1)", key="k3"))
    assert await one(source, "(SELECT COUNT(*) FROM agentflow_dedupe)") == 1


async def test_mysql_stops_a_slow_statement(open_source: Open) -> None:
    source = await open_source(allow_write=True)
    slow = "SELECT COUNT(*) AS v FROM t a, t b, t c, t d, t e, t f, t g"
    with pytest.raises(CallTimeout, match=r"within 0\.1 s"):
        await source.execute(read(slow, timeout_s=0.1))
    assert await one(source, "1") == 1


async def _process(maria: mariadb.MariaDb, text: str) -> int:
    query = (
        "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() "
        f"AND state = 'User sleep' AND info LIKE '%{text}%'"
    )
    async with asyncio.timeout(20):
        while (found := await _ask(maria, query)) is None:
            await asyncio.sleep(0)
    return int(found[0])


async def test_mysql_says_that_a_connection_was_killed_in_a_statement(
    open_source: Open, maria: mariadb.MariaDb
) -> None:
    source = await open_source(allow_write=True)
    for request in (
        read("SELECT SLEEP(30) AS v"),
        write("UPDATE t SET n = 1 WHERE SLEEP(30) = 0"),
    ):
        task = asyncio.create_task(source.execute(request))
        await _ask(maria, f"KILL CONNECTION {await _process(maria, 'SLEEP(30)')}")
        with pytest.raises(ProviderUnavailable, match="was lost"):
            await asyncio.wait_for(task, 10)
    assert await one(source, "(SELECT COUNT(*) FROM t WHERE n = 1)") == 1


async def test_mysql_goes_on_after_its_server_was_killed(
    open_source: Open, maria: mariadb.MariaDb
) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    await source.prepare()
    insert = write("INSERT INTO t (id) VALUES (41)")
    await source.execute(insert)
    task = asyncio.create_task(one(source, "SLEEP(30)"))
    await _process(maria, "SLEEP(30)")
    try:
        await asyncio.to_thread(maria.stop)
        with pytest.raises(ProviderUnavailable, match="was lost"):
            await asyncio.wait_for(task, 10)
        with pytest.raises(ConnectionFailed):
            await one(source, "1")
    finally:
        await asyncio.to_thread(maria.start)
    assert await one(source, "1") == 1
    assert (await source.execute(insert)).repeated


@pytest.mark.parametrize(
    ("dsn_form", "config", "error", "words"),
    [
        ("mysql://u:pw-canary@127.0.0.1:9/x", {}, ConnectionFailed, "No connection"),
        ("mysql://u:pw-canary@10.0.0.1/x", {}, ProviderRejected, "private"),
        ("REAL_no", {}, ProviderRejected, "does not exist"),
        ("REAL", {"ssl": "verify-full"}, ProviderRejected, "ssl 'verify-full'"),
        ("mysql://af:pw-canary@HOST/mysql", {}, ProviderAuthError, "'af'"),
    ],
)
async def test_mysql_says_why_it_cannot_be_called(
    open_source: Open,
    dsn: str,
    maria: mariadb.MariaDb,
    dsn_form: str,
    config: Json,
    error: type[StepError],
    words: str,
) -> None:
    text = dsn_form.replace("REAL", dsn).replace("HOST", f"127.0.0.1:{maria.port}")
    with pytest.raises(error) as caught:
        await one(await open_source(text, **config), "1")
    assert words in caught.value.message and "canary" not in caught.value.message


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
async def test_mysql_encrypts(
    open_source: Open, dsn: str, maria: mariadb.MariaDb, mode: str
) -> None:
    options = f"?ssl-ca={maria.authority}" if mode == "verify-full" else ""
    source = await open_source(dsn + options, ssl=mode)
    query = (
        "SELECT VARIABLE_VALUE AS v FROM information_schema.SESSION_STATUS WHERE VARIABLE_NAME = :n"
    )
    assert (await source.execute(read(query, n="Ssl_cipher"))).rows[0]["v"].startswith("TLS")


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad\r\n\r\n", b"\0" * 400, b"\xff" * 4000])
@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
async def test_database_that_is_none_is_a_typed_error(
    open_source: Open, scheme: str, said: bytes
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.write_eof()
        await reader.read(1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises((ConnectionFailed, ProviderRejected)):
        await one(await open_source(f"{scheme}://u:p@127.0.0.1:{port}/d"), "1")
    server.close()


async def test_mysql_writes_once_each_though_its_server_is_killed(
    open_source: Open, maria: mariadb.MariaDb
) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    await source.prepare()
    lost = 0

    async def until_done(number: int) -> SqlReply:
        nonlocal lost
        insert = "INSERT INTO t (id, title) VALUES (:k, 'x') RETURNING id"
        request = write(insert, k=number, key=f"k{number}")
        while True:
            try:
                return await source.execute(request)
            except (ProviderUnavailable, ConnectionFailed):
                lost += 1
                await asyncio.sleep(0.02)

    for first in range(100, 160, 30):
        writes = [asyncio.create_task(until_done(number)) for number in range(first, first + 30)]
        await writes[0]
        await asyncio.to_thread(maria.stop)
        await asyncio.to_thread(maria.start)
        replies = await asyncio.wait_for(asyncio.gather(*writes), 30)
        assert [reply.rows for reply in replies] == [[{"id": n}] for n in range(first, first + 30)]
    assert await one(source, "(SELECT COUNT(*) FROM t WHERE id >= 100)") == 60 and lost
