"""PostgreSQL sources, on a real server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentflow.addresses import Policy
from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    InvalidInput,
    MissingCredential,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    QueryRefused,
    StepError,
)
from agentflow.sources import sql
from agentflow.sources.credentials import Credentials
from agentflow.sources.postgres import PostgresSource
from agentflow.sources.sql import SqlReply, SqlRequest
from agentflow.sources.sqlserver import open_database
from agentflow.spec.kinds.sources import DbConfig
from agentflow.store.embedded import join
from tests.unit.sources.conftest import LOOPBACK

Json = Any
Open = Callable[..., Any]


@pytest.fixture
async def open_source(empty_dsn: str) -> AsyncIterator[Open]:
    """Opens sources on the test's own database."""
    opened: list[Any] = []

    async def make(
        dsn: str = empty_dsn, policy: Policy = LOOPBACK, **config: Json
    ) -> PostgresSource:
        credentials = Credentials({"DB": dsn}, lambda name: name == "DB")
        given = {"dsn_env": "DB", **config}
        opened.append(await open_database("main", given, policy=policy, credentials=credentials))
        return opened[-1]

    yield make
    for source in opened:
        await source.close()


@pytest.fixture
async def admin(empty_dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(empty_dsn)
    await connection.execute("CREATE TABLE t (id bigint PRIMARY KEY, title text, n numeric)")
    await connection.execute(
        "INSERT INTO t SELECT i, 't' || i, i / 10.0 FROM generate_series(1, 30) i"
    )
    yield connection
    await connection.close()


def read(text: str, **more: Json) -> SqlRequest:
    values = {
        name: more.pop(name) for name in list(more) if name not in SqlRequest.__struct_fields__
    }
    return SqlRequest(text=text, values=values, **more)


def write(text: str, **more: Json) -> SqlRequest:
    return read(text, **{"mode": "write", "key": "k1", **more})


async def one(source: PostgresSource, expression: str, **more: Json) -> Json:
    return (await source.execute(read(f"SELECT {expression} AS v", **more))).rows[0]["v"]


VALUES = [
    ("12.50::numeric", "12.50"),
    ("'NaN'::numeric", "NaN"),
    ("0.1::float4", 0.1),
    ("'-Infinity'::float8", "-Infinity"),
    ("9223372036854775807", 2**63 - 1),
    ("true", True),
    ("NULL::int", None),
    ("date '2026-02-03'", "2026-02-03"),
    ("date '0044-03-15 BC'", "0044-03-15 BC"),
    ("timestamp '2026-02-03 04:05:06.789'", "2026-02-03T04:05:06.789"),
    ("timestamptz '2026-02-03 04:05:06+02'", "2026-02-03T02:05:06Z"),
    ("timestamptz 'infinity'", "infinity"),
    ("time '04:05:06'", "04:05:06"),
    ("interval '1 month 2 days 3 hours'", "P1M2DT3H"),
    ("'5c0f6f2e-0000-4000-8000-000000000001'::uuid", "5c0f6f2e-0000-4000-8000-000000000001"),
    ("'\\x00ff'::bytea", "AP8="),
    ("'{\"a\": [1, null]}'::jsonb", {"a": [1, None]}),
    ("'\"x\"'::json", "x"),
    ("ARRAY[1, NULL, 3]", [1, None, 3]),
    ("ARRAY[[1.5, 2], [3, 4]]::numeric[]", [["1.5", "2"], ["3", "4"]]),
    ("ARRAY[date '2026-01-01']", ["2026-01-01"]),
    ("ARRAY['{\"a\": 1}'::jsonb]", [{"a": 1}]),
    ("'10.0.0.1/32'::inet", "10.0.0.1"),
    ("int4range(1, 10)", {"lower": 1, "upper": 10, "bounds": "[)"}),
    ("B'1010'", "1010"),
    ("ROW(1, 'a')", None),
    ("'caf\u00e9 \U0001f600'::text", "caf\u00e9 \U0001f600"),
]


async def test_postgres_gives_every_type_as_json(open_source: Open) -> None:
    source = await open_source()
    for expression, wanted in VALUES:
        found = await one(source, expression)
        if wanted is None and found is not None:
            assert found == {"f1": 1, "f2": "a"} or isinstance(found, list), expression
            continue
        assert found == wanted and type(found) is type(wanted), expression


BOUND = [
    (5, "int"), ("5", "int"), (5.0, "bigint"), (1.25, "float8"), ("12.50", "numeric"), (7, "numeric"),
    (True, "bool"), ("true", "bool"), ("2026-02-03", "date"), ("2026-02-03T04:05:06Z", "timestamptz"),
    ("5c0f6f2e-0000-4000-8000-000000000001", "uuid"), ("AP8=", "bytea"), ({"a": ["x"]}, "jsonb"),
    ("text", "jsonb"), ([1, None, 3], "int[]"), (["1.5"], "numeric[]"), (["a", 'b"c'], "text[]"),
    (None, "int"), ({"a": 1}, "text"), (7, "text"), ("P1D", "interval"), ("10.0.0.1", "inet"),
]  # fmt: skip


async def test_postgres_binds_json_to_every_type(open_source: Open) -> None:
    source = await open_source()
    for value, kind in BOUND:
        wanted = f"CAST(:a AS {kind})"
        found = await one(source, wanted, a=value)
        again = await one(source, wanted, a=found)
        assert found == again, (value, kind)
        if not isinstance(value, str | dict | int) or kind in ("jsonb", "uuid", "date", "bytea"):
            assert found == value, (value, kind)


@pytest.mark.parametrize(
    ("value", "kind"),
    [("x", "int"), (1.5, "int"), (True, "int"), ("yes", "bool"), (1, "bool"), ("?", "bytea"), ("a", "int[]")],
)  # fmt: skip
async def test_postgres_says_which_parameter_does_not_fit(
    open_source: Open, value: Json, kind: str
) -> None:
    with pytest.raises(InvalidInput, match="Parameter 'a'"):
        await one(await open_source(), f"CAST(:a AS {kind})", a=value)


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
NASTY = ["'; DROP TABLE t; --", "\\'", "$1", ":a", "{a}", "/*", "%s", "\u202e", "a\nb"]


@settings(
    max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(texts=st.lists(TEXT, min_size=8, max_size=20))
async def test_postgres_keeps_texts_apart_from_the_statement(
    open_source: Open, texts: list[str]
) -> None:
    source = await open_source()
    for text in [*NASTY, *texts]:
        values = {"a": text, "b.c": text}
        reply = await source.execute(
            read("SELECT :a::text AS a, {b.c} || '' AS b, ':a' AS c", **values)
        )
        assert reply.rows == [{"a": text, "b": text, "c": ":a"}]


async def test_postgres_keeps_the_limit_whatever_the_statement_says(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(max_rows=12)
    everything = "SELECT id FROM t ORDER BY id LIMIT 1000000"
    for limit, offset, ids, truncated in (
        (5, 0, range(1, 6), True),
        (5, 27, range(28, 31), False),
        (100, 0, range(1, 13), True),
        (10, 20, range(21, 31), False),
    ):
        reply = await source.execute(read(everything, limit=limit, offset=offset))
        assert [row["id"] for row in reply.rows] == list(ids)
        assert (reply.row_count, reply.truncated) == (len(ids), truncated)
    huge = "SELECT generate_series(1, 100000000) AS i, repeat('x', 100000) AS v"
    with pytest.raises(QueryFailed, match=f"exceed {sql.MOST_BYTES} bytes"):
        await (await open_source()).execute(read(huge, limit=10000))
    with pytest.raises(QueryFailed, match="several columns 'a'"):
        await source.execute(read("SELECT 1 AS a, 2 AS a"))


@pytest.mark.parametrize(
    "text",
    [
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
)
async def test_postgres_refuses_what_does_not_only_read(
    open_source: Open, admin: asyncpg.Connection, text: str
) -> None:
    await admin.execute(
        "CREATE SEQUENCE s; CREATE FUNCTION harmless() RETURNS bigint LANGUAGE sql AS "
        "$$ DELETE FROM t; SELECT count(*) FROM t $$"
    )
    source = await open_source(allow_write=True)
    with pytest.raises(QueryRefused, match="Invalid SQL"):
        await source.execute(read(text))
    assert await admin.fetchval("SELECT count(*) FROM t") == 30


async def test_postgres_stays_read_only_though_a_statement_says_otherwise(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(pool_size=1, max_overflow=0)
    await admin.execute(
        "CREATE FUNCTION sly() RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM "
        "set_config('default_transaction_read_only', 'off', false); RETURN 'ok'; END $$"
    )
    await source.execute(read("SELECT sly()"))
    assert await one(source, "current_setting('transaction_read_only')") == "on"
    with pytest.raises(StepError):
        await one(source, "set_config('transaction_read_only', 'off', false)")
    assert await one(source, "current_setting('default_transaction_read_only')") == "on"


async def test_postgres_writes_only_where_it_may(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    insert = write("INSERT INTO t VALUES (:i, 'new', :n) RETURNING id, n", i=31, n="1.50")
    with pytest.raises(QueryRefused, match="does not allow writes"):
        await (await open_source()).execute(insert)
    source = await open_source(allow_write=True)
    reply = await source.execute(insert)
    assert (reply.rows, reply.row_count) == ([{"id": 31, "n": "1.50"}], 1)
    reply = await source.execute(write("UPDATE t SET n = n + 1 WHERE id < 5"))
    assert (reply.rows, reply.row_count) == ([], 4)
    for text in ("CREATE TABLE u (a int)", "COMMIT", "DO $$ BEGIN END $$", "VACUUM"):
        with pytest.raises(QueryRefused, match="Invalid SQL"):
            await source.execute(write(text))
    with pytest.raises(QueryFailed, match="23505"):
        await source.execute(insert)
    assert await admin.fetchval("SELECT count(*) FROM t") == 31


async def test_postgres_write_takes_effect_once(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    insert = write("INSERT INTO t (id, title) SELECT max(id) + 1, :x FROM t RETURNING id", x="new")
    with pytest.raises(QueryRefused, match="sources prepare"):
        await source.execute(insert)
    assert await source.prepare() == await source.prepare() == "agentflow_dedupe"
    replies: list[SqlReply] = await asyncio.gather(*(source.execute(insert) for _ in range(6)))
    assert {reply.rows[0]["id"] for reply in replies} == {31}
    assert sorted(reply.repeated for reply in replies) == [False] + [True] * 5
    assert await admin.fetchval("SELECT count(*) FROM t") == 31
    other = await source.execute(write("DELETE FROM t WHERE id > 20", key="k2"))
    assert (other.row_count, other.repeated) == (11, False)
    failing = write("INSERT INTO t (id) VALUES (1)", key="k3")
    for _ in range(2):
        with pytest.raises(QueryFailed):
            await source.execute(failing)
    assert await admin.fetchval("SELECT count(*) FROM agentflow_dedupe") == 2


async def test_postgres_stops_a_slow_statement(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(allow_write=True)
    with pytest.raises(CallTimeout, match=r"within 0\.1 s"):
        await one(source, "pg_sleep(30)", timeout_s=0.1)
    async with admin.transaction():
        await admin.execute("SELECT * FROM t WHERE id = 1 FOR UPDATE")
        with pytest.raises(CallTimeout):
            await source.execute(write("UPDATE t SET n = 0 WHERE id = 1", timeout_s=0.1))
    assert await one(source, "1") == 1
    busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(30%'"
    assert await admin.fetchval(busy + " AND pid <> pg_backend_pid()") == 0


async def test_postgres_keeps_the_limit_of_the_source_that_was_written_for_statements(
    open_source: Open,
) -> None:
    config = DbConfig.model_validate({"timeout": 0.1}).model_dump(exclude_none=True)
    with pytest.raises(CallTimeout, match=r"within 0\.1 s"):
        await one(await open_source(**config), "pg_sleep(30)")


@pytest.mark.parametrize("mode", ["read", "write"])
async def test_postgres_keeps_its_limit_though_the_network_falls_silent(
    open_source: Open, empty_dsn: str, admin: asyncpg.Connection, mode: str
) -> None:
    silent = asyncio.Event()
    async with silent_relay(empty_dsn, silent) as dsn:
        source = await open_source(dsn, allow_write=True)
        slow = read("SELECT pg_sleep(60)", mode=mode, key="k", timeout_s=0.5)
        task = asyncio.create_task(source.execute(slow))
        await _seen(admin, "pg_sleep(60)")
        silent.set()
        with pytest.raises(CallTimeout, match=r"within 0\.5 s"):
            await asyncio.wait_for(task, 10)


@asynccontextmanager
async def silent_relay(dsn: str, silent: asyncio.Event) -> AsyncIterator[str]:
    """The same server at another port; what it says is passed on until it is told to be silent."""
    where = urlsplit(dsn)
    open_ones: list[asyncio.StreamWriter] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (data := await reader.read(2**16)) and not silent.is_set():
            writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(where.hostname, where.port)
        open_ones.extend((writer, forth))
        await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield dsn.replace(f":{where.port}/", f":{port}/")
    finally:
        server.close()
        for writer in open_ones:
            writer.close()


async def test_postgres_write_takes_effect_whole_though_few_rows_are_given(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(allow_write=True, dedupe_table="agentflow_dedupe")
    await source.prepare()
    text = "INSERT INTO t (id) SELECT i FROM generate_series(1000, 3499) i RETURNING id"
    for repeated in (False, True):
        reply = await source.execute(write(text, limit=3))
        assert (reply.row_count, len(reply.rows), reply.truncated) == (2500, 3, True)
        assert reply.repeated is repeated
    assert await admin.fetchval("SELECT count(*) FROM t WHERE id >= 1000") == 2500


async def test_postgres_gives_json_that_can_be_kept(open_source: Open) -> None:
    source = await open_source()
    assert await one(source, "'[123456789012345678901234567890]'::jsonb") == [1.2345678901234568e29]
    assert await one(source, r"""'"\ud800"'::json""") == "\ufffd"
    with pytest.raises(QueryFailed, match="too large"):
        await one(source, "'1e400'::jsonb")


async def test_postgres_gives_a_cancelled_statement_up(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(pool_size=1, max_overflow=0)
    task = asyncio.create_task(one(source, "pg_sleep(30)"))
    await _seen(admin, "pg_sleep(30)")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(one(source, "2"), 5) == 2


async def _seen(admin: asyncpg.Connection, text: str) -> int:
    """The server process that executes a statement with this text."""
    query = (
        "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() "
        "AND datname = current_database() AND query LIKE '%' || $1 || '%'"
    )
    async with asyncio.timeout(10):
        while (pid := await admin.fetchval(query, text)) is None:
            await asyncio.sleep(0)
    return pid


async def test_postgres_says_that_a_connection_was_killed_in_a_statement(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(allow_write=True)
    for request in (read("SELECT pg_sleep(30)"), write("UPDATE t SET n = 1 FROM pg_sleep(30)")):
        task = asyncio.create_task(source.execute(request))
        await admin.execute("SELECT pg_terminate_backend($1)", await _seen(admin, "pg_sleep(30)"))
        with pytest.raises(ProviderUnavailable, match="was lost"):
            await asyncio.wait_for(task, 10)
        assert await one(source, "1") == 1
    assert await admin.fetchval("SELECT count(*) FROM t WHERE n = 1") == 1


@pytest.mark.parametrize(
    ("dsn", "config", "error", "words"),
    [
        ("", {}, MissingCredential, "DB"),
        ("http://h/x", {}, ProviderRejected, "begins with"),
        ("postgresql://h1,h2/x", {}, ProviderRejected, "one host"),
        ("postgresql:///x", {}, ProviderRejected, "one host"),
        ("postgresql://h:99999/x", {}, ProviderRejected, "can be read"),
        ("mysql://h/x", {"driver": "postgres"}, ProviderRejected, "a mysql one"),
        ("postgresql://u:pw-canary@127.0.0.1:9/x", {}, ConnectionFailed, "No connection"),
        ("postgresql://u:pw-canary@no.such.invalid/x", {}, ConnectionFailed, "resolved"),
        ("postgresql://u:pw-canary@10.0.0.1/x", {}, ProviderRejected, "private"),
        ("postgresql://u:pw-canary@169.254.169.254/x", {}, ProviderRejected, "link-local"),
        ("REAL/nope", {}, ProviderRejected, "does not exist"),
        ("REAL", {"ssl": "require"}, ProviderRejected, "ssl 'require'"),
        ("REAL", {"ssl": "verify-full"}, ProviderRejected, "ssl 'verify-full'"),
        ("REAL?sslmode=verify-full&sslrootcert=/nope", {}, ProviderRejected, "cannot be read"),
        ("REAL", {"dedupe_table": "a; DROP TABLE t"}, QueryRefused, "table name"),
    ],
)
async def test_postgres_says_why_it_cannot_be_called(
    open_source: Open, empty_dsn: str, dsn: str, config: Json, error: type[StepError], words: str
) -> None:
    real = empty_dsn.rpartition("/")[0] if "/nope" in dsn and "?" not in dsn else empty_dsn
    with pytest.raises(error) as caught:
        source = await open_source(dsn.replace("REAL", real), allow_write=True, **config)
        await source.execute(write("INSERT INTO t VALUES (1)"))
    assert words in caught.value.message and "canary" not in caught.value.message


async def test_postgres_says_that_its_credentials_are_refused(
    open_source: Open, empty_dsn: str
) -> None:
    host = empty_dsn.rpartition("@")[2]
    source = await open_source(f"postgresql://nobody:pw-canary@{host}")
    with pytest.raises(ProviderAuthError, match="'nobody'") as caught:
        await one(source, "1")
    assert "canary" not in caught.value.message


async def test_postgres_says_that_no_connection_came_free(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    source = await open_source(pool_size=1, max_overflow=0, pool_timeout=0.1)
    task = asyncio.create_task(one(source, "pg_sleep(30)"))
    await _seen(admin, "pg_sleep(30)")
    with pytest.raises(ConnectionFailed, match=r"within 0\.1 s"):
        await one(source, "1")
    task.cancel()


async def test_postgres_uses_the_schema_of_the_source(
    open_source: Open, admin: asyncpg.Connection
) -> None:
    await admin.execute('CREATE SCHEMA "own x"; CREATE TABLE "own x".t AS SELECT 7 AS id')
    source = await open_source(schema="own x")
    assert (await source.execute(read("SELECT id FROM t"))).rows == [{"id": 7}]


async def test_postgres_reads_no_environment_of_the_worker(
    open_source: Open, empty_dsn: str
) -> None:
    user, _, rest = empty_dsn.removeprefix("postgresql://").partition(":")
    without = f"postgresql://{user}@{rest.partition('@')[2]}"
    os.environ["PGPASSWORD"] = rest.partition("@")[0]
    try:
        with pytest.raises(ProviderAuthError):
            await one(await open_source(without), "1")
    finally:
        del os.environ["PGPASSWORD"]


async def test_postgres_writes_once_each_though_its_server_is_killed(
    open_source: Open, data_dir: Path
) -> None:
    held = join(data_dir)
    admin = await asyncpg.connect(held.dsn)
    await admin.execute("CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, k int)")
    await admin.close()
    source = await open_source(held.dsn, allow_write=True, dedupe_table="agentflow_dedupe")
    await source.prepare()
    server = data_dir / "postgres" / "data" / "postmaster.pid"
    lost = 0

    async def until_done(number: int) -> SqlReply:
        nonlocal lost
        request = write("INSERT INTO t (k) VALUES (:k) RETURNING id, k", k=number, key=f"k{number}")
        while True:
            try:
                return await source.execute(request)
            except (ProviderUnavailable, ConnectionFailed):
                lost += 1
                await asyncio.sleep(0.02)

    for first in range(0, 60, 20):
        writes = [asyncio.create_task(until_done(number)) for number in range(first, first + 20)]
        await writes[0]
        os.kill(int(server.read_text().split()[0]), signal.SIGKILL)
        replies = await asyncio.wait_for(asyncio.gather(*writes), 30)
        again = await asyncio.gather(*(until_done(number) for number in range(first, first + 20)))
        assert [reply.rows for reply in again] == [reply.rows for reply in replies]
        assert all(reply.repeated for reply in again)
    counted = await source.execute(read("SELECT k, count(*) AS n FROM t GROUP BY k", limit=1000))
    assert {row["k"]: row["n"] for row in counted.rows} == dict.fromkeys(range(60), 1)
    assert lost
    await source.close()
    held.close()
