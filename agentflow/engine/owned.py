"""An execution as its owner keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from agentflow.engine.deadlines import Deadline
from agentflow.engine.durability import Durability
from agentflow.engine.outcome import outcome_of
from agentflow.engine.stream import Stream
from agentflow.engine.workers import Attempt
from agentflow.errors import AgentFlowError
from agentflow.execution.events import TERMINAL_STEP, Event
from agentflow.execution.journal import Outcome
from agentflow.execution.keys import node_id_of, wait_id
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.views import view
from agentflow.plan.plan import Field, PlanNode

WAITING = ("human", "wait")
"""Types of nodes whose steps wait for something outside."""
NO_COMMANDS: frozenset[int] = frozenset()
NO_NODES: frozenset[str] = frozenset()
"""What most executions have, so that none has an empty set of its own."""


class Owned:
    """An execution that this coordinator drives. ``next_seq`` runs ahead of what is durable;
    ``committed`` says that its row is, ``ended`` that its outcome is, ``withdrawn`` that its caller was
    told it is not accepted, ``doubted`` that it was not committed yet when we entered again: should it
    turn out to be, it may be another's already. ``result``: its outcome, once that is durable."""

    __slots__ = (
        "_waiting",
        "attempts",
        "committed",
        "doubted",
        "durability",
        "ended",
        "next_seq",
        "obeyed",
        "result",
        "state",
        "stream",
        "tenant",
        "timers",
        "withdrawn",
    )

    def __init__(self, state: ExecutionState, tenant: str) -> None:
        self.state = state
        self.tenant = tenant
        self.next_seq = state.seq + 1
        self.durability = Durability(state)
        self.committed = state.seq > 0
        self.ended = False
        self.result: Outcome | None = None
        self.withdrawn = False
        self.doubted = False
        self.stream = Stream()
        self.timers: dict[str, Deadline] = {}
        self.attempts: dict[str, tuple[str, int, int]] = {}
        self.obeyed: frozenset[int] = NO_COMMANDS
        self._waiting = frozenset([n.id for n in state.plan.nodes if n.type in WAITING]) or NO_NODES

    @property
    def id(self) -> str:
        return self.state.execution_id

    @property
    def may_wait(self) -> bool:
        """Whether some node waits for a person, a time or a signal."""
        return bool(self._waiting)

    def outcome(self) -> Outcome:
        """The row of the execution, which is over; it names the blobs that no event does."""
        return msgspec.structs.replace(outcome_of(self.state), blobs=self.durability.unnamed)

    def waits_ended(self, events: Sequence[Event]) -> tuple[str, ...]:
        """Names of the waits that end with these events."""
        return tuple(
            wait_id(event.step, event.generation)
            for event in events
            if isinstance(event, TERMINAL_STEP) and node_id_of(event.step) in self._waiting
        )

    def wants(self, attempt: Attempt) -> bool:
        """Whether this is still the attempt that a step is about to make."""
        step = self.state.steps.get(attempt.step)
        if step is None or self.state.over or step.status != "running":
            return False
        return (step.attempt, step.generation) == (attempt.attempt, attempt.generation)

    def attempt(self, name: str, step: Step, epoch: int, timeout_s: float) -> Attempt:
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
            sources=tuple([self.state.plan.source(source) for source in node.sources]),
            timeout_s=timeout_s,
            losses=step.losses,
        )


def _fields_of(state: ExecutionState, node: PlanNode) -> tuple[Field, ...]:
    """The fields that a node reads or writes: what its worker needs to know of the state."""
    names = dict.fromkeys([*(read.field for read in node.reads), node.output_key or ""])
    return tuple([state.fields[name] for name in names if name in state.fields])


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
