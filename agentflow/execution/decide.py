"""decide(state, happening) -> events and commands: the only place where it is decided what happens.

Pure: no clock, no chance, no I/O. ``state`` is advanced by the events that are returned, so that it is
always the fold of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import msgspec

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.keys import step_key
from agentflow.execution.retry import next_delay
from agentflow.execution.state import ExecutionState, Step, apply
from agentflow.plan.plan import END, PlanNode


class Evaluate(msgspec.Struct, frozen=True):
    """Run this inline step now and report Finished or Broke."""

    step: str
    node: int


class Dispatch(msgspec.Struct, frozen=True):
    """Send this attempt to a worker, once its ``step.started`` is durable."""

    step: str
    node: int
    attempt: int
    generation: int


class Wake(msgspec.Struct, frozen=True):
    """Report Due for this step at this time."""

    step: str
    attempt: int
    generation: int
    at: float


class Abandon(msgspec.Struct, frozen=True):
    """Ask the worker to stop this attempt; its result will not be used."""

    step: str
    attempt: int
    generation: int


class Conclude(msgspec.Struct, frozen=True):
    """Every step is over: evaluate the published output and report Concluded."""


Command = Evaluate | Dispatch | Wake | Abandon | Conclude


class Decision(msgspec.Struct, frozen=True):
    """Events to append, in order, and commands to carry out (dispatches only once durable)."""

    events: list[ev.Event]
    commands: list[Command]


class Turn:
    """One call of decide: collects events (applying each at once) and commands."""

    def __init__(self, state: ExecutionState, at: float) -> None:
        self.state = state
        self.at = at
        self.events: list[ev.Event] = []
        self.commands: list[Command] = []

    def emit(self, event: ev.Event) -> None:
        apply(self.state, event)
        self.events.append(event)


def decide(state: ExecutionState, happening: hp.Happening) -> Decision:
    """What follows from a happening. Late results are taken note of even when all is over."""
    turn = Turn(state, happening.at)
    if not state.over or isinstance(happening, hp.Finished | hp.Broke):
        _HANDLE[type(happening)](turn, happening)
        _start_ready(turn)
        _conclude_if_over(turn, happening)
    return Decision(turn.events, turn.commands)


def _conclude_if_over(turn: Turn, happening: hp.Happening) -> None:
    state = turn.state
    busy = state.unfinished or state.evaluating or state.ready
    idle = not busy and not isinstance(happening, hp.Concluded)
    if state.status == "running" and idle:
        turn.commands.append(Conclude())


def _accepted(turn: Turn, happening: hp.Accepted) -> None:
    state = turn.state
    turn.emit(
        ev.ExecutionCreated(
            at=turn.at,
            execution_id=state.execution_id,
            tenant=happening.tenant,
            content_hash=state.plan.content_hash,
            initial_state=happening.initial_state,
            metadata=happening.metadata,
        )
    )
    turn.emit(ev.ExecutionStarted(at=turn.at))
    _release(turn, state.plan.nodes[state.plan.start])


def _finished(turn: Turn, happening: hp.Finished) -> None:
    if happening.inline:
        turn.state.evaluating.discard(happening.step)
        if turn.state.over:
            return
    elif not _is_current(turn.state, happening):
        _late(turn, happening)
        return
    turn.emit(
        ev.StepCompleted(
            at=turn.at,
            step=happening.step,
            attempt=happening.attempt,
            generation=happening.generation,
            result=happening.result,
            delta=happening.delta,
            taken=happening.taken,
            calls=happening.calls,
            worker=happening.worker,
            started_at=turn.at if happening.inline else None,
        )
    )
    _spread(turn, happening.step)


def _broke(turn: Turn, happening: hp.Broke) -> None:
    state = turn.state
    if happening.inline:
        turn.state.evaluating.discard(happening.step)
        if not state.over:
            _fail_step(turn, happening)
        return
    if not _is_current(state, happening):
        _late(turn, happening)
        return
    step = state.steps[happening.step]
    pause = next_delay(state.node_of(step), step, happening.error, happening.jitter)
    if pause is None:
        _fail_step(turn, happening)
    else:
        _retry(turn, step, happening.error, pause, happening.calls)


def _is_current(state: ExecutionState, happening: hp.Finished | hp.Broke) -> bool:
    step = state.steps.get(happening.step)
    return (
        step is not None
        and not state.over
        and step.status == "running"
        and (step.attempt, step.generation) == (happening.attempt, happening.generation)
    )


def _late(turn: Turn, happening: hp.Finished | hp.Broke) -> None:
    """Keep what a useless result cost; say nothing where it cost nothing."""
    if happening.calls:
        turn.emit(
            ev.StepLate(
                at=turn.at,
                step=happening.step,
                attempt=happening.attempt,
                generation=happening.generation,
                calls=happening.calls,
            )
        )


def _retry(
    turn: Turn,
    step: Step,
    error: ev.ErrorInfo,
    pause: float,
    calls: tuple[ev.ModelCall, ...] = (),
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
        turn.commands.append(Wake(step.key, step.attempt, step.generation, step.due_at or turn.at))
    else:
        _start(turn, step.key, step.node, step.attempt + 1, step.generation)


def _due(turn: Turn, happening: hp.Due) -> None:
    step = turn.state.steps.get(happening.step)
    if step is None or step.status != "retrying":
        return
    if (step.attempt, step.generation) == (happening.attempt, happening.generation):
        _start(turn, step.key, step.node, step.attempt + 1, step.generation)


def _fail_step(turn: Turn, happening: hp.Broke) -> None:
    node = turn.state.plan.node(happening.step)
    error = happening.error
    if error.type == "WorkerLost" and node.effects == "once":
        error = ev.ErrorInfo(
            "UnknownOutcome",
            f"Node {node.id!r} was interrupted; whether it took effect is unknown",
        )
    turn.emit(
        ev.StepFailed(
            at=turn.at,
            step=happening.step,
            attempt=happening.attempt,
            generation=happening.generation,
            error=error,
            policy=node.on_error,
            taken=happening.taken if node.on_error == "continue" else (),
            calls=happening.calls,
            worker=happening.worker,
        )
    )
    _after_failure(turn, happening.step, node, error)


def _step_limit(turn: Turn, happening: hp.StepLimit) -> None:
    step = turn.state.steps.get(happening.step)
    if step is None or not step.unfinished or step.generation != happening.generation:
        return
    node = turn.state.node_of(step)
    turn.commands.append(Abandon(step.key, step.attempt, step.generation))
    turn.emit(
        ev.StepTimedOut(
            at=turn.at,
            step=step.key,
            attempt=step.attempt,
            generation=step.generation,
            limit_s=node.timeout_s or 0.0,
            policy=node.on_error,
            taken=happening.taken if node.on_error == "continue" else (),
        )
    )
    if step.error is not None:
        _after_failure(turn, step.key, node, step.error)


def _after_failure(turn: Turn, key: str, node: PlanNode, error: ev.ErrorInfo) -> None:
    if node.on_error == "fail":
        _end(turn, ev.ExecutionFailed(at=turn.at, error=error, node_id=node.id))
    else:
        _spread(turn, key)


def _execution_limit(turn: Turn, happening: hp.ExecutionLimit) -> None:
    limit = turn.state.plan.settings.timeout_s
    _end(turn, ev.ExecutionTimedOut(at=turn.at, limit_s=limit))


def _cancel_asked(turn: Turn, happening: hp.CancelAsked) -> None:
    _end(turn, ev.ExecutionCancelled(at=turn.at, reason=happening.reason))


def _concluded(turn: Turn, happening: hp.Concluded) -> None:
    if happening.error is None:
        turn.emit(ev.ExecutionCompleted(at=turn.at, output=happening.output))
    else:
        _end(turn, ev.ExecutionFailed(at=turn.at, error=happening.error))


def _end(turn: Turn, event: ev.Event) -> None:
    """End the execution early: open steps are cancelled, their attempts abandoned."""
    turn.state.ready.clear()
    turn.state.evaluating.clear()
    for step in [step for step in turn.state.steps.values() if step.unfinished]:
        turn.commands.append(Abandon(step.key, step.attempt, step.generation))
        turn.emit(
            ev.StepCancelled(
                at=turn.at, step=step.key, attempt=step.attempt, generation=step.generation
            )
        )
    turn.emit(event)


def _taken_over(turn: Turn, happening: hp.TakenOver) -> None:
    """Go on where the journal ends: lost attempts are tried again, ready nodes released."""
    state = turn.state
    for step in [step for step in state.steps.values() if step.unfinished]:
        if state.over:
            return
        if step.status == "retrying":
            turn.commands.append(
                Wake(step.key, step.attempt, step.generation, step.due_at or turn.at)
            )
        else:
            _lose(turn, step, happening.taken.get(step.key, ()))
    if state.status == "pending":
        turn.emit(ev.ExecutionStarted(at=turn.at))
    for node in state.plan.nodes:
        _settle(turn, deque([node.index]))


def _lose(turn: Turn, step: Step, taken: tuple[int, ...]) -> None:
    error = ev.ErrorInfo(
        "WorkerLost", "The coordinator died while the attempt ran", retryable=True, uncounted=True
    )
    broke = hp.Broke(
        at=turn.at,
        step=step.key,
        attempt=step.attempt,
        generation=step.generation,
        error=error,
        taken=taken,
    )
    _broke(turn, broke)


def _spread(turn: Turn, key: str) -> None:
    """After a step's edges were resolved: release or skip the nodes that were waiting for them."""
    state = turn.state
    outgoing = state.plan.nodes[state.steps[key].node].outgoing
    targets = dict.fromkeys(state.plan.edges[index].target for index in outgoing)
    _settle(turn, deque(target for target in targets if target != END))


