"""The engine in this process, or on a Ray of its own: the verbs of :mod:`agentflow.cli.server`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentflow.errors import InvalidInput, NotFound, SpecInvalid
from agentflow.settings import Settings

if TYPE_CHECKING:
    import asyncio

    from agentflow.engine.projection import Projection
    from agentflow.engine.stream import StreamItem
    from agentflow.engine.workers import Performer
    from agentflow.execution.journal import ExecutionRecord
    from agentflow.flow import Flow

Json = Any


class InProcess:
    """A flow opened by this command, used as the data folder's own tenant."""

    def __init__(
        self, flow: Flow, tenant: str, end: Callable[[], None] | None = None, name: str = "local"
    ) -> None:
        self._flow = flow
        self._tenant = tenant
        self._name = name
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

    async def retry(self, execution_id: str) -> Json:
        """Let an execution go on from what failed."""
        await self._flow.retry(self._tenant, execution_id)
        return {"execution_id": execution_id, "status": "running"}

    async def resume(self, execution_id: str, named: Json, data: Json) -> Json:
        """Answer what an execution waits for; ``named``: its wait_id, node_id or signal."""
        from agentflow.api import views

        taken = await self._flow.resume(self._tenant, execution_id, data, by=self._name, **named)
        return views.resumed_body(taken)

    async def release(self, execution_id: str, reason: str) -> Json:
        """Let a quarantined execution run again."""
        await self._flow.release(self._tenant, execution_id, reason)
        return {"execution_id": execution_id, "status": "running"}

    async def diff(self, a: str, b: str) -> Json:
        """How two executions differ."""
        return await self._flow.history(self._tenant).diff(a, b)

    async def fork(self, execution_id: str, from_node: str, state: Json, *, preview: bool) -> Json:
        """Begin a new execution from a node of another one, or say what that would reuse."""
        from agentflow.api import views

        made = await self._flow.fork(
            self._tenant, execution_id, from_node, state=state, preview=preview
        )
        return views.fork_body(made, begun=not preview)

    @asynccontextmanager
    async def blob(self, sha256: str) -> AsyncIterator[tuple[str, AsyncIterator[bytes]]]:
        """The media type of a blob, and its content in pieces."""
        found = await self._flow.blobs.open(self._tenant, sha256)
        yield found.blob.mime_type, found.pieces

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


class OnLangGraph:
    """One execution on LangGraph's own runtime, in this process: no database, nothing kept."""

    def __init__(self, settings: Settings, performer: Performer) -> None:
        import asyncio

        self._settings = settings
        self._performer = performer
        self._items: asyncio.Queue[StreamItem | None] = asyncio.Queue()
        self._projection: Projection | None = None
        self._task: asyncio.Task[ExecutionRecord] | None = None

    async def submit(self, document: Json, initial_state: Json) -> str:
        """Start an execution; its id. Raises SpecInvalid, NotSupported, ConfigError, InvalidInput."""
        import asyncio

        from agentflow.engine.evaluation import require_fit
        from agentflow.engine.projection import Projection
        from agentflow.ids import new_id
        from agentflow.plan.compile import compile_plan
        from agentflow.spec.check import check
        from agentflow.spec.environment import allowed_names
        from agentflow.spec.jsonschema import first_mismatch

        checked = check(document, allowed_env=allowed_names(self._settings.source_env))
        if checked.errors or checked.normalized is None:
            raise SpecInvalid(checked.errors)
        plan = compile_plan(checked.normalized)
        require_fit({field.name: field for field in plan.fields}, None, initial_state)
        mismatch = first_mismatch(checked.normalized.get("input_schema") or {}, initial_state)
        if mismatch is not None:
            raise InvalidInput(f"initial_state does not fit input_schema: {mismatch}")
        execution_id = new_id("exec")
        self._projection = Projection(
            plan,
            self._performer,
            execution_id=execution_id,
            tenant="local",
            initial_state=initial_state,
            tell=self._items.put_nowait,
        )
        self._task = asyncio.create_task(self._projection.execute(), name=execution_id)
        self._task.add_done_callback(lambda _: self._items.put_nowait(None))
        return execution_id

    async def get(self, execution_id: str) -> Json:
        """The execution as it stands. Raises NotFound."""
        if self._projection is None or self._task is None:
            raise NotFound(f"There is no execution {execution_id!r} on LangGraph")
        return _described(self._task.result() if self._task.done() else self._projection.record)

    async def list(self, status: str | None, limit: int, cursor: str | None) -> Json:
        """Nothing is kept, so there is nothing to list."""
        return {"executions": [], "total": 0, "next_cursor": None}

    async def cancel(self, execution_id: str, reason: str) -> Json:
        """The execution as it stood when it was ended. Raises NotFound."""
        stood = await self.get(execution_id)
        if self._task is not None:
            self._task.cancel()
        return stood

    async def follow(self, execution_id: str, after: int = 0) -> AsyncIterator[Json]:
        """Events as they happen, up to the end."""
        while (item := await self._items.get()) is not None:
            yield _sent(execution_id, item)

    async def close(self) -> None:
        """End what is still open, and close the sources."""
        import asyncio

        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        await self._performer.close()


async def open_langgraph(settings: Settings) -> OnLangGraph:
    """LangGraph's runtime and the nodes' work in this process."""
    from agentflow import flow

    return OnLangGraph(settings, flow.open_performer(settings))


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
    return InProcess(opened, principal.tenant, end, principal.name)


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
