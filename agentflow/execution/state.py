"""ExecutionState: the fold of an execution's events. Applies recorded choices, evaluates nothing.

execution   pending -> running -> completed | failed | cancelled | timed_out
step        running <-> retrying -> completed | failed | timed_out | cancelled;  or skipped
edge        open -> taken | skipped, once
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from agentflow.execution import events as ev
from agentflow.plan.plan import END, Plan, PlanNode

Json = Any

OPEN, TAKEN, SKIPPED = 0, 1, 2
OVER = frozenset({"completed", "failed", "cancelled", "timed_out"})
UNFINISHED = frozenset({"running", "retrying"})


class Step:
    """One activation of a node. ``failures`` counts attempts that used up the retry policy,
    ``losses`` those whose worker or owner died, ``waited_s`` the back-off after uncounted errors."""

    __slots__ = (
        "attempt",
        "calls",
        "delta",
        "due_at",
        "ended_at",
        "error",
        "failures",
        "generation",
        "key",
        "losses",
        "node",
        "result",
        "started_at",
        "status",
        "waited_s",
        "worker",
    )

    def __init__(self, key: str, node: int, at: float) -> None:
        self.key = key
        self.node = node
        self.status = "running"
        self.generation = 0
        self.attempt = 1
        self.failures = 0
        self.losses = 0
        self.waited_s = 0.0
        self.due_at: float | None = None
        self.started_at = at
        self.ended_at: float | None = None
        self.result: Json = None
        self.delta: dict[str, Json] = {}
        self.calls: list[ev.ModelCall] = []
        self.error: ev.ErrorInfo | None = None
        self.worker: ev.Worker | None = None

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED


class ExecutionState:
    """What is known of an execution. Mutated only by :func:`apply`; ``seq`` counts folded events.

    ``evaluating`` (inline steps handed out), ``ready`` (nodes held back by ``max_parallel``, by
    canonical rank) and ``released`` (nodes that were either) are notes of ``decide`` for its own turn
    of work: not folded, but rebuilt from the fold when another owner takes over.
    """

    def __init__(self, plan: Plan, execution_id: str) -> None:
        self.plan = plan
        self.execution_id = execution_id
        self.status = "pending"
        self.seq = 0
        self.initial_state: dict[str, Json] = {}
        self.metadata: dict[str, Json] = {}
        self.created_at = 0.0
        self.started_at: float | None = None
        self.ended_at: float | None = None
        self.error: ev.ErrorInfo | None = None
        self.error_node: str | None = None
        self.output: Json = None
        self.steps: dict[str, Step] = {}
        self.unfinished = 0
        self.edges = bytearray(len(plan.edges))
        self.unresolved = [len(node.incoming) for node in plan.nodes]
        self.taken_in = [0] * len(plan.nodes)
        self.evaluating: set[str] = set()
        self.ready: list[tuple[int, int]] = []
        self.released: set[int] = set()
        self.fields = {field.name: field for field in plan.fields}

    @property
    def over(self) -> bool:
        return self.status in OVER

    def node_of(self, step: Step) -> PlanNode:
        return self.plan.nodes[step.node]


def fold(state: ExecutionState, events: Iterable[ev.Event]) -> ExecutionState:
    """Apply events in order; returns the same state."""
    for event in events:
        apply(state, event)
    return state


def apply(state: ExecutionState, event: ev.Event) -> None:
    """Apply one event of this execution's journal."""
    _APPLY[type(event)](state, event)
    state.seq += 1


def _created(state: ExecutionState, event: ev.ExecutionCreated) -> None:
    state.created_at = event.at
    state.initial_state = event.initial_state
    state.metadata = event.metadata


def _started(state: ExecutionState, event: ev.ExecutionStarted) -> None:
    state.status = "running"
    state.started_at = event.at


def _resumed(state: ExecutionState, event: ev.ExecutionResumed) -> None:
    state.status = "running"


def _ended(status: str) -> Callable[[ExecutionState, Any], None]:
    def apply_end(state: ExecutionState, event: Any) -> None:
        state.status = status
        state.ended_at = event.at
        state.output = getattr(event, "output", None)
        state.error = getattr(event, "error", None)
        state.error_node = getattr(event, "node_id", None)

    return apply_end


