"""Workers: where attempts run. The contract, the body of an attempt, and the in-process adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from agentflow.execution.events import ErrorInfo, ModelCall, Worker
from agentflow.plan.plan import Field, PlanNode, PlanSource

Json = Any


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One try of a step, as it travels to a worker. Holds names of credentials, never values.

    ``id`` names the attempt everywhere; ``epoch`` is the owner's fence; ``timeout_s`` is what is left
    of the step's limit; ``sources`` are those the node may use.
    """

    id: str
    tenant: str
    execution_id: str
    step: str
    attempt: int
    generation: int
    epoch: int
    node: PlanNode
    view: dict[str, Json]
    fields: tuple[Field, ...]
    sources: tuple[PlanSource, ...]
    timeout_s: float | None = None


class Delta(msgspec.Struct, frozen=True, tag=True):
    """A piece of a reply; ``offset`` counts characters of the attempt's text before it."""

    id: str
    offset: int
    text: str


class Done(msgspec.Struct, frozen=True, tag=True):
    """The attempt has a result."""

    id: str
    result: Json
    delta: dict[str, Json]
    calls: tuple[ModelCall, ...]
    worker: Worker


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The attempt ended without a result."""

    id: str
    error: ErrorInfo
    calls: tuple[ModelCall, ...]
    worker: Worker


Report = Delta | Done | Failed
OnReports = Callable[[Sequence[Report]], None]


class Workers(Protocol):
    """Where attempts run. Reports arrive on the engine's event loop, in batches, in any order.

    Every dispatched attempt is reported exactly once as Done or Failed, also when its worker dies
    (Failed with WorkerLost) or it is cancelled.
    """

    def open(self, on_reports: OnReports) -> None:
        """Name the receiver of reports; called once, before the first dispatch."""
        ...

    def dispatch(self, attempts: Sequence[Attempt]) -> None:
        """Send attempts off: one call per pool. Returns at once."""
        ...

    def cancel(self, attempt_ids: Sequence[str]) -> None:
        """Ask that these attempts stop; best effort, idempotent."""
        ...

    async def close(self) -> None:
        """Stop receiving; in-process attempts are cancelled."""
        ...
