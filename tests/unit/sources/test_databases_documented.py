"""The database of docs/sources.md and its nodes, done by a worker on real servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentflow.engine.workers import Done
from agentflow.flow.opening import open_connections
from agentflow.settings import Settings
from tests.unit.sources.conftest import LOOPBACK
from tests.unit.sources.databases import MysqlSide, Side
from tests.unit.sources.test_documented import EXAMPLES, attempt_in, perform

Json = Any
[DATABASE] = [each for each in EXAMPLES if each.get("kind") == "db"]
NODES = {
    each["metadata"].get("mode", "read"): each for each in EXAMPLES if each.get("type") == "db"
}
NAME = DATABASE["config"]["dsn_env"]


@pytest.fixture
async def source(database: Side, monkeypatch: pytest.MonkeyPatch) -> dict[str, Json]:
    """The documented source; it only leads to the test's own database, where there are tickets."""
    found: dict[str, Json] = json.loads(json.dumps(DATABASE))
    table, dsn = "tickets", database.dsn
    if isinstance(database, MysqlSide):
        table = f"{database.database}.tickets"
        dsn += f"?ssl-ca={database.maria.authority}"
        found["config"]["driver"] = "mysql"
    else:
        # The PostgreSQL of the tests does not encrypt; MariaDB does.
        found["config"]["ssl"] = "prefer"
    await database.ask(
        f"CREATE TABLE {table} (id INT PRIMARY KEY, title TEXT, author TEXT, status TEXT)",
        f"INSERT INTO {table} VALUES (1, 'broken', 'hello', 'open'), (2, 'late', 'hello', 'open'),"
        " (3, 'lost', 'somebody', 'open')",
    )
    monkeypatch.setenv(NAME, dsn)
    return found


async def test_documented_database_is_read_and_written(
    source: dict[str, Json], tmp_path: Path
) -> None:
    reading, writing = (
        attempt_in({"nodes": [node], "sources": [source], "start_node": node["id"]}, NAME)
        for node in (NODES["read"], NODES["write"])
    )
    read = await perform(reading, tmp_path, NAME)
    assert isinstance(read, Done), read
    assert read.result["rows"] == [{"id": 1, "title": "broken"}, {"id": 2, "title": "late"}]
    settings = Settings(data_dir=tmp_path, egress_allow=LOOPBACK.allow, source_env=(NAME,))
    connections = open_connections(settings)
    opened: Any = await connections.open(writing.sources[0], "t1")
    assert await opened.prepare() == source["config"]["dedupe_table"]
    await connections.close()
    for repeated in (False, True):
        written = await perform(writing, tmp_path, NAME)
        assert isinstance(written, Done), written
        assert written.result["row_count"] == 2
        assert written.result.get("repeated", False) is repeated
