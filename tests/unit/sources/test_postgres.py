"""PostgreSQL sources, on a real server; see also test_databases."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from agentflow.errors import (
    CallTimeout,
    ConnectionFailed,
    InvalidInput,
    ProviderAuthError,
    ProviderRejected,
    ProviderUnavailable,
    QueryFailed,
    StepError,
)
from agentflow.spec.kinds.sources import DbConfig
from agentflow.store.embedded import join
from tests.unit.sources.databases import (
    Batches,
    Insistence,
    Open,
    PostgresSide,
    one,
    read,
    write,
)

Json = Any


@pytest.fixture
def database(postgres: PostgresSide) -> PostgresSide:
    """The database of this module's tests."""
    return postgres


@pytest.fixture
def admin(postgres: PostgresSide) -> asyncpg.Connection:
    return postgres.admin


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
    ("'r'::\"char\"", "cg=="),
    ("ARRAY['r'::\"char\"]", ["cg=="]),
    ("'caf\u00e9'::name", "caf\u00e9"),
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
    ("cg==", '"char"'),
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
    open_source: Open, empty_dsn: str, postgres: PostgresSide, mode: str
) -> None:
    silent = asyncio.Event()
    async with silent_relay(empty_dsn, silent) as dsn:
        source = await open_source(dsn, allow_write=True)
        slow = read("SELECT pg_sleep(60)", mode=mode, key="k", timeout_s=0.5)
        task = asyncio.create_task(source.execute(slow))
        await postgres.working("pg_sleep(60)")
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
    file = Batches(stops=True)
    endless = read("SELECT repeat('x', 1000) AS v FROM generate_series(1, 10000000)", limit=10**8)
    streaming = asyncio.create_task(source.execute(endless, file))
    await asyncio.wait_for(file.begun.wait(), 10)
    insert = "INSERT INTO t (k) VALUES (:k) RETURNING id, k"
    insistence = Insistence(source, insert, (ProviderUnavailable, ConnectionFailed))
    for first in range(0, 60, 20):
        writes = insistence.begin(range(first, first + 20))
        await writes[0]
        os.kill(int(server.read_text().split()[0]), signal.SIGKILL)
        replies = await asyncio.wait_for(asyncio.gather(*writes), 30)
        again = await asyncio.gather(*insistence.begin(range(first, first + 20)))
        assert [reply.rows for reply in again] == [reply.rows for reply in replies]
        assert all(reply.repeated for reply in again)
    file.go_on.set()
    with pytest.raises(ProviderUnavailable, match="was lost"):
        await asyncio.wait_for(streaming, 10)
    counted = await source.execute(read("SELECT k, count(*) AS n FROM t GROUP BY k", limit=1000))
    assert {row["k"]: row["n"] for row in counted.rows} == dict.fromkeys(range(60), 1)
    assert insistence.lost
    await source.close()
    held.close()


async def test_postgres_says_that_it_does_not_encrypt(open_source: Open) -> None:
    with pytest.raises(ProviderRejected, match="ssl 'require'"):
        await one(await open_source(ssl="require"), "1")


async def test_postgres_tells_the_types_of_the_columns_of_a_file(open_source: Open) -> None:
    types = {
        "int2": "int16", "int4": "int32", "int8": "int64", "oid": "int64", "float4": "float32",
        "float8": "float64", "numeric": "decimal", "bool": "bool", "date": "date", "time": "time",
        "timestamp": "timestamp", "timestamptz": "timestamptz", "interval": "text", "timetz": "text",
        "uuid": "uuid", "text": "text", "varchar(3)": "text", "char(3)": "text", "bytea": "bytes",
        "json": "json", "jsonb": "json", "inet": "other", "int4range": "other", "bit(3)": "other",
        "int4[]": "int32[]", "numeric[]": "decimal[]", "date[]": "date[]", "inet[]": "other[]",
    }  # fmt: skip
    file = Batches()
    columns = ", ".join(f'NULL::{name} AS "{name}"' for name in types)
    await (await open_source()).execute(read(f"SELECT {columns}"), file)
    assert {column.name: column.type for column in file.columns} == types
