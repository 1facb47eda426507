"""Attempts on their way to the workers: those of one turn of the loop leave in one call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from agentflow.engine.workers import Attempt, Failed, OnReports, Workers
from agentflow.execution.events import ErrorInfo, Worker


class Outbox:
    """One coordinator's. Every attempt that was put in is dispatched, or reported as cancelled."""

    def __init__(self, workers: Workers, on_reports: OnReports) -> None:
        self._workers = workers
        self._on_reports = on_reports
        self._waiting: dict[str, Attempt] = {}

    def put(self, attempt: Attempt) -> None:
        """Send an attempt off with all others of this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting[attempt.id] = attempt

    def flush(self) -> None:
        """Send off what waits, now."""
        if self._waiting:
            attempts, self._waiting = list(self._waiting.values()), {}
            self._workers.dispatch(attempts)

    def abandon(self, attempt_ids: Sequence[str]) -> None:
        """Ask that attempts stop; those that have not left never will."""
        unsent = [key for key in attempt_ids if self._waiting.pop(key, None) is not None]
        if unsent:
            asyncio.get_running_loop().call_soon(self._withdrawn, unsent)
        self._workers.cancel([key for key in attempt_ids if key not in unsent])

    def _withdrawn(self, attempt_ids: Sequence[str]) -> None:
        error = ErrorInfo("Cancelled", "The attempt was cancelled before it left")
        self._on_reports([Failed(key, error, (), Worker(os.getpid())) for key in attempt_ids])

    def close(self) -> None:
        """Send nothing off any more of what waits."""
        self._waiting.clear()
