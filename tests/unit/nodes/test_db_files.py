"""Db nodes whose rows are a file, on a real PostgreSQL server and a real folder of blobs."""

from __future__ import annotations

import asyncio
import io
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, date, datetime
from datetime import time as clock
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pyarrow.parquet as pq
import pytest

from agentflow.access.model import DEFAULT_TENANT
from agentflow.errors import ProviderRejected, QueryFailed
from agentflow.nodes.base import StepContext
from agentflow.nodes.db import DbNode
from agentflow.nodes.parquet import GROUP_BYTES
from agentflow.nodes.rowfiles import row_file
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials
from agentflow.sources.sql import BATCH_ROWS, Column, SqlRequest
from agentflow.sources.sqlserver import open_database
from agentflow.store.blobs_folder import BlobFolder
from agentflow.store.blobs_writing import Place, WorkerBlobs
from tests.unit.nodes.conftest import NewContext
from tests.unit.nodes.test_http import LOOPBACK

Json = Any
Step = Callable[..., StepContext]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
async def step(
    empty_dsn: str, dsn: str, pool: asyncpg.Pool, folder: Path, new_context: NewContext
) -> AsyncIterator[Step]:
    """Makes contexts of db steps; source ``main`` is a database, whose options may be given."""
    opened: list[Source] = []
    store = BlobFolder(folder, uuid.uuid4())

    async def nothing() -> None:
        """The pool is the test's."""

    async def place() -> Place:
        return Place(pool, store, nothing)

    blobs = WorkerBlobs(place)

    def make(query: str, format: str, config: Json = None, **options: Json) -> StepContext:
        async def open_source(source_id: str) -> Source:
            credentials = Credentials({"DB": empty_dsn}, lambda name: True)
            given = {"dsn_env": "DB", **(config or {})}
            opened.append(
                await open_database("main", given, policy=LOOPBACK, credentials=credentials)
            )
            return opened[-1]

        written = {"source": "main", "query": query, "format": format, **options}
        more = {"open_source": open_source, "keep": blobs, "tenant": DEFAULT_TENANT}
        return new_context("db", written, {}, **more)

    yield make
    for source in opened:
        await source.close()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


TYPES = """SELECT 1::int2 AS a, 2::int4 AS b, 3::int8 AS c, 0.5::float4 AS d, 0.1::float8 AS e,
 '12.50'::numeric AS f, true AS g, date '2026-02-03' AS h, timestamp '2026-02-03 04:05:06.789' AS i,
 timestamptz '2026-02-03 04:05:06+02' AS j, time '04:05:06.5' AS k, interval '1 day' AS l,
 '5c0f6f2e-0000-4000-8000-000000000001'::uuid AS m, 'caf\u00e9'::text AS n, '\\x00ff'::bytea AS o,
 '{"a": [1, null]}'::jsonb AS p, ARRAY[1, NULL, 3] AS q, ARRAY[date '2026-01-01', NULL] AS r,
 ARRAY['1.5'::numeric] AS s, '10.0.0.1'::inet AS t, int4range(1, 10) AS u, NULL::int AS v,
 NULL::timestamptz AS w, ARRAY['{"a": 1}'::jsonb] AS x"""


async def test_file_of_lines_holds_what_rows_hold(step: Step, folder: Path) -> None:
    rows = (await DbNode().run(step(TYPES, "rows"))).result["rows"]
    done = await DbNode().run(step(TYPES, "jsonl"))
    (file,) = files(folder)
    assert [msgspec.json.decode(line) for line in file.read_bytes().splitlines()] == rows
    blob = done.result["blob"]
    assert blob == {
        "uri": f"blob:sha256:{file.name}",
        "mime_type": "application/x-ndjson",
        "size": file.stat().st_size,
        "sha256": file.name,
    }
    assert done.delta == {"db_result": blob}
    assert done.result.pop("duration_s") > 0 and done.result.pop("columns")[5:7] == [
        {"name": "f", "type": "decimal"},
        {"name": "g", "type": "bool"},
    ]
    assert done.result == {"blob": blob, "format": "jsonl", "row_count": 1, "truncated": False}