def _step(state: ExecutionState, event: Any) -> Step:
    """The step an event is about; opened by its first event."""
    step = state.steps.get(event.step)
    if step is None:
        step = Step(event.step, _node_index(state.plan, event.step), event.at)
        state.steps[event.step] = step
        state.unfinished += 1
    return step


def _node_index(plan: Plan, key: str) -> int:
    return plan.ids[key.partition("@")[0].partition("[")[0]]


def _close(state: ExecutionState, event: Any, status: str) -> Step:
    step = _step(state, event)
    if step.unfinished:
        state.unfinished -= 1
    step.status = status
    step.attempt = event.attempt
    step.generation = event.generation
    step.ended_at = event.at
    return step


def _step_started(state: ExecutionState, event: ev.StepStarted) -> None:
    step = _step(state, event)
    step.status = "running"
    step.attempt = event.attempt
    step.generation = event.generation
    step.due_at = None


def _step_retrying(state: ExecutionState, event: ev.StepRetrying) -> None:
    step = _step(state, event)
    step.status = "retrying"
    step.calls.extend(event.calls)
    step.error = event.error
    step.due_at = event.at + event.delay_s
    if event.error.type == "WorkerLost":
        step.losses += 1
    elif event.error.uncounted:
        step.waited_s += event.delay_s
    else:
        step.failures += 1


def _step_completed(state: ExecutionState, event: ev.StepCompleted) -> None:
    step = _close(state, event, "completed")
    if event.started_at is not None:
        step.started_at = event.started_at
    step.result = event.result
    step.delta = event.delta
    step.calls.extend(event.calls)
    step.worker = event.worker
    step.error = None
    _resolve(state, step, event.taken)


def _step_failed(state: ExecutionState, event: ev.StepFailed) -> None:
    step = _close(state, event, "failed")
    step.error = event.error
    step.calls.extend(event.calls)
    step.worker = event.worker
    if event.policy != "fail":
        _resolve(state, step, event.taken)


def _step_timed_out(state: ExecutionState, event: ev.StepTimedOut) -> None:
    step = _close(state, event, "timed_out")
    node_id = state.node_of(step).id
    step.error = ev.ErrorInfo(
        "StepTimeout", f"Node {node_id!r} did not end within {event.limit_s:g} s"
    )
    if event.policy != "fail":
        _resolve(state, step, event.taken)


def _step_skipped(state: ExecutionState, event: ev.StepSkipped) -> None:
    _resolve(state, _close(state, event, "skipped"), ())


def _step_cancelled(state: ExecutionState, event: ev.StepCancelled) -> None:
    _close(state, event, "cancelled")


def _step_late(state: ExecutionState, event: ev.StepLate) -> None:
    _step(state, event).calls.extend(event.calls)


def _resolve(state: ExecutionState, step: Step, taken: tuple[int, ...]) -> None:
    """Resolve all outgoing edges of a step together: those in ``taken`` are taken, the rest skipped."""
    chosen = frozenset(taken)
    for index in state.plan.nodes[step.node].outgoing:
        is_taken = index in chosen
        state.edges[index] = TAKEN if is_taken else SKIPPED
        target = state.plan.edges[index].target
        if target != END:
            state.unresolved[target] -= 1
            state.taken_in[target] += is_taken


_APPLY: dict[type, Callable[[ExecutionState, Any], None]] = {
    ev.ExecutionCreated: _created,
    ev.ExecutionStarted: _started,
    ev.ExecutionResumed: _resumed,
    ev.ExecutionCompleted: _ended("completed"),
    ev.ExecutionFailed: _ended("failed"),
    ev.ExecutionCancelled: _ended("cancelled"),
    ev.ExecutionTimedOut: _ended("timed_out"),
    ev.StepStarted: _step_started,
    ev.StepRetrying: _step_retrying,
    ev.StepCompleted: _step_completed,
    ev.StepFailed: _step_failed,
    ev.StepTimedOut: _step_timed_out,
    ev.StepSkipped: _step_skipped,
    ev.StepCancelled: _step_cancelled,
    ev.StepLate: _step_late,
}
