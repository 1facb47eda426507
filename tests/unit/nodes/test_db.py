"""Db nodes, on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from agentflow.errors import ExpressionError, InvalidInput, QueryFailed
from agentflow.nodes.base import StepContext
from agentflow.nodes.db import DbNode
from agentflow.sources.base import Source
from agentflow.sources.credentials import Credentials
from agentflow.sources.sqlserver import open_database
from tests.unit.nodes.conftest import NewContext
from tests.unit.nodes.test_http import LOOPBACK

Json = Any
Step = Callable[..., StepContext]


@pytest.fixture
async def step(empty_dsn: str, new_context: NewContext) -> AsyncIterator[Step]:
    """Makes contexts of db steps; source ``main`` is a database with a table of ten tickets."""
    admin = await asyncpg.connect(empty_dsn)
    await admin.execute(
        "CREATE TABLE t AS SELECT i AS id, 'a' || i % 2 AS author, (i / 4.0)::numeric(9,2) AS n FROM "
        "generate_series(1, 10) i"
    )
    await admin.close()
    config = {"dsn_env": "DB", "allow_write": True, "dedupe_table": "agentflow_dedupe"}
    credentials = Credentials({"DB": empty_dsn}, lambda name: True)
    source = await open_database("main", config, policy=LOOPBACK, credentials=credentials)
    await source.prepare()

    async def open_source(source_id: str) -> Source:
        return source

    def make(query: str, view: Json = None, attempt: int = 1, **options: Json) -> StepContext:
        given = {"source": "main", "query": query, **options}
        return new_context("db", given, view or {}, open_source=open_source, attempt=attempt)

    yield make
    await source.close()


async def test_db_gives_rows_and_what_is_to_be_told_of_them(step: Step) -> None:
    context = step(
        "SELECT id, n FROM t WHERE author = {user_input} AND id > :low ORDER BY id",
        {"user_input": "a1"},
        params={"low": "${1 + 1}"},
        limit=2,
    )
    done = await DbNode().run(context)
    rows = [{"id": 3, "n": "0.75"}, {"id": 5, "n": "1.25"}]
    assert done.delta == {"db_result": rows}
    assert done.result.pop("duration_s") > 0
    assert done.result == {"rows": rows, "row_count": 2, "truncated": True}


async def test_db_reads_on_where_the_page_before_ended(step: Step) -> None:
    query = "SELECT id FROM t WHERE id > :cursor ORDER BY id"
    seen: list[int] = []
    while True:
        view = {"outputs": {"before": {"last": seen[-1] if seen else 0}}}
        context = step(query, view, cursor="${int(outputs.before.last)}", limit=4)
        done = await DbNode().run(context)
        seen += [row["id"] for row in done.result["rows"]]
        if not done.result["truncated"]:
            break
    assert seen == list(range(1, 11))


async def test_db_gives_csv(step: Step) -> None:
    query = "SELECT id, 'a,\"b\"' AS q, NULL AS e, ARRAY[1, 2] AS l FROM t ORDER BY id LIMIT 1"
    done = await DbNode().run(step(query, format="csv", output_key="text"))
    assert done.delta == {"text": 'id,q,e,l\r\n1,"a,""b""",,"[1,2]"\r\n'}


async def test_db_write_is_known_by_its_key(step: Step) -> None:
    write = "INSERT INTO t (id) SELECT max(id) + 1 FROM t RETURNING id"
    first = await DbNode().run(step(write, mode="write"))
    again = await DbNode().run(step(write, mode="write", attempt=2))
    assert first.delta == again.delta == {"db_result": [{"id": 11}]}
    assert again.result["repeated"] and "repeated" not in first.result
    count = await DbNode().run(step("SELECT count(*) AS n FROM t"))
    assert count.result["rows"] == [{"n": 11}]


async def test_db_says_what_is_absent_or_fails(step: Step) -> None:
    with pytest.raises(InvalidInput, match=r"\{outputs\.a\.text\}, which is absent"):
        await DbNode().run(step("SELECT {outputs.a.text} AS a"))
    with pytest.raises(ExpressionError):
        await DbNode().run(step("SELECT :a AS a", params={"a": "${outputs.a.text}"}))
    with pytest.raises(QueryFailed, match="42P01"):
        await DbNode().run(step("SELECT * FROM nowhere"))
