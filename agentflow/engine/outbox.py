"""Attempts on their way to the workers: those of one turn of the loop leave in one call."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence

from agentflow.engine.owned import Owned
from agentflow.engine.workers import Attempt, Failed, OnReports, Workers
from agentflow.execution.events import ErrorInfo, Worker


class Outbox:
    """One coordinator's. Every attempt that was put in is dispatched, or reported as cancelled, or left to
    the next owner. ``may_send``: whether the lease is ours, looked at right before the workers are told:
    a coordinator that was paused may have been given up meanwhile, and its steps done by another. Nor
    does an attempt leave whose step has ended, or was given up, while it waited for that."""

    def __init__(
        self, workers: Workers, on_reports: OnReports, may_send: Callable[[], bool]
    ) -> None:
        self._workers = workers
        self._on_reports = on_reports
        self._may_send = may_send
        self._waiting: dict[str, tuple[Attempt, Owned]] = {}

    def put(self, attempt: Attempt, owned: Owned) -> None:
        """Send an attempt off with all others of this turn of the loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting[attempt.id] = (attempt, owned)

    def flush(self) -> None:
        """Send off what waits, now; or keep it until the lease is ours again."""
        if self._waiting and self._may_send():
            waiting, self._waiting = list(self._waiting.values()), {}
            wanted = [attempt for attempt, owned in waiting if owned.wants(attempt)]
            if len(wanted) < len(waiting):
                unwanted = [each.id for each, owned in waiting if not owned.wants(each)]
                asyncio.get_running_loop().call_soon(self._withdrawn, unwanted)
            if wanted:
                self._workers.dispatch(wanted)

    def abandon(self, attempt_ids: Sequence[str]) -> None:
        """Ask that attempts stop; those that have not left never will."""
        unsent = {key for key in attempt_ids if self._waiting.pop(key, None) is not None}
        if unsent:
            asyncio.get_running_loop().call_soon(self._withdrawn, sorted(unsent))
        self._workers.cancel([key for key in attempt_ids if key not in unsent])

    def leave(self, attempt_ids: Sequence[str]) -> None:
        """These are no longer ours; those that have not left never will."""
        self._workers.leave([k for k in attempt_ids if self._waiting.pop(k, None) is None])

    def _withdrawn(self, attempt_ids: Sequence[str]) -> None:
        error = ErrorInfo("Cancelled", "The attempt was cancelled before it left")
        self._on_reports([Failed(key, error, (), Worker(os.getpid())) for key in attempt_ids])

    def close(self) -> None:
        """Send nothing off any more of what waits."""
        self._waiting.clear()
