"""LangGraph without a checkpointer: the graph runs in this process, and nothing is written."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from benchmarks.peers.driving import Driver
from benchmarks.peers.langgraph_graphs import graph_of, input_of
from benchmarks.peers.serving import Arguments, Contender, Json, Unsupported, serve

SETTING = "compiled without a checkpointer, ainvoke"
PAGE = "https://docs.langchain.com/oss/python/langgraph/graph-api"


class InMemory:
    """Graphs, compiled once each."""

    def __init__(self, arguments: Arguments) -> None:
        self._folder = arguments.folder
        self._compiled: dict[str, Any] = {}

    async def execute(self, workflow: str, execution: str, given: Json) -> None:
        if workflow == "recovery":
            raise Unsupported("Without a checkpointer nothing is left of a killed process.")
        name = f"{workflow} {given}"
        if name not in self._compiled:
            self._compiled[name] = graph_of(workflow, given, self._folder).compile()
        thread = {"configurable": {"thread_id": execution}}
        await self._compiled[name].ainvoke(input_of(workflow), thread)

    async def resume(self, execution: str) -> None:
        raise Unsupported("Without a checkpointer nothing is left of a killed process.")

    async def persisted(self, run: str, expected: int) -> int | None:
        return None


@asynccontextmanager
async def start(arguments: Arguments) -> AsyncIterator[Contender]:
    facts = {
        "system": "LangGraph, in memory",
        "version": version("langgraph"),
        "setting": SETTING,
        "page": PAGE,
        "persisted_before_next_step": "nothing",
        "pids": [],
    }
    yield Contender(facts, Driver(InMemory(arguments)).workloads())


if __name__ == "__main__":
    serve(start)
