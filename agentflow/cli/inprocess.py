"""The engine in this process, or on a Ray of its own: the verbs of :mod:`agentflow.cli.server`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.engine.stream import StreamItem
    from agentflow.execution.journal import ExecutionRecord
    from agentflow.flow import Flow

Json = Any


class InProcess:
    """A flow opened by this command, used as the data folder's own tenant."""

    def __init__(self, flow: Flow, tenant: str, cluster: Any = None) -> None:
        self._flow = flow
        self._tenant = tenant
        self._cluster = cluster

    async def submit(self, document: Json, initial_state: Json) -> str:
        """Start an execution; its id."""
        return await self._flow.submit(self._tenant, document, initial_state=initial_state)

    async def get(self, execution_id: str) -> Json:
        """An execution as it stands."""
        return _described(await self._flow.get(self._tenant, execution_id))

    async def list(self, status: str | None, limit: int, cursor: str | None) -> Json:
        """A page of executions, newest first."""
        page = await self._flow.list(self._tenant, status=status, limit=limit, cursor=cursor)
        return {
            "executions": [_described(record) for record in page.executions],
            "total": page.total,
            "next_cursor": page.next_cursor,
        }

    async def cancel(self, execution_id: str, reason: str) -> Json:
        """Ask that an execution ends."""
        return _described(await self._flow.cancel(self._tenant, execution_id, reason))

    async def follow(self, execution_id: str, after: int = 0) -> AsyncIterator[Json]:
        """Events from this number on, up to the one that ends it."""
        async for items in self._flow.follow(self._tenant, execution_id, after):
            for item in items:
                yield _sent(execution_id, item)

    async def close(self) -> None:
        """Close the engine; what is still open is kept in the data folder."""
        await self._flow.close()
        if self._cluster is not None:
            await self._cluster.close()


async def open_local(settings: Settings) -> InProcess:
    """The engine and its workers in this process."""
    from agentflow import flow

    opened = await flow.open_local(settings)
    return await _as_tenant(opened, settings)


async def _as_tenant(opened: Flow, settings: Settings) -> InProcess:
    from agentflow.flow import bootstrap_key

    principal = await opened.authenticate(bootstrap_key(settings))
    return InProcess(opened, principal.tenant)


def _sent(execution_id: str, item: StreamItem) -> Json:
    """A stream item as a server sends it."""
    from agentflow.api import views
    from agentflow.engine.stream import TokenDelta

    if isinstance(item, TokenDelta):
        return views.delta_body(execution_id, item)
    return views.event_body(execution_id, item)


def _described(record: ExecutionRecord) -> Json:
    """An execution as a server describes it."""
    from agentflow.api import views

    return views.execution_body(record)
