"""Follows one execution to its end, on the screen, and says how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from agentflow.cli import outcome
from agentflow.cli.progress import Progress
from agentflow.cli.screen import Screen

Json = Any
OVER = ("completed", "failed", "cancelled", "timed_out")
_AT_REST = (*OVER, "quarantined", "waiting")


class Backend(Protocol):
    """What both a server and an engine in this process can do."""

    async def submit(self, document: Json, initial_state: Json) -> str: ...
    async def get(self, execution_id: str) -> Json: ...
    async def list(self, status: str | None, limit: int, cursor: str | None) -> Json: ...
    async def cancel(self, execution_id: str, reason: str) -> Json: ...
    def follow(self, execution_id: str, after: int = 0) -> AsyncIterator[Json]: ...
    async def close(self) -> None: ...


async def follow(
    screen: Screen,
    backend: Backend,
    execution_id: str,
    *,
    progress: Progress,
    timeout_s: float | None,
    left: str,
) -> int:
    """Show the execution until it ends; the exit code. ``left`` tells what becomes of it when the
    watcher leaves first (Ctrl-C: 130, the time to wait is over: 124)."""
    reason = None
    with progress, interruptible() as interrupted:
        shown = asyncio.ensure_future(_shown(backend, execution_id, progress))
        leave = asyncio.ensure_future(interrupted.wait())
        try:
            await asyncio.wait(
                (shown, leave), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if not shown.done():
                reason = outcome.DETACHED if leave.done() else outcome.TIMED_OUT
            else:
                shown.result()
        finally:
            for task in (shown, leave):
                task.cancel()
            await asyncio.wait((shown, leave))
    record = await backend.get(execution_id)
    if reason is not None and record["status"] not in _AT_REST:
        screen.say(f"{execution_id} is not over. {left}")
        if screen.structured:
            screen.document(outcome.document(record))
        return reason
    return report(screen, record, quiet=progress.quiet)


def report(screen: Screen, record: Json, *, quiet: bool = False) -> int:
    """Print how an execution ended; the exit code."""
    result = outcome.document(record)
    metrics = result["metrics"] or {}
    if not quiet:
        screen.say(
            f"{record['id']} {record['status'].replace('_', ' ')} in "
            f"{metrics.get('execution_time') or 0:.2f} s, "
            f"{metrics.get('nodes_executed') or 0} nodes, "
            f"{metrics.get('tokens_used') or 0} tokens, ${metrics.get('cost') or 0:.6f}"
        )
    if screen.structured:
        screen.document(result)
    else:
        for error in result["errors"]:
            node = f" in node {error['node_id']}" if error.get("node_id") else ""
            met = "Went on after " if record["status"] == "completed" else ""
            screen.say(f"{met}{error.get('type')}{node}: {error.get('message')}")
        if isinstance(result["output"], str):
            screen.text(result["output"])
        elif result["output"] is not None:
            screen.document(result["output"])
    here = "" if "blobs" in record else " --local"
    for blob in [] if quiet else outcome.blobs_of(record):
        save = f"agentflow blobs save {blob['uri']}{here}"
        screen.say(f"Kept {blob['mime_type']}, {blob['size']} bytes; save it with: {save}")
    for wait in [] if quiet else record.get("waits") or []:
        screen.say(_waits_for(record["id"], wait))
    return outcome.of_status(record["status"])


def _waits_for(execution_id: str, wait: Json) -> str:
    """What an execution waits for, and what to do about it."""
    until = f" until {wait['due_at']}" if wait.get("due_at") else ""
    if wait["kind"] == "timer":
        return f"{wait['node_id']} waits{until}"
    who = f" of {', '.join(wait['assignees'])}" if wait.get("assignees") else ""
    asked = f": {wait['prompt']}" if wait.get("prompt") else ""
    resume = f"agentflow executions resume {execution_id}"
    if wait["kind"] == "signal":
        way = f"{resume} --signal {shlex.quote(wait['signal'])} --data JSON"
        return f"{wait['node_id']} waits{until} for a signal; send it with: {way}"
    way = f"{resume} --wait {shlex.quote(wait['wait_id'])} --data JSON"
    return f"{wait['node_id']} waits{until} for an answer{who}{asked}\nGive it with: {way}"


@contextlib.contextmanager
def interruptible() -> Iterator[asyncio.Event]:
    """An event that is set by the first Ctrl-C or SIGTERM."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted.set)
    try:
        yield interrupted
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


async def until_over(backend: Backend, execution_id: str, limit_s: float) -> Json:
    """The execution once it is over, or as it stands after so many seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            async for _ in backend.follow(execution_id):
                pass
    return await backend.get(execution_id)


async def _shown(backend: Backend, execution_id: str, progress: Progress) -> None:
    """Show events up to the end, or until the execution waits for somebody; a time comes by itself."""
    async for event in backend.follow(execution_id):
        progress.show(event)
        if event["type"] == "execution.waiting":
            record = await backend.get(execution_id)
            waits = record.get("waits") or []
            if record["status"] == "waiting" and any(w["kind"] != "timer" for w in waits):
                return
