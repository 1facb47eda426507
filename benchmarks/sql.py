"""What a statement costs beside the bare driver: ``python -m benchmarks.sql [ROWS]``.

On a PostgreSQL of its own. First a SELECT of 10 000 rows, by the bare driver (asyncpg, a read-only
transaction, the rows as dicts), through our source, and through a db node; each asks in a process of its own,
and they take turns. Then a SELECT of ROWS rows (a million) into a file of the blob store, as JSON lines and
as Parquet, by a db node in a new process each, and of a tenth of them: what a process holds at most must not
grow with the rows. Prints a line of JSON for each figure.

Targets: 10 000 rows at most 1.3 times the bare driver's time in the same run; ten times the rows in at most
32 MB more.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

Json = Any
Ask = Callable[[], Awaitable[int]]
ROWS, ASKED = 1_000_000, 10_000
ROUNDS, TIMES, WARM = 5, 12, 3
MORE_MB, TARGET = 32.0, 1.3
ASKERS = ("bare", "source", "node")
FORMATS = ("jsonl", "parquet")
TABLE = """CREATE TABLE sales AS SELECT i AS id, 'customer ' || i % 5000 AS customer, random() AS score,
  (i % 100000 / 100.0)::numeric(12, 2) AS amount, timestamptz '2026-01-01' + i * interval '1 s' AS at,
  i % 3 = 0 AS paid FROM generate_series(1, {rows}::bigint) i"""
FEW = f"SELECT id, customer, score, paid FROM sales ORDER BY id LIMIT {ASKED}"
MANY = "SELECT * FROM sales WHERE id <= :most"


async def open_source(dsn: str) -> Any:
    """A source of the database, as a worker opens it."""
    from ipaddress import ip_network

    from agentflow.addresses import Policy
    from agentflow.sources.credentials import Credentials
    from agentflow.sources.sqlserver import open_database

    return await open_database(
        "sales",
        {"dsn_env": "DSN"},
        policy=Policy(allow=(ip_network("127.0.0.0/8"),)),
        credentials=Credentials({"DSN": dsn}, lambda name: True),
    )


def context(source: Any, options: Json, blobs: Any = None) -> Any:
    """The context of a step of a db node with these options."""
    from agentflow.access.model import DEFAULT_TENANT
    from agentflow.ids import new_id
    from agentflow.nodes.base import StepContext
    from agentflow.plan.plan import PlanNode, Retry
    from agentflow.spec.kinds.catalogue import node_kind
    from agentflow.spec.rules.options import options_of

    kind = node_kind("db")
    assert kind is not None

    async def opened(source_id: str) -> Any:
        return source

    node = PlanNode(
        index=0,
        id="q",
        type="db",
        options=options_of(kind, {"source": "sales", **options}),
        rank=0,
        placement=kind.placement,
        effects=kind.effects,
        retry=Retry(max_attempts=1),
    )
    return StepContext(
        node=node,
        view={"outputs": {}},
        fields={},
        tenant=DEFAULT_TENANT,
        execution_id=new_id("exec"),
        step="q",
        open_source=opened,
        keep=blobs,
    )


async def asker(who: str, dsn: str) -> tuple[Ask, Callable[[], Awaitable[None]]]:
    """Asks for the rows once, and what closes it."""
    if who == "bare":
        pool = await asyncpg.create_pool(dsn, min_size=1, max_size=1)

        async def bare() -> int:
            async with pool.acquire() as connection, connection.transaction(readonly=True):
                return len([dict(row) for row in await connection.fetch(FEW)])

        return bare, pool.close
    source = await open_source(dsn)
    if who == "source":
        from agentflow.sources.sql import SqlRequest

        async def through_source() -> int:
            return len((await source.execute(SqlRequest(text=FEW, limit=ASKED))).rows)

        return through_source, source.close
    from agentflow.nodes.db import DbNode

    made = context(source, {"query": FEW, "limit": ASKED})

    async def through_node() -> int:
        return len((await DbNode().run(made)).result["rows"])

    return through_node, source.close


async def ask(who: str, dsn: str) -> Json:
    """The median time and processor time of one SELECT, in seconds."""
    once, close = await asker(who, dsn)
    for _ in range(WARM):
        assert await once() == ASKED
    taken, used = [], []
    for _ in range(TIMES):
        began, spent = time.perf_counter(), time.process_time()
        await once()
        taken.append(time.perf_counter() - began)
        used.append(time.process_time() - spent)
    await close()
    return {"s": statistics.median(taken), "cpu_s": statistics.median(used), "best_s": min(taken)}


def peak_mb() -> float:
    """What this process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


