"""What every database does alike, on real servers: PostgreSQL and MariaDB."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    MissingCredential,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    QueryRefused,
    StepError,
)
from agentflow.sources import sql
from agentflow.sources.sql import SqlReply
from tests.unit.sources.databases import Batches, Open, Side, one, read, write

Json = Any

TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
NASTY = ["'; DROP TABLE t; --", "\\'", "\\", "$1", "?", ":a", "{a}", "/*", "%s", "x'00'", "\u202e",
         "a\nb", ""]  # fmt: skip


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXT, min_size=8, max_size=20))
async def test_database_keeps_texts_apart_from_the_statement(
    open_source: Open, database: Side, texts: list[str]
) -> None:
    source = await open_source()
    a, b = (f"CAST({place} AS {database.text})" for place in (":a", "{b.c}"))
    query = f"SELECT {a} AS a, {b} AS b, ':a' AS c, CASE WHEN {a} = {b} THEN 1 ELSE 0 END AS d"
    zero = [] if database.name == "postgres" else ["\x00"]  # PostgreSQL knows no such text
    for text in [*NASTY, *zero, *texts]:
        reply = await source.execute(read(query, **{"a": text, "b.c": text}))
        assert reply.rows == [{"a": text, "b": text, "c": ":a", "d": 1}]


async def test_database_keeps_the_limit_whatever_the_statement_says(open_source: Open) -> None:
    source = await open_source(max_rows=12, pool_size=1, max_overflow=0)
    for text in ("SELECT id FROM t ORDER BY id LIMIT 1000000", "SELECT id FROM t ORDER BY id"):
        for limit, offset, ids, truncated in (
            (5, 0, range(1, 6), True),
            (5, 27, range(28, 31), False),
            (100, 0, range(1, 13), True),
            (5, 25, range(26, 31), False),
            (10, 20, range(21, 31), False),
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


REFUSED = {
    "postgres": [
        "DELETE FROM t",
        "WITH d AS (DELETE FROM t RETURNING id) SELECT * FROM d",
        "SELECT 1; DELETE FROM t",
        "EXPLAIN ANALYZE DELETE FROM t",
        "SELECT * INTO u FROM t",
        "SELECT * FROM t FOR UPDATE",
        "/* SELECT */ TRUNCATE t",
        "SELECT harmless()",
        "SELECT nextval('s')",
        "CALL p()",
        "COPY t TO '/tmp/x'",
        "SET default_transaction_read_only = off",
    ],
    "mysql": [
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
}


@pytest.mark.parametrize(
    ("database", "text"),
    [(name, text) for name, texts in REFUSED.items() for text in texts],
    indirect=["database"],
)
async def test_database_refuses_what_does_not_only_read(
    open_source: Open, database: Side, text: str
) -> None:
    await database.ask(*database.harmless)
    source = await open_source(allow_write=True)
    with pytest.raises(QueryRefused, match="Invalid SQL"):
        await source.execute(read(text))
    assert await database_count(source) == 30


async def test_database_writes_only_where_it_may(open_source: Open, database: Side) -> None:
    insert = write("INSERT INTO t VALUES (:i, 'new', :n) RETURNING id, n", i=31, n="1.50")
    with pytest.raises(QueryRefused, match="does not allow writes"):
        await (await open_source()).execute(insert)
    source = await open_source(allow_write=True)
    reply = await source.execute(insert)
    assert (reply.rows, reply.row_count) == ([{"id": 31, "n": "1.50"}], 1)
    reply = await source.execute(write("UPDATE t SET n = n + 1 WHERE id < 5"))
    assert (reply.rows, reply.row_count) == ([], 4)
    for text in ("CREATE TABLE u (a int)", "COMMIT", "ALTER TABLE t ADD x INT", "CALL p()",
                 "DO $$ BEGIN END $$", "VACUUM"):  # fmt: skip
        with pytest.raises(QueryRefused, match="Invalid SQL"):
            await source.execute(write(text))
    with pytest.raises(QueryFailed, match=database.taken):
        await source.execute(insert)
    assert await database_count(source) == 31
    reply = await source.execute(write("DELETE FROM t WHERE id > 28 RETURNING id, n"))
    assert sorted(row["id"] for row in reply.rows) == [29, 30, 31] and reply.row_count == 3


async def database_count(source: Any, table: str = "t") -> int:
    count: int = await one(source, f"(SELECT COUNT(*) FROM {table})")
    return count


async def test_database_write_takes_effect_once(open_source: Open) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    insert = write("INSERT INTO t (id, title) SELECT MAX(id) + 1, :x FROM t RETURNING id", x="new")
    with pytest.raises(QueryRefused, match="sources prepare"):
        await source.execute(insert)
    assert await source.prepare() == await source.prepare() == "agentflow_dedupe"
    replies: list[SqlReply] = await asyncio.gather(*(source.execute(insert) for _ in range(6)))
    assert {reply.rows[0]["id"] for reply in replies} == {31}
    assert sorted(reply.repeated for reply in replies) == [False] + [True] * 5
    assert await database_count(source) == 31
    other = await source.execute(write("DELETE FROM t WHERE id > 20", key="k2"))
    assert (other.row_count, other.repeated) == (11, False)
    for _ in range(2):
        with pytest.raises(QueryFailed):
            await source.execute(write("INSERT INTO t (id) VALUES (1)", key="k3"))
    assert await database_count(source, "agentflow_dedupe") == 2


async def test_database_says_that_a_connection_was_killed_in_a_statement(
    open_source: Open, database: Side
) -> None:
    source = await open_source(allow_write=True)
    for request in (read(f"SELECT {database.sleep} AS v"), write(database.slow_write)):
        task = asyncio.create_task(source.execute(request))
        await database.kill(await database.working(database.sleep))
        with pytest.raises(ProviderUnavailable, match="was lost"):
            await asyncio.wait_for(task, 10)
        assert await one(source, "1") == 1
    assert await database_count(source, "t WHERE n = 1") == 1


async def test_database_gives_a_cancelled_statement_up(open_source: Open, database: Side) -> None:
    source = await open_source(pool_size=1, max_overflow=0)
    task = asyncio.create_task(one(source, database.sleep))
    await database.working(database.sleep)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(one(source, "2"), 5) == 2


async def test_database_stops_a_slow_statement(open_source: Open) -> None:
    source = await open_source()
    slow = "SELECT COUNT(*) AS v FROM t a, t b, t c, t d, t e, t f, t g"
    with pytest.raises(CallTimeout, match=r"within 0\.1 s"):
        await source.execute(read(slow, timeout_s=0.1))
    assert await one(source, "1") == 1


async def test_database_says_that_no_connection_came_free(
    open_source: Open, database: Side
) -> None:
    source = await open_source(pool_size=1, max_overflow=0, pool_timeout=0.1)
    task = asyncio.create_task(one(source, database.sleep))
    await database.working(database.sleep)
    with pytest.raises(ConnectionFailed, match=r"within 0\.1 s"):
        await one(source, "1")
    task.cancel()


NOT_REACHED = [
    ("", {}, MissingCredential, "DB"),
    ("http://h/x", {}, ProviderRejected, "begins with"),
    ("SCHEME://h1,h2/x", {}, ProviderRejected, "one host"),
    ("SCHEME:///x", {}, ProviderRejected, "one host"),
    ("SCHEME://h:99999/x", {}, ProviderRejected, "can be read"),
    ("SCHEME://h/x", {"driver": "OTHER"}, ProviderRejected, "but of a"),
    ("SCHEME://u:pw-canary@127.0.0.1:9/x", {}, ConnectionFailed, "No connection"),
    ("SCHEME://u:pw-canary@no.such.invalid/x", {}, ConnectionFailed, "resolved"),
    ("SCHEME://u:pw-canary@10.0.0.1/x", {}, ProviderRejected, "private"),
    ("SCHEME://u:pw-canary@169.254.169.254/x", {}, ProviderRejected, "link-local"),
    ("SCHEME://USER:pw-canary@HOST", {}, ProviderAuthError, "refused user"),
    ("REAL_no", {}, ProviderRejected, "does not exist"),
    ("REAL", {"ssl": "verify-full"}, ProviderRejected, "ssl 'verify-full'"),
    ("REAL?AUTHORITY=/nope", {"ssl": "verify-full"}, ProviderRejected, "cannot be read"),
    ("REAL", {"dedupe_table": "a; DROP TABLE t"}, QueryRefused, "table name"),
]


@pytest.mark.parametrize(("form", "config", "error", "words"), NOT_REACHED)
async def test_database_says_why_it_cannot_be_called(
    open_source: Open, database: Side, form: str, config: Json, error: type[StepError], words: str
) -> None:
    scheme, _, rest = database.dsn.partition("://")
    user, (_, host) = rest.partition(":")[0], rest.rsplit("@", 1)
    mine = database.name == "postgres"
    for name, value in (
        ("SCHEME", scheme),
        ("REAL", database.dsn),
        ("USER", "nobody" if mine else user),
        ("HOST", host),
        ("AUTHORITY", "sslrootcert" if mine else "ssl-ca"),
    ):
        form = form.replace(name, value)
    if "driver" in config:
        config = {"driver": "mysql" if mine else "postgres"}
    with pytest.raises(error) as caught:
        source = await open_source(form, allow_write=True, **config)
        await source.execute(write("INSERT INTO t (id) VALUES (1)"))
    assert words in caught.value.message and "canary" not in caught.value.message


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 400 Bad\r\n\r\n", b"\0" * 400, b"\xff" * 4000])
@pytest.mark.parametrize("scheme", ["mysql", "postgresql"])
async def test_database_that_is_none_is_a_typed_error(
    open_source: Open, postgres: Side, scheme: str, said: bytes
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


MANY = "SELECT a.id AS id, REPEAT('x', 100) AS v FROM t a, t b, t c, t d"
"""810 000 rows: more than the buffers of a connection hold."""


async def test_database_hands_rows_to_a_file_a_few_at_a_time(open_source: Open) -> None:
    source = await open_source(max_file_rows=9_000, max_rows=1)
    file = Batches()
    reply = await source.execute(read(MANY, limit=10**8), file)
    assert (reply.rows, reply.row_count, reply.truncated) == ([], 9_000, True)
    assert sum(file.sizes) == 9_000 and file.sizes[0] == sql.FIRST_ROWS
    assert max(file.sizes) <= sql.BATCH_ROWS
    wide = Batches()
    text = "SELECT REPEAT('x', 200000) AS v FROM t a, t b"
    assert (await source.execute(read(text, limit=90), wide)).row_count == 90
    assert max(wide.sizes[1:]) <= sql.BATCH_BYTES // 200_000 + 1
    few = Batches()
    reply = await source.execute(read("SELECT id FROM t", limit=3, offset=10), few)
    assert (reply.row_count, reply.truncated, few.sizes) == (3, True, [3])


async def test_database_whose_connection_is_killed_between_batches_is_a_typed_error(
    open_source: Open, database: Side
) -> None:
    source = await open_source(pool_size=1, max_overflow=0)
    file = Batches(stops=True)
    task = asyncio.create_task(source.execute(read(MANY, limit=10**8), file))
    await asyncio.wait_for(file.begun.wait(), 10)
    await database.kill(await database.working("FROM t a, t b, t c, t d"))
    file.go_on.set()
    with pytest.raises(ProviderUnavailable, match="was lost"):
        await asyncio.wait_for(task, 20)
    assert sum(file.sizes) < 810_000
    assert await one(source, "1") == 1


async def test_database_closes_the_cursor_of_a_file_that_is_given_up(
    open_source: Open, database: Side
) -> None:
    source = await open_source(pool_size=1, max_overflow=0)
    file = Batches(stops=True)
    task = asyncio.create_task(source.execute(read(MANY, limit=10**8), file))
    await asyncio.wait_for(file.begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(one(source, "2"), 10) == 2
    file = Batches(stops=True)
    with pytest.raises(CallTimeout, match=r"within 0\.1 s"):
        await source.execute(read(MANY, limit=10**8, timeout_s=0.1), file)
    assert await asyncio.wait_for(one(source, "3"), 10) == 3
