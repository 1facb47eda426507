"""What a failed attempt leads to: another one, by the retry policy; then fail, continue, skip or goto."""

from __future__ import annotations

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.cancel import cancel_items, end, late
from agentflow.execution.keys import node_id_of
from agentflow.execution.retry import next_delay
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.turn import Abandon, Dispatch, Turn
from agentflow.plan.plan import PlanNode


def broke(turn: Turn, happening: hp.Broke) -> None:
    """An attempt ended without a result: try again, or the step has failed."""
    state = turn.state
    if happening.inline:
        if happening.step in state.evaluating:
            state.evaluating.discard(happening.step)
            fail_step(turn, happening)
        return
    if not is_current(state, happening):
        late(turn, happening)
        return
    step = state.steps[happening.step]
    node, called = state.node_of(step), any(c.answered for c in happening.calls)
    pause = next_delay(node, step, happening.error, happening.jitter, called=called)
    if pause is None:
        fail_step(turn, happening)
    else:
        _retry(turn, step, happening.error, pause, happening.calls)


def is_current(state: ExecutionState, happening: hp.Finished | hp.Broke | hp.Parked) -> bool:
    """Whether a report is about the attempt that is under way."""
    step = state.steps.get(happening.step)
    return (
        step is not None
        and not state.over
        and step.status in ("running", "waiting")
        and (step.attempt, step.generation) == (happening.attempt, happening.generation)
    )


def _retry(
    turn: Turn, step: Step, error: ev.ErrorInfo, pause: float, calls: tuple[ev.ModelCall, ...]
) -> None:
    turn.emit(
        ev.StepRetrying(
            at=turn.at,
            step=step.key,
            attempt=step.attempt,
            generation=step.generation,
            error=error,
            delay_s=pause,
            calls=calls,
        )
    )
    if pause > 0:
        turn.wake(step, step.due_at or turn.at)
    else:
        try_again(turn, step)


def try_again(turn: Turn, step: Step) -> None:
    """Start the next attempt of an open step."""
    start_attempt(turn, step.key, step.node, step.attempt + 1, step.generation)


def start_attempt(turn: Turn, key: str, node: int, attempt: int = 1, generation: int = 0) -> None:
    """Record that an attempt starts, and send it off."""
    counted = turn.state.released.get(node, ())
    turn.emit(
        ev.StepStarted(
            at=turn.at, step=key, attempt=attempt, generation=generation, counted=counted
        )
    )
    turn.command(Dispatch(key, node, attempt, generation))


def lost(step: Step, at: float, taken: tuple[int, ...]) -> hp.Broke:
    """What is to be said of a running attempt whose owner died, and the attempt with it."""
    error = ev.ErrorInfo(
        "WorkerLost", "The coordinator died while the attempt ran", retryable=True, uncounted=True
    )
    return hp.Broke(
        at=at,
        step=step.key,
        attempt=step.attempt,
        generation=step.generation,
        error=error,
        taken=taken,
    )


def fail_step(turn: Turn, happening: hp.Broke) -> None:
    """The step has failed for good."""
    state = turn.state
    node, step = _node_of(state, happening.step), state.steps.get(happening.step)
    error = happening.error
    if error.type == "WorkerLost" and node.effects == "once":
        error = ev.ErrorInfo(
            "UnknownOutcome",
            f"Node {node.id!r} was interrupted; whether it took effect is unknown",
        )
    chosen = policy(state, node, error.type, item="[" in happening.step)
    state.evaluating.discard(happening.step)
    cancel_items(turn, happening.step, happening.step if chosen != "fail" else "")
    turn.emit(
        ev.StepFailed(
            at=turn.at,
            step=happening.step,
            attempt=happening.attempt,
            generation=step.generation if step else happening.generation,
            error=error,
            policy=chosen,
            taken=_taken(state, node, chosen, happening.taken),
            calls=happening.calls,
            worker=happening.worker,
            counted=state.released.get(node.index, ()),
        )
    )
    if chosen == "fail" and "[" not in happening.step:
        end(turn, ev.ExecutionFailed(at=turn.at, error=error, node_id=node.id))


def step_limit(turn: Turn, happening: hp.StepLimit) -> None:
    """A step has been open for longer than its node allows."""
    state = turn.state
    step = state.steps.get(happening.step)
    if step is None or not step.unfinished or step.generation != happening.generation:
        return
    node = state.node_of(step)
    chosen = policy(state, node, "StepTimeout")
    state.evaluating.discard(step.key)
    cancel_items(turn, step.key, step.key if chosen != "fail" else "")
    turn.command(Abandon(step.key, step.attempt, step.generation))
    turn.emit(
        ev.StepTimedOut(
            at=turn.at,
            step=step.key,
            attempt=step.attempt,
            generation=step.generation,
            limit_s=node.timeout_s or 0.0,
            policy=chosen,
            taken=_taken(state, node, chosen, happening.taken),
        )
    )
    if chosen == "fail" and step.error is not None:
        end(turn, ev.ExecutionFailed(at=turn.at, error=step.error, node_id=node.id))


def policy(state: ExecutionState, node: PlanNode, error: str, item: bool = False) -> str:
    """What a failure leads to: fail, continue, skip or goto; for an item of a map, its own policy.

    IterationLimit is not met by continue, nor by going on inside the loop whose bound is passed. A branch
    that races must not fail the execution.
    """
    if item:
        return str(node.options.get("on_item_error", "fail"))
    chosen = node.on_error
    swallowed = chosen == "continue" and error == "IterationLimit"
    if swallowed or (chosen == "goto" and state.past_bound(node) and _stays(state, node)):
        chosen = "fail"
    return "skip" if chosen == "fail" and node.races else chosen


def _stays(state: ExecutionState, node: PlanNode) -> bool:
    """Whether the error edge of a loop's entry leads into the loop."""
    edges = (state.plan.edges[index] for index in error_edges(state, node))
    return any(edge.level == node.loops[-1] for edge in edges)


def error_edges(state: ExecutionState, node: PlanNode) -> tuple[int, ...]:
    """The edges that a node's ``goto`` was compiled to."""
    edges = state.plan.edges
    return tuple(index for index in node.outgoing if edges[index].kind == "error")


def _taken(
    state: ExecutionState, node: PlanNode, chosen: str, evaluated: tuple[int, ...]
) -> tuple[int, ...]:
    if chosen == "goto":
        return error_edges(state, node)
    return evaluated if chosen == "continue" else ()


def _node_of(state: ExecutionState, key: str) -> PlanNode:
    return state.plan.node(node_id_of(key))
