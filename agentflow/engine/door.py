"""The door to the coordinators: how those who accept requests reach those who own executions."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from agentflow.engine.engine import Engine
from agentflow.engine.stream import StreamItem
from agentflow.execution.journal import Outcome, Submission

Json = Any


class Door(Protocol):
    """Reaches coordinators by id. In-process for ``--local``, Ray actors otherwise."""

    async def accept(self, submission: Submission) -> Outcome | None:
        """Returns when the execution is committed, with its outcome where that was committed too; None
        tells nothing about it. Tries the coordinators in the order of a rendezvous hash of the id,
        always with the same id.

        Raises StoreUnavailable when none could commit it; Conflict when the id exists.
        """
        ...

    def watch(
        self, owner: str, execution_id: str, after: int
    ) -> AsyncIterator[Sequence[StreamItem]]:
        """Durable events with a greater seq, then what follows, live, with token deltas.

        Ends after the terminal event, or when the owner no longer owns the execution or is gone:
        the caller then looks at the journal and the row again.
        """
        ...

    async def nudge(self, owner: str, execution_id: str) -> None:
        """Hint that a command waits for this execution; losing it costs at most a second."""
        ...

    async def metrics(self) -> dict[str, str]:
        """Prometheus text of every live coordinator, by its id."""
        ...

    async def coordinators(self) -> Sequence[dict[str, Json]]:
        """``{id, alive, active, pid, node}`` of every coordinator."""
        ...

    async def close(self) -> None:
        """Let go; executions go on."""
        ...


class InProcessDoor:
    """The door to one engine in this very process."""

    def __init__(self, engine: Engine, metrics: Callable[[], str]) -> None:
        self._engine = engine
        self._metrics = metrics

    async def accept(self, submission: Submission) -> Outcome | None:
        return await self._engine.accept(submission)

    def watch(
        self, owner: str, execution_id: str, after: int
    ) -> AsyncIterator[Sequence[StreamItem]]:
        return self._engine.watch(execution_id, after)

    async def nudge(self, owner: str, execution_id: str) -> None:
        self._engine.nudge(execution_id)

    async def metrics(self) -> dict[str, str]:
        return {self._engine.id: self._metrics()}

    async def coordinators(self) -> Sequence[dict[str, Json]]:
        return [
            {
                "id": self._engine.id,
                "alive": self._engine.available,
                "active": self._engine.active,
                "pid": os.getpid(),
                "node": "local",
            }
        ]

    async def close(self) -> None:
        await self._engine.drain()
        await self._engine.close()
