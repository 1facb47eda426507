"""An execution as its owner keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agentflow.engine.durability import Durability
from agentflow.engine.stream import Stream
from agentflow.engine.workers import Attempt
from agentflow.errors import AgentFlowError
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.views import view
from agentflow.plan.plan import Field, PlanNode


class Owned:
    """An execution that this coordinator drives. ``next_seq`` runs ahead of what is durable;
    ``committed`` says that its row is, ``ended`` that its outcome is, ``withdrawn`` that its caller was
    told it is not accepted, ``doubted`` that it was not committed yet when we entered again: should it
    turn out to be, it may be another's already."""

    def __init__(self, state: ExecutionState, tenant: str) -> None:
        self.state = state
        self.tenant = tenant
        self.next_seq = state.seq + 1
        self.durability = Durability(state)
        self.committed = state.seq > 0
        self.ended = False
        self.withdrawn = False
        self.doubted = False
        self.stream = Stream()
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.attempts: dict[str, tuple[str, int, int]] = {}
        self.obeyed: set[int] = set()

    @property
    def id(self) -> str:
        return self.state.execution_id

    def attempt(self, name: str, step: Step, epoch: int, timeout_s: float | None) -> Attempt:
        """The current attempt of a step, as it travels to a worker."""
        node = self.state.node_of(step)
        return Attempt(
            id=name,
            tenant=self.tenant,
            execution_id=self.id,
            step=step.key,
            attempt=step.attempt,
            generation=step.generation,
            epoch=epoch,
            node=node,
            view=view(self.state, node),
            fields=_fields_of(self.state, node),
            sources=tuple(self.state.plan.source(source) for source in node.sources),
            timeout_s=timeout_s,
        )


def _fields_of(state: ExecutionState, node: PlanNode) -> tuple[Field, ...]:
    """The fields that a node reads or writes: what its worker needs to know of the state."""
    names = dict.fromkeys([*(read.field for read in node.reads), node.output_key or ""])
    return tuple(state.fields[name] for name in names if name in state.fields)


def settling(durable: asyncio.Future[None]) -> Callable[[AgentFlowError | None], None]:
    """Ends a future with what the journal answers: None once it is durable, else why it never will be."""

    def settle(error: AgentFlowError | None) -> None:
        if durable.done():
            return
        if error is None:
            durable.set_result(None)
        else:
            durable.set_exception(error)

    return settle