async def write(format: str, rows: int, folder: str) -> Json:
    """The rows as a file, by a node: how fast, and what the process held at most."""
    os.environ["AGENTFLOW_DATA_DIR"] = folder
    from agentflow.flow.opening import worker_blobs
    from agentflow.nodes.db import DbNode
    from agentflow.settings import load

    settings = load()
    assert settings.database_url is not None
    source, blobs = await open_source(settings.database_url), worker_blobs(settings)

    def asked(most: int) -> Any:
        return context(source, {"query": MANY, "params": {"most": most}, "format": format}, blobs)

    await DbNode().run(asked(100))
    before, began, spent = peak_mb(), time.perf_counter(), time.process_time()
    done = await DbNode().run(asked(rows))
    seconds, used = time.perf_counter() - began, time.process_time() - spent
    await blobs.close()
    await source.close()
    assert done.result["row_count"] == rows and not done.result["truncated"]
    return {
        "rows": rows,
        "rows_per_s": round(rows / seconds),
        "rows_per_cpu_s": round(rows / used),
        "bytes": done.result["blob"]["size"],
        "before_mb": round(before, 1),
        "peak_mb": round(peak_mb(), 1),
    }


def in_a_process(*words: str, dsn: str) -> Json:
    """What a part says that is measured in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sql", "--part", *words],
        env={**os.environ, "DATABASE_URL": dsn},
        capture_output=True,
        text=True,
        timeout=900,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def say(name: str, **figures: Json) -> None:
    print(json.dumps({"figure": name, **figures}), flush=True)


def compare(dsn: str) -> None:
    """The three ways to ask, in turn; each round is a ratio of its own."""
    rounds = [{who: in_a_process(who, dsn=dsn) for who in ASKERS} for _ in range(ROUNDS)]
    for who in ASKERS:
        ratios = {
            key: round(statistics.median(each[who][key] / each["bare"][key] for each in rounds), 3)
            for key in ("s", "cpu_s", "best_s")
        }
        median = statistics.median(each[who]["s"] for each in rounds)
        met = {} if who == "bare" else {"target": TARGET, "met": ratios["best_s"] <= TARGET}
        say(f"select {ASKED} rows: {who}", ms=round(median * 1000, 2), to_bare=ratios, **met)


def fill(dsn: str, rows: int, folder: str) -> None:
    """The files, small and large."""
    for format in FORMATS:
        few, many = (
            in_a_process(format, str(count), folder, dsn=dsn) for count in (rows // 10, rows)
        )
        more = round(many["peak_mb"] - few["peak_mb"], 1)
        say(f"{format}: a tenth of the rows", **few)
        say(f"{format}: all rows", **many, more_mb=more, target_mb=MORE_MB, met=more <= MORE_MB)


async def prepare(dsn: str, rows: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(TABLE.format(rows=rows))
    await connection.execute("ALTER TABLE sales ADD PRIMARY KEY (id)")
    await connection.execute("VACUUM ANALYZE sales")
    await connection.close()


def main(rows: int) -> None:
    from agentflow.store.embedded import destroy, join
    from agentflow.store.migrate import upgrade
    from benchmarks.suite.database import folder_of_its_own

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with folder_of_its_own("af-bench-sql-") as folder:
        held = join(folder / "data")
        try:
            upgrade(held.dsn)
            asyncio.run(prepare(held.dsn, rows))
            compare(held.dsn)
            fill(held.dsn, rows, str(folder / "files"))
        finally:
            held.close()
            destroy(folder / "data")


def part(words: list[str]) -> None:
    if words[0] in ASKERS:
        told = asyncio.run(ask(words[0], os.environ["DATABASE_URL"]))
    else:
        told = asyncio.run(write(words[0], int(words[1]), words[2]))
    print(json.dumps(told))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        part(sys.argv[2:])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
