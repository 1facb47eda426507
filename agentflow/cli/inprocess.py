"""The engine in this process, or on a Ray of its own: the verbs of :mod:`agentflow.cli.server`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentflow.settings import Settings

if TYPE_CHECKING:
    from agentflow.engine.stream import StreamItem
    from agentflow.execution.journal import ExecutionRecord
    from agentflow.flow import Flow

Json = Any
_BASE = ("type", "at", "step", "attempt", "generation", "execution_id")


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
        return described(await self._flow.get(self._tenant, execution_id))

    async def list(self, status: str | None, limit: int, cursor: str | None) -> Json:
        """A page of executions, newest first."""
        page = await self._flow.list(self._tenant, status=status, limit=limit, cursor=cursor)
        return {
            "executions": [described(record) for record in page.executions],
            "total": page.total,
            "next_cursor": page.next_cursor,
        }

    async def cancel(self, execution_id: str, reason: str) -> Json:
        """Ask that an execution ends."""
        return described(await self._flow.cancel(self._tenant, execution_id, reason))

    async def follow(self, execution_id: str, after: int = 0) -> AsyncIterator[Json]:
        """Events from this number on, up to the one that ends it."""
        async for items in self._flow.follow(self._tenant, execution_id, after):
            for item in items:
                yield event(execution_id, item)

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


def event(execution_id: str, item: StreamItem) -> Json:
    """A stream item as the API sends it."""
    import msgspec

    from agentflow.engine.stream import TokenDelta

    if isinstance(item, TokenDelta):
        return {"type": "message.delta", "step": item.step, "data": {"text": item.text}}
    plain = msgspec.to_builtins(item.event)
    return {
        **{name: plain[name] for name in _BASE if name in plain and name != "at"},
        "seq": item.seq,
        "execution_id": execution_id,
        "ts": plain["at"],
        "data": {name: value for name, value in plain.items() if name not in _BASE},
    }


def described(record: ExecutionRecord) -> Json:
    """An execution's row as the API describes it."""
    return {
        "id": record.id,
        "workflow_name": record.workflow_name,
        "status": record.status,
        "content_hash": record.content_hash,
        "initial_state": record.initial_state,
        "final_state": record.final_state,
        "output": record.output,
        "error": record.error,
        "metrics": {
            "execution_time": record.execution_time,
            "tokens_used": record.tokens_used,
            "cost": record.cost,
            "nodes_executed": record.nodes_executed,
        },
        "created_at": _moment(record.created_at),
        "started_at": _moment(record.started_at),
        "completed_at": _moment(record.completed_at),
        "steps": list(record.steps),
    }


def _moment(at: float | None) -> str | None:
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
