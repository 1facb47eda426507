"""JSON logs, one object per line. The only door to structlog.

Only the fields of ``FIELDS`` leave the process: a payload or a credential that a caller passes by
mistake is dropped, not written. Fields bound with :func:`bound` (request, tenant, trace) are added
to every line of the same task.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

import structlog

from agentflow.execution.events import (
    TERMINAL_EXECUTION,
    Event,
    ExecutionCreated,
    ExecutionFailed,
    ModelCall,
    StepCompleted,
    StepFailed,
    StepLate,
    StepRetrying,
    StepStarted,
    StepTimedOut,
    kind,
)
from agentflow.execution.journal import Recorded
from agentflow.execution.keys import node_id_of
from agentflow.plan.plan import Plan

FIELDS = frozenset(
    " ".join(
        (
            "event level timestamp component pid request_id trace_id tenant principal",
            "method route status duration_s execution_id workflow content_hash seq step",
            "node_id node_type attempt generation error_type retryable delay_s policy",
            "cost_usd input_tokens output_tokens calls worker_pid worker_node worker_pool",
            "coordinator epoch address stack reason count",
        )
    ).split()
)
"""The allow-list. None of them holds what a user wrote, save names of workflows and nodes."""

MAX_TEXT = 2000

_FAILED = (StepFailed, StepTimedOut, ExecutionFailed)
_WITH_ERROR = (StepFailed, StepRetrying, ExecutionFailed)
_lowest = logging.WARNING


def configure(level: str = "INFO", target: TextIO | Path | None = None) -> None:
    """Write lines of ``level`` and above to a stream, or append them to a file; default stderr."""
    global _lowest
    _lowest = getattr(logging, level.upper())
    stream: Any = _opened(target) if isinstance(target, Path) else target or _Stderr()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _allowed,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_lowest),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=False,
    )


def informs() -> bool:
    """Whether lines of level INFO are written: what only they need is not worked out otherwise."""
    return _lowest <= logging.INFO


def log(component: str) -> Any:
    """A logger: ``log("api").info("request", status=200)``. The first word names what happened."""
    return structlog.get_logger(component=component, pid=os.getpid())


def bound(**fields: Any) -> AbstractContextManager[None]:
    """Adds these fields to every line that the current task writes inside the ``with`` block."""
    return structlog.contextvars.bound_contextvars(**fields)


def stack_of(error: BaseException) -> list[str]:
    """Where an error was raised, innermost last; neither its message nor any value."""
    frames = traceback.extract_tb(error.__traceback__)[-20:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


class EventLog:
    """Writes the life of executions and steps of one coordinator to the log (a ``Listener``)."""

    def __init__(self, coordinator: str = "") -> None:
        self._log = log("engine").bind(coordinator=coordinator)
        self._started: dict[str, dict[tuple[str, int], float]] = {}

    def on_events(
        self, plan: Plan, tenant: str, execution_id: str, recorded: Sequence[Recorded]
    ) -> None:
        for record in recorded:
            self._write(plan, tenant, execution_id, record)

    def on_adopted(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._log.info("execution.adopted", **_execution(plan, tenant, execution_id))

    def on_released(self, plan: Plan, tenant: str, execution_id: str) -> None:
        self._started.pop(execution_id, None)
        self._log.info("execution.released", **_execution(plan, tenant, execution_id))

    def _write(self, plan: Plan, tenant: str, execution_id: str, record: Recorded) -> None:
        event = record.event
        failed = isinstance(event, _FAILED)
        if not failed and not informs():
            self._pass(execution_id, event)
            return
        fields = {"seq": record.seq, "tenant": tenant, "execution_id": execution_id}
        if isinstance(event, (ExecutionCreated, *TERMINAL_EXECUTION)):
            fields |= _execution(plan, tenant, execution_id)
        if hasattr(event, "step"):
            fields |= _step(plan, event) | self._duration(execution_id, event)
        fields |= _failure(event) | _usage(getattr(event, "calls", ()))
        if isinstance(event, TERMINAL_EXECUTION):
            self._started.pop(execution_id, None)
        (self._log.warning if failed else self._log.info)(kind(event), **fields)

    def _pass(self, execution_id: str, event: Event) -> None:
        """An event that is not written still begins or ends what another one tells the duration of."""
        if isinstance(event, TERMINAL_EXECUTION):
            self._started.pop(execution_id, None)
        elif hasattr(event, "step"):
            self._duration(execution_id, event)

    def _duration(self, execution_id: str, event: Event) -> dict[str, Any]:
        key = (event.step, event.generation)  # type: ignore[union-attr]
        if isinstance(event, StepStarted):
            self._started.setdefault(execution_id, {}).setdefault(key, event.at)
            return {}
        if isinstance(event, StepRetrying | StepLate):
            return {}
        started = self._started.get(execution_id, {}).pop(key, None)
        if isinstance(event, StepCompleted) and event.started_at is not None:
            started = event.started_at
        return {} if started is None else {"duration_s": round(max(0.0, event.at - started), 6)}


def _execution(plan: Plan, tenant: str, execution_id: str) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "execution_id": execution_id,
        "workflow": plan.name,
        "content_hash": plan.content_hash,
    }


def _step(plan: Plan, event: Any) -> dict[str, Any]:
    node_id = node_id_of(event.step)
    index = plan.ids.get(node_id)
    fields: dict[str, Any] = {
        "step": event.step,
        "node_id": node_id,
        "node_type": None if index is None else plan.nodes[index].type,
        "attempt": event.attempt,
        "generation": event.generation,
    }
    worker = getattr(event, "worker", None)
    if worker is not None:
        fields |= {
            "worker_pid": worker.pid,
            "worker_node": worker.node,
            "worker_pool": worker.pool,
        }
    return fields


def _failure(event: Event) -> dict[str, Any]:
    """What failed, without the message: a provider's may quote what it was sent."""
    fields: dict[str, Any] = {}
    if isinstance(event, _WITH_ERROR):
        fields |= {"error_type": event.error.type, "retryable": event.error.retryable}
    if isinstance(event, ExecutionFailed):
        fields["node_id"] = event.node_id
    if isinstance(event, StepRetrying):
        fields["delay_s"] = event.delay_s
    if isinstance(event, StepFailed | StepTimedOut):
        fields["policy"] = event.policy
    if isinstance(event, StepTimedOut):
        fields["error_type"] = "StepTimeout"
    return fields


def _usage(calls: Sequence[ModelCall]) -> dict[str, Any]:
    if not calls:
        return {}
    return {
        "calls": len(calls),
        "input_tokens": sum(call.usage.input_tokens for call in calls),
        "output_tokens": sum(call.usage.output_tokens for call in calls),
        "cost_usd": round(sum(call.cost for call in calls), 6),
    }


def _allowed(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {
        name: value[:MAX_TEXT] if isinstance(value, str) else value
        for name, value in line.items()
        if name in FIELDS and value is not None and value != ""
    }


class _Stderr(io.TextIOBase):
    """Whatever ``sys.stderr`` is at the moment of writing."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    return os.fdopen(descriptor, "a", buffering=1, encoding="utf-8")


configure("WARNING")
