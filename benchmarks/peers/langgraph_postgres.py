"""LangGraph with AsyncPostgresSaver: a superstep's checkpoint is committed before the next begins."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.driving import Driver
from benchmarks.peers.langgraph_graphs import graph_of, input_of
from benchmarks.peers.serving import Arguments, Contender, Json, serve

SAVERS = 8
"""A saver lets one call at a time through, so one of them would make all executions wait in one line."""
SETTING = (
    f"durability='sync'; {SAVERS} AsyncPostgresSavers, taken in turn, over one AsyncConnectionPool "
    "(autocommit, prepare_threshold=0)"
)
PAGE = "https://docs.langchain.com/oss/python/langgraph/durable-execution"
COUNT = """
    SELECT count(DISTINCT (w.thread_id, w.checkpoint_id, w.task_id))
    FROM checkpoint_writes w JOIN checkpoints c USING (thread_id, checkpoint_ns, checkpoint_id)
    WHERE starts_with(w.thread_id, %s) AND c.metadata ->> 'source' <> 'input'
"""


class OnPostgres:
    """Graphs, compiled once with each saver."""

    def __init__(self, arguments: Arguments, pool: AsyncConnectionPool) -> None:
        self._folder = arguments.folder
        self._pool = pool
        self._savers = [AsyncPostgresSaver(pool) for _ in range(SAVERS)]
        self._compiled: dict[str, itertools.cycle[Any]] = {}

    async def set_up(self) -> None:
        await self._savers[0].setup()

    def _next(self, workflow: str, given: Json) -> Any:
        name = f"{workflow} {given}"
        if name not in self._compiled:
            graph = graph_of(workflow, given, self._folder)
            compiled = [graph.compile(checkpointer=saver) for saver in self._savers]
            self._compiled[name] = itertools.cycle(compiled)
        return next(self._compiled[name])

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        graph = self._next(workflow, given)
        thread = {"configurable": {"thread_id": execution}}
        await graph.ainvoke(input_of(workflow), thread, durability="sync")

    async def resume(self, execution: str) -> None:
        """LangGraph goes on from the last checkpoint when the thread is invoked without input."""
        graph = self._next("recovery", {})
        thread = {"configurable": {"thread_id": execution}}
        await graph.ainvoke(None, thread, durability="sync")

    async def persisted(self, run: str, expected: int) -> int:
        async with self._pool.connection() as connection:
            row = await (await connection.execute(COUNT, (run,))).fetchone()
        return row["count"]


@asynccontextmanager
async def start(arguments: Arguments) -> AsyncIterator[Contender]:
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool = AsyncConnectionPool(
        arguments.dsn, min_size=SAVERS, max_size=SAVERS, kwargs=options, open=False
    )
    async with pool:
        peer = OnPostgres(arguments, pool)
        await peer.set_up()
        facts = {
            "system": "LangGraph, AsyncPostgresSaver",
            "version": version("langgraph"),
            "setting": SETTING,
            "page": PAGE,
            "persisted_before_next_step": (
                "the checkpoint of the superstep, committed in PostgreSQL: its channels' values"
            ),
            "pids": [],
        }
        yield Contender(facts, Driver(peer).workloads())


if __name__ == "__main__":
    serve(start)
