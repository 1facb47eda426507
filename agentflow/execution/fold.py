"""Folding: what each event changes in the state. Applies recorded choices, evaluates nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from agentflow.execution import events as ev
from agentflow.execution.joins import failure_behind, past_of
from agentflow.execution.keys import map_key_of, parse_key
from agentflow.execution.loops import resolve, unresolve
from agentflow.execution.state import ExecutionState, Items, Step
from agentflow.plan.plan import PlanNode


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
    state.created_at = state.clock_at = event.at
    state.initial_state = event.initial_state
    state.metadata = event.metadata
    state.touched.append(state.plan.start)


def _started(state: ExecutionState, event: ev.ExecutionStarted) -> None:
    state.status = "running"
    state.started_at = event.at


def _waiting(state: ExecutionState, event: ev.ExecutionWaiting) -> None:
    """The clock stops: what it has counted so far is kept below zero until it goes on."""
    state.clock_at -= event.at
    state.status = "waiting"


def _resumed(state: ExecutionState, event: ev.ExecutionResumed) -> None:
    """Go on after a wait; or after an end, with every step pending again whose end was not met."""
    if state.over:
        state.clock_at = event.at
        for steps in state.visits.values():
            for step in steps:
                _reopen(step)
        for node in state.plan.nodes:
            if node.branch and not state.taken_in[node.index]:
                _reopen_branch(state, node)
    elif state.status == "waiting":
        state.clock_at += event.at
    state.status = "running"
    state.ended_at = state.error = state.error_node = None


def _reopen(step: Step) -> None:
    """Open a new generation of a step whose end was not met."""
    if step.status in ("failed", "timed_out", "cancelled") and not step.met:
        step.status = "pending"
        step.generation += 1


def _reopen_branch(state: ExecutionState, join: PlanNode) -> None:
    """Open anew what led to a first_success join that failed for want of a taken edge; branches with
    loops of their own have ended, and the join fails again."""
    step = state.current(join)
    nodes = [state.plan.nodes[index] for index in join.branch]
    if step is None or step.status != "pending" or any(n.loops != state.frame(join) for n in nodes):
        return
    for node in nodes:
        before = state.current(node)
        if before is not None and before.status in ("failed", "timed_out", "skipped", "cancelled"):
            before.status = "failed"
            before.met = False
            _reopen(before)
            unresolve(state, node)


def _ended(status: str) -> Callable[[ExecutionState, Any], None]:
    def apply_end(state: ExecutionState, event: Any) -> None:
        state.status = status
        state.ended_at = event.at
        state.output = getattr(event, "output", None)
        state.error = getattr(event, "error", None)
        state.error_node = getattr(event, "node_id", None)

    return apply_end


def _open(state: ExecutionState, event: Any, counted: tuple[int, ...] = ()) -> Step:
    """The step an event is about; a new one at its first event. What released it is looked up where it
    begins, in each generation."""
    step = state.steps.get(event.step)
    if step is None:
        step = _new_step(state, event)
    elif step.status != "pending":
        return step
    if step.index is None:
        node = state.plan.nodes[step.node]
        if node.catches:
            step.error_from = failure_behind(state, node, counted)
        if not state.plan.fixed:
            step.past = past_of(state, node, counted)
    return step


def _new_step(state: ExecutionState, event: Any) -> Step:
    index = state.plan.ids.get(event.step)
    iterations: tuple[int, ...] = ()
    items: tuple[int, ...] = ()
    if index is None:
        node_id, iterations, items = parse_key(event.step)
        index = state.plan.ids[node_id]
    step = Step(event.step, index, event.at)
    step.iterations = iterations
    state.steps[event.step] = step
    if items:
        step.index = items[-1]
        _items_of(state, step).steps[step.index] = step
    else:
        step.ordinal = len(state.steps)
        state.visits.setdefault(index, []).append(step)
        if iterations:
            state.kept.setdefault(index, []).append(step)
    return step


def _close(state: ExecutionState, event: Any, status: str, counted: tuple[int, ...] = ()) -> Step:
    step = _open(state, event, counted)
    _leave(state, step)
    step.status = status
    step.attempt = event.attempt
    step.generation = event.generation
    step.ended_at = event.at
    return step


def _items_of(state: ExecutionState, step: Step) -> Items:
    """The items of the map step to which the step of one item belongs."""
    return state.items[map_key_of(step.key)]


def _enter(state: ExecutionState, step: Step, status: str) -> None:
    """Count an open step by its status."""
    _leave(state, step)
    step.status = status
    _count(state, step, 1)


def _leave(state: ExecutionState, step: Step) -> None:
    if step.unfinished:
        _count(state, step, -1)


def _count(state: ExecutionState, step: Step, change: int) -> None:
    """``parked`` are open steps that hold no worker: those that wait, and a map around its items."""
    state.unfinished += change
    if step.status == "waiting" or step.key in state.items:
        state.parked += change
    if step.index is not None:
        _items_of(state, step).open += change


def _step_started(state: ExecutionState, event: ev.StepStarted) -> None:
    step = _open(state, event, event.counted)
    if event.generation != step.generation or step.status == "pending":
        _begin_generation(step, event.at)
    if event.items is not None:
        _leave(state, step)
        step.status = "pending"
        _expand(state, step, event.items)
    _enter(state, step, "running")
    step.attempt = event.attempt
    step.generation = event.generation
    step.due_at = None


def _begin_generation(step: Step, at: float) -> None:
    step.started_at = at
    step.ended_at = step.error = None
    step.failures = step.losses = 0
    step.waited_s = 0.0


def _expand(state: ExecutionState, step: Step, count: int) -> None:
    """Begin a map step, or begin it anew: items that have ended well keep their results."""
    before = state.items.get(step.key)
    steps = before.steps if before is not None else {}
    stopped = before is not None and before.stopped
    for item in steps.values():
        item.met = item.met and (stopped or item.status != "cancelled")
        _reopen(item)
    state.items[step.key] = Items(count, steps)
    state.items[step.key].stopped = stopped


def _step_waiting(state: ExecutionState, event: ev.StepWaiting) -> None:
    step = _open(state, event, event.counted)
    if step.status == "pending":
        _begin_generation(step, event.at)
    _enter(state, step, "waiting")
    step.attempt = event.attempt
    step.generation = event.generation
    step.due_at = event.until


def _step_retrying(state: ExecutionState, event: ev.StepRetrying) -> None:
    step = _open(state, event)
    _enter(state, step, "retrying")
    _bill(state, step, event.calls)
    step.error = event.error
    step.due_at = event.at + event.delay_s
    if event.error.type == "WorkerLost":
        step.losses += 1
    elif event.error.uncounted:
        step.waited_s += event.delay_s
    else:
        step.failures += 1


def _step_completed(state: ExecutionState, event: ev.StepCompleted) -> None:
    step = _close(state, event, "completed", event.counted)
    if event.started_at is not None:
        step.started_at = event.started_at
    step.result = event.result
    step.delta = event.delta
    step.cached = event.cached
    _bill(state, step, event.calls)
    step.worker = event.worker
    step.error = None
    if step.index is None:
        _gathered(state, step)
        resolve(state, step, event.taken)
    elif event.stop:
        _items_of(state, step).stopped = True


def _gathered(state: ExecutionState, step: Step) -> None:
    """The results of a map step's items are in its own now."""
    items = state.items.get(step.key)
    for item in items.steps.values() if items is not None else ():
        item.result, item.delta = None, {}


