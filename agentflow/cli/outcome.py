"""How an invocation ends: exit codes, and the one document of an execution."""

from __future__ import annotations

from typing import Any

from agentflow.errors import (
    AccessError,
    AgentFlowError,
    ConfigError,
    Conflict,
    ExecutionError,
    ExecutionTimedOut,
    InvalidInput,
    NotFound,
    NotSupported,
    SpecInvalid,
    StoreError,
)

Json = Any

OK, FAILED, USAGE, INVALID, MISSING, UNREACHABLE = 0, 1, 2, 3, 4, 5
WAITING, TIMED_OUT, DETACHED = 7, 124, 130

_BY_STATUS = {"completed": OK, "success": OK, "waiting": WAITING, "timed_out": TIMED_OUT}


class Unreachable(AgentFlowError):
    """The server does not answer."""


_BY_ERROR: tuple[tuple[type[AgentFlowError], int], ...] = (
    (SpecInvalid, INVALID),
    (NotSupported, INVALID),
    (InvalidInput, USAGE),
    (ConfigError, USAGE),
    (NotFound, MISSING),
    (Conflict, MISSING),
    (AccessError, UNREACHABLE),
    (StoreError, UNREACHABLE),
    (Unreachable, UNREACHABLE),
    (ExecutionTimedOut, TIMED_OUT),
    (ExecutionError, FAILED),
)


def of_error(error: AgentFlowError) -> int:
    """The exit code of an error."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILED)


def of_status(status: str) -> int:
    """The exit code of an execution that ended, or stopped to wait, with this status."""
    return _BY_STATUS.get(status, FAILED)


def document(record: dict[str, Json]) -> dict[str, Json]:
    """What ``run -o json`` prints for an execution, as the API describes it."""
    status = record["status"]
    final = record.get("final_state")
    errors = list((final or {}).get("errors") or [])
    if not errors and record.get("error"):
        errors = [record["error"]]
    return {
        "status": "success" if status == "completed" else status,
        "execution_id": record["id"],
        "final_state": final,
        "output": record.get("output"),
        "metrics": record.get("metrics"),
        "errors": errors,
    }


def refused(error: AgentFlowError, status: str = "error") -> dict[str, Json]:
    """The document of an invocation that never got as far as a result."""
    if isinstance(error, SpecInvalid):
        status, errors = "invalid", [problem(found) for found in error.problems]
    else:
        errors = [{"type": error.type, "message": error.message}]
    return {
        "status": status,
        "execution_id": getattr(error, "execution_id", None),
        "final_state": None,
        "output": None,
        "metrics": None,
        "errors": errors,
    }


def problem(found: Json) -> dict[str, Json]:
    """A problem of a spec as plain data; a server's problems are plain data already."""
    if isinstance(found, dict):
        return found
    plain: dict[str, Json] = found.to_json()
    return plain


def blobs_of(record: Json) -> list[Json]:
    """The blobs that the result of an execution names, each once: ``{uri, mime_type, size, sha256}``."""
    found: dict[str, Json] = {}
    stack = [(record.get("final_state") or {}).get("outputs"), record.get("output")]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if str(value.get("uri") or "").startswith("blob:") and "mime_type" in value:
                found.setdefault(value["uri"], value)
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return list(found.values())
