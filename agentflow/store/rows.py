"""How values become columns and back. The one place where what users own is encoded for the store."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from agentflow.errors import NotFound
from agentflow.execution.journal import ExecutionRecord
from agentflow.ids import from_uuid, to_uuid

Json = Any

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def seal(value: Json) -> bytes:
    """A value as the store keeps it."""
    return _encode(value)


def unseal(content: bytes) -> Json:
    """The value that was sealed."""
    return _decode(content)


def execution_uuid(execution_id: str) -> uuid.UUID:
    """The key of an execution's row. Raises NotFound for what is not an id of an execution."""
    try:
        return to_uuid(execution_id, "exec")
    except ValueError:
        raise NotFound("Execution not found") from None


def tenant_uuid(tenant: str) -> uuid.UUID:
    """The key of a tenant's row. Raises NotFound for what is not an id of a tenant."""
    try:
        return to_uuid(tenant, "ten")
    except ValueError:
        raise NotFound("Tenant not found") from None


def execution_id(key: uuid.UUID) -> str:
    """The id of an execution, as everybody but the store knows it."""
    return from_uuid(key, "exec")


def tenant_id(key: uuid.UUID) -> str:
    """The id of a tenant."""
    return from_uuid(key, "ten")


SUMMARY = """execution_id, tenant_id, status, workflow_name, content_hash, error, tokens_used, cost,
    execution_time, nodes_executed, priority, owner, created_at, started_at, completed_at, metadata"""
"""Columns of a record in a list."""
WHOLE = SUMMARY + ", initial_state, final_state, output"
SEALED = ("error", "metadata")
"""Those that may hold references to large values; see store.sealing."""
SEALED_WHOLE = (*SEALED, "initial_state", "final_state", "output")


def record(row: Mapping[str, Any], steps: tuple[dict[str, Json], ...] = ()) -> ExecutionRecord:
    """The record of an execution's row, read with the columns SUMMARY or WHOLE."""
    whole = "initial_state" in row.keys()  # noqa: SIM118 - a database row is not iterated by key
    return ExecutionRecord(
        id=execution_id(row["execution_id"]),
        tenant=tenant_id(row["tenant_id"]),
        status=row["status"],
        workflow_name=row["workflow_name"],
        content_hash=row["content_hash"],
        initial_state=unseal(row["initial_state"]) if whole else {},
        final_state=_unsealed(row["final_state"]) if whole else None,
        output=_unsealed(row["output"]) if whole else None,
        error=_unsealed(row["error"]),
        metadata=unseal(row["metadata"]),
        tokens_used=row["tokens_used"],
        cost=float(row["cost"]),
        execution_time=row["execution_time"],
        nodes_executed=row["nodes_executed"],
        priority=row["priority"],
        owner=row["owner"],
        created_at=row["created_at"].timestamp(),
        started_at=_seconds(row["started_at"]),
        completed_at=_seconds(row["completed_at"]),
        steps=steps,
    )


def _unsealed(content: bytes | None) -> Json:
    return None if content is None else unseal(content)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()