def _step_failed(state: ExecutionState, event: ev.StepFailed) -> None:
    step = _close(state, event, "failed", event.counted)
    step.error = event.error
    _bill(state, step, event.calls)
    step.worker = event.worker
    _meet(state, step, event.policy, event.taken)


def _step_timed_out(state: ExecutionState, event: ev.StepTimedOut) -> None:
    step = _close(state, event, "timed_out")
    node_id = state.node_of(step).id
    step.error = ev.ErrorInfo(
        "StepTimeout", f"Node {node_id!r} did not end within {event.limit_s:g} s"
    )
    _meet(state, step, event.policy, event.taken)


def _meet(state: ExecutionState, step: Step, policy: str, taken: tuple[int, ...]) -> None:
    """Go on after a failure, unless it fails the execution."""
    step.met = policy != "fail"
    if step.met and step.index is None:
        resolve(state, step, taken)


def _step_skipped(state: ExecutionState, event: ev.StepSkipped) -> None:
    resolve(state, _close(state, event, "skipped"), ())


def _step_cancelled(state: ExecutionState, event: ev.StepCancelled) -> None:
    """Its edges are skipped if it lost a race; if the execution ended, they stay open."""
    step = _close(state, event, "cancelled")
    step.met = bool(event.race)
    if step.met and step.index is None:
        resolve(state, step, ())


def _bill(state: ExecutionState, step: Step, calls: tuple[ev.ModelCall, ...]) -> None:
    """Keep what was called; calls for an item are those of its map step too."""
    if calls:
        step.calls.extend(calls)
        if step.index is not None:
            state.steps[map_key_of(step.key)].calls.extend(calls)


def _step_late(state: ExecutionState, event: ev.StepLate) -> None:
    _bill(state, _open(state, event), event.calls)


_APPLY: dict[type, Callable[[ExecutionState, Any], None]] = {
    ev.ExecutionCreated: _created,
    ev.ExecutionStarted: _started,
    ev.ExecutionWaiting: _waiting,
    ev.ExecutionResumed: _resumed,
    ev.ExecutionCompleted: _ended("completed"),
    ev.ExecutionFailed: _ended("failed"),
    ev.ExecutionCancelled: _ended("cancelled"),
    ev.ExecutionTimedOut: _ended("timed_out"),
    ev.StepStarted: _step_started,
    ev.StepRetrying: _step_retrying,
    ev.StepWaiting: _step_waiting,
    ev.StepCompleted: _step_completed,
    ev.StepFailed: _step_failed,
    ev.StepTimedOut: _step_timed_out,
    ev.StepSkipped: _step_skipped,
    ev.StepCancelled: _step_cancelled,
    ev.StepLate: _step_late,
}