async def test_file_of_columns_has_the_types_of_the_database(step: Step, folder: Path) -> None:
    context = step(TYPES, "parquet", output_key="found")
    done = await DbNode().run(context)
    (file,) = files(folder)
    assert context.blobs[0].sha256 == file.name == done.delta["found"]["sha256"]
    table = pq.read_table(file)
    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    assert types == {
        "a": "int16", "b": "int32", "c": "int64", "d": "float", "e": "double", "f": "string",
        "g": "bool", "h": "date32[day]", "i": "timestamp[us]", "j": "timestamp[us, tz=UTC]",
        "k": "time64[us]", "l": "string", "m": "string", "n": "string", "o": "binary", "p": "string",
        "q": "list<element: int32>", "r": "list<element: date32[day]>", "s": "list<element: string>",
        "t": "string", "u": "string", "v": "int32", "w": "timestamp[us, tz=UTC]",
        "x": "list<element: string>",
    }  # fmt: skip
    (row,) = table.to_pylist()
    assert row == {
        "a": 1, "b": 2, "c": 3, "d": 0.5, "e": 0.1, "f": "12.50", "g": True, "h": date(2026, 2, 3),
        "i": datetime(2026, 2, 3, 4, 5, 6, 789000), "j": datetime(2026, 2, 3, 2, 5, 6, tzinfo=UTC),
        "k": clock(4, 5, 6, 500000), "l": "P1D", "m": "5c0f6f2e-0000-4000-8000-000000000001",
        "n": "caf\u00e9", "o": b"\x00\xff", "p": '{"a":[1,null]}', "q": [1, None, 3],
        "r": [date(2026, 1, 1), None], "s": ["1.5"], "t": "10.0.0.1",
        "u": '{"lower":1,"upper":10,"bounds":"[)"}', "v": None, "w": None, "x": ['{"a":1}'],
    }  # fmt: skip


SERIES = "SELECT i, 'name ' || i AS v FROM generate_series(1, 20000) i ORDER BY i"


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
async def test_file_holds_every_row_in_order(step: Step, folder: Path, format: str) -> None:
    done = await DbNode().run(step(SERIES, format))
    assert (done.result["row_count"], done.result["truncated"]) == (20_000, False)
    (file,) = files(folder)
    if format == "jsonl":
        found = [msgspec.json.decode(line) for line in file.read_bytes().splitlines()]
    else:
        found = pq.read_table(file).to_pylist()
    assert found == [{"i": i, "v": f"name {i}"} for i in range(1, 20_001)]
    empty = await DbNode().run(step("SELECT 1 AS a WHERE false", format))
    assert (empty.result["row_count"], empty.result["columns"]) == (
        0,
        [{"name": "a", "type": "int32"}],
    )


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
async def test_file_has_limits_of_its_own(step: Step, folder: Path, format: str) -> None:
    for config, options, count, truncated in (
        ({"max_rows": 5}, {"limit": 15_000}, 15_000, True),
        ({"max_file_rows": 7}, {}, 7, True),
        ({}, {"offset": 19_990}, 10, False),
    ):
        done = await DbNode().run(step(SERIES, format, config, **options))
        assert (done.result["row_count"], done.result["truncated"]) == (count, truncated)
    before = len(files(folder))
    context = step(SERIES, format, {"max_file_bytes": 10_000})
    with pytest.raises(QueryFailed, match=r"exceed 10000 bytes as a file.*max_file_bytes"):
        await DbNode().run(context)
    assert len(files(folder)) == before and context.blobs == []


BROKEN = "SELECT i, 1 / (15000 - i) AS v FROM generate_series(1, 20000) i"


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
async def test_file_that_breaks_off_leaves_nothing(
    step: Step, folder: Path, format: str, pool: asyncpg.Pool
) -> None:
    context = step(BROKEN, format)
    with pytest.raises(QueryFailed, match="division by zero"):
        await DbNode().run(context)
    late = step("SELECT pg_sleep(0.01), i FROM generate_series(1, 20000) i", format, timeout_s=0.2)
    with pytest.raises(Exception, match=r"within 0\.2 s"):
        await DbNode().run(late)
    assert files(folder) == [] and context.blobs == []
    assert await pool.fetchval("SELECT count(*) FROM blobs") == 0


