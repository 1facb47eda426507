"""The engine in this process, or on a Ray of its own: the verbs of :mod:`agentflow.cli.server`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.engine.stream import StreamItem
    from agentflow.execution.journal import ExecutionRecord
    from agentflow.flow import Flow

Json = Any


class InProcess:
    """A flow opened by this command, used as the data folder's own tenant."""

    def __init__(self, flow: Flow, tenant: str, end: Callable[[], None] | None = None) -> None:
        self._flow = flow
        self._tenant = tenant
        self._end = end

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
        try:
            await self._flow.close()
        finally:
            if self._end is not None:
                self._end()


async def open_local(settings: Settings) -> InProcess:
    """The engine and its workers in this process."""
    from agentflow import flow

    return await _as_tenant(await flow.open_local(settings), settings)


async def open_ray(settings: Settings) -> InProcess:
    """Coordinators and workers on a Ray of our own, which ends with this command; or on the cluster
    of AGENTFLOW_RAY_ADDRESS, where they stay."""
    from agentflow.distributed import cluster
    from agentflow.flow import open_flow

    # Ray wants the main thread; nothing else happens on the loop meanwhile.
    joined = cluster.start(settings, dashboard=False)
    try:
        from agentflow.distributed import coordinator

        names = coordinator.start_coordinators(settings.coordinators)
        opened = await open_flow(settings, coordinator.RayDoor(names))
    except BaseException:
        joined.shutdown()
        raise

    def end() -> None:
        if settings.ray_address is None:
            coordinator.drain_coordinators(names)
        joined.shutdown()

    return await _as_tenant(opened, settings, end)


async def _as_tenant(
    opened: Flow, settings: Settings, end: Callable[[], None] | None = None
) -> InProcess:
    from agentflow.flow import bootstrap_key

    try:
        principal = await opened.authenticate(bootstrap_key(settings))
    except BaseException:
        await InProcess(opened, "", end).close()
        raise
    return InProcess(opened, principal.tenant, end)


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