def _settle(turn: Turn, nodes: deque[int]) -> None:
    """Join ``all``: a node runs once every incoming edge is resolved and one was taken; when none
    was, it is skipped, and so are its outgoing edges, which may settle further nodes."""
    state = turn.state
    while nodes:
        node = state.plan.nodes[nodes.popleft()]
        if state.unresolved[node.index] or state.over or _begun(state, node):
            continue
        if state.taken_in[node.index] or node.index == state.plan.start:
            _release(turn, node)
        else:
            turn.emit(ev.StepSkipped(at=turn.at, step=step_key(node.id)))
            edges = (state.plan.edges[index] for index in node.outgoing)
            nodes.extend(edge.target for edge in edges if edge.target != END)


def _begun(state: ExecutionState, node: PlanNode) -> bool:
    return node.index in state.released or step_key(node.id) in state.steps


def _release(turn: Turn, node: PlanNode) -> None:
    key = step_key(node.id)
    turn.state.released.add(node.index)
    if node.placement == "inline":
        turn.state.evaluating.add(key)
        turn.commands.append(Evaluate(key, node.index))
    else:
        heappush(turn.state.ready, (node.rank, node.index))


def _start_ready(turn: Turn) -> None:
    """Start what is ready, in canonical order, as far as ``max_parallel`` allows."""
    state = turn.state
    while state.ready and not state.over and state.unfinished < state.plan.settings.max_parallel:
        node = state.plan.nodes[heappop(state.ready)[1]]
        _start(turn, step_key(node.id), node.index, 1, 0)


def _start(turn: Turn, key: str, node: int, attempt: int, generation: int) -> None:
    incoming = turn.state.plan.nodes[node].incoming
    turn.emit(
        ev.StepStarted(
            at=turn.at, step=key, attempt=attempt, generation=generation, counted=incoming
        )
    )
    turn.commands.append(Dispatch(key, node, attempt, generation))


_HANDLE: dict[type, Callable[[Turn, Any], None]] = {
    hp.Accepted: _accepted,
    hp.Finished: _finished,
    hp.Broke: _broke,
    hp.Due: _due,
    hp.StepLimit: _step_limit,
    hp.ExecutionLimit: _execution_limit,
    hp.CancelAsked: _cancel_asked,
    hp.TakenOver: _taken_over,
    hp.Concluded: _concluded,
}