@pytest.mark.parametrize(
    ("expression", "column"),
    [
        ("timestamptz 'infinity'", "timestamptz"),
        ("date '0044-03-15 BC'", "date"),
        ("time '24:00'", "time"),
        ("ARRAY[[1, 2], [3, 4]]", "int32"),
        ("ARRAY[['5c0f6f2e-0000-4000-8000-000000000001'::uuid]]", "uuid"),
    ],
)
async def test_file_of_columns_says_what_it_cannot_hold(
    step: Step, folder: Path, expression: str, column: str
) -> None:
    with pytest.raises(QueryFailed, match=rf"Column 'v' \({column}.*cast it to text"):
        await DbNode().run(step(f"SELECT {expression} AS v", "parquet"))
    assert files(folder) == []
    await DbNode().run(step(f"SELECT ({expression})::text AS v", "parquet"))
    await DbNode().run(step(f"SELECT {expression} AS v", "jsonl"))


async def test_file_of_columns_needs_its_library(
    step: Step, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "agentflow.nodes.parquet")
    with pytest.raises(ProviderRejected, match=r"pip install 'agentflow\[parquet\]'"):
        await DbNode().run(step("SELECT 1 AS a", "parquet"))
    assert files(folder) == []


async def test_file_needs_a_place(step: Step) -> None:
    context = step("SELECT 1 AS a", "jsonl")
    context._keep = None
    with pytest.raises(ProviderRejected, match="no place"):
        await DbNode().run(context)


class Held:
    """Counts the bytes that a file has taken and not yet given on, and the rows it was handed."""

    def __init__(self) -> None:
        self.content = io.BytesIO()
        self.pieces: list[int] = []

    async def write(self, content: bytes) -> None:
        self.content.write(content)
        self.pieces.append(len(content))


class Counted:
    """A file that knows how many rows it was handed at most."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.most = 0

    def begin(self, columns: Sequence[Column], most_bytes: int) -> None:
        self._file.begin(columns, most_bytes)

    async def add(self, rows: Sequence[Sequence[Any]]) -> int:
        self.most = max(self.most, len(rows))
        return await self._file.add(rows)


@pytest.mark.parametrize("format", ["jsonl", "parquet"])
async def test_file_of_many_rows_is_held_a_batch_at_a_time(empty_dsn: str, format: str) -> None:
    credentials = Credentials({"DB": empty_dsn}, lambda name: True)
    source = await open_database(
        "main", {"dsn_env": "DB"}, policy=LOOPBACK, credentials=credentials
    )
    held = Held()
    file = row_file(format, held.write)
    counted = Counted(file)
    text = "SELECT i, repeat(chr(60 + i % 60), 1000) AS v FROM generate_series(1, 40000) i"
    reply = await source.execute(SqlRequest(text=text, limit=10**8), counted)
    await file.finish()
    await source.close()
    assert reply.row_count == 40_000 and counted.most <= BATCH_ROWS
    if format == "jsonl":
        assert max(held.pieces) < 2 * 2**20 and sum(held.pieces) > 40_000_000
        return
    groups = pq.ParquetFile(held.content).metadata
    sizes = [groups.row_group(index).num_rows * 1_008 for index in range(groups.num_row_groups)]
    assert groups.num_rows == 40_000 and len(sizes) >= 2
    assert max(sizes) < GROUP_BYTES + 4 * 2**20


async def test_file_that_is_cancelled_leaves_nothing(step: Step, folder: Path) -> None:
    slow = "SELECT i, pg_sleep(0.01) AS v FROM generate_series(1, 100000) i"
    task = asyncio.create_task(DbNode().run(step(slow, "jsonl")))
    async with asyncio.timeout(10):
        while not files(folder):
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    async with asyncio.timeout(10):
        while files(folder):
            await asyncio.sleep(0)
