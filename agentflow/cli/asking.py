"""One question about an execution, put to a server or to an engine in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Protocol, cast

import typer

from agentflow.cli import run, watch
from agentflow.cli.progress import Progress
from agentflow.cli.screen import Screen
from agentflow.settings import load

Json = Any
Id = Annotated[str, typer.Argument(metavar="ID", help="An execution id, exec_...")]


class Operator(watch.Backend, Protocol):
    """A backend that keeps executions, so that something can be done with those of the past."""

    async def retry(self, execution_id: str) -> Json: ...
    async def resume(self, execution_id: str, named: Json, data: Json) -> Json: ...
    async def release(self, execution_id: str, reason: str) -> Json: ...
    async def diff(self, a: str, b: str) -> Json: ...
    def blob(
        self, sha256: str
    ) -> AbstractAsyncContextManager[tuple[str, AsyncIterator[bytes]]]: ...
    async def fork(
        self, execution_id: str, from_node: str, state: Json, *, preview: bool
    ) -> Json: ...


def ask(local: bool, screen: Screen, question: Callable[[Operator], Awaitable[Json]]) -> Json:
    """The answer of the backend that is meant."""

    async def answered() -> Json:
        where = "local" if local else "server"
        backend = await run.open_backend(load(), where, Progress(screen, quiet=True))
        try:
            return await question(cast(Operator, backend))
        finally:
            await backend.close()

    import asyncio

    return asyncio.run(answered())
