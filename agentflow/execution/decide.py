"""decide(state, happening) -> events and commands: the only place where it is decided what happens.

Pure: no clock, no chance, no I/O. ``state`` is advanced by the events that are returned, so that it is
always the fold of them. The rules, one file each: when a node runs (joins.py, release.py), iterations
(loops.py), failed attempts (failure.py), items of a map (mapping.py), what ends early (cancel.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.cancel import end, late
from agentflow.execution.failure import broke, is_current, lost, step_limit, try_again
from agentflow.execution.keys import node_id_of
from agentflow.execution.mapping import expanded, item_over, take_up_items
from agentflow.execution.release import settle, start_ready
from agentflow.execution.state import ExecutionState
from agentflow.execution.turn import Conclude, Decision, Expire, Turn

ALWAYS = (hp.Finished, hp.Broke, hp.RetryAsked)
"""Happenings that count even when the execution is over."""


def decide(state: ExecutionState, happening: hp.Happening) -> Decision:
    """What follows from a happening. Late results are taken note of even when all is over."""
    turn = Turn(state, happening.at)
    if not state.over or isinstance(happening, ALWAYS):
        _HANDLE[type(happening)](turn, happening)
        settle(turn)
        _go_on(turn)
        start_ready(turn)
        _rest(turn, happening)
    return Decision(turn.events, turn.commands)


def _rest(turn: Turn, happening: hp.Happening) -> None:
    """Nothing is left to do: conclude. All that is open waits: so does the execution. A journal that
    grows without end is ended."""
    state = turn.state
    if state.seq >= state.plan.settings.max_events and not state.over:
        text = f"The execution has more than {state.plan.settings.max_events} events"
        end(turn, ev.ExecutionFailed(at=turn.at, error=ev.ErrorInfo("EventLimit", text)))
    if state.over or state.evaluating or state.ready:
        return
    if not state.unfinished:
        if not isinstance(happening, hp.Concluded):
            turn.command(Conclude())
    elif state.status == "running" and _waits(state):
        turn.emit(ev.ExecutionWaiting(at=turn.at))


def _go_on(turn: Turn) -> None:
    """A waiting execution goes on as soon as anything is left but waiting."""
    if turn.state.status == "waiting" and not _waits(turn.state):
        turn.emit(ev.ExecutionResumed(at=turn.at))


def _waits(state: ExecutionState) -> bool:
    idle = not (state.evaluating or state.ready)
    return idle and state.unfinished > 0 and state.unfinished == state.parked


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
            forked_from=happening.forked_from,
        )
    )
    turn.emit(ev.ExecutionStarted(at=turn.at))
    for event in happening.reused:
        turn.emit(event)
    if happening.reused:
        _take_up(turn)


def _finished(turn: Turn, happening: hp.Finished) -> None:
    state = turn.state
    step = state.steps.get(happening.step)
    if happening.inline:
        if happening.step not in state.evaluating:
            return
        state.evaluating.discard(happening.step)
    elif not is_current(state, happening):
        late(turn, happening)
        return
    begins = step is None or step.status == "pending"
    _complete(turn, happening, step.generation if step else happening.generation, begins)
    if happening.step.endswith("]"):
        item_over(turn, happening.step)


def _complete(turn: Turn, happening: hp.Finished, generation: int, begins: bool) -> None:
    node = turn.state.plan.ids[node_id_of(happening.step)] if begins else -1
    turn.emit(
        ev.StepCompleted(
            at=turn.at,
            step=happening.step,
            attempt=happening.attempt,
            generation=generation,
            result=happening.result,
            delta=happening.delta,
            taken=happening.taken,
            calls=happening.calls,
            worker=happening.worker,
            started_at=turn.at if happening.inline and begins else None,
            counted=turn.state.released.get(node, ()),
            stop=happening.stop,
            blobs=happening.blobs,
            cached=happening.cached,
        )
    )


def _broke(turn: Turn, happening: hp.Broke) -> None:
    step = turn.state.steps.get(happening.step)
    was_open = step is not None and step.unfinished
    broke(turn, happening)
    if happening.step.endswith("]") and was_open and step is not None and not step.unfinished:
        item_over(turn, happening.step, happening.taken)


def _due(turn: Turn, happening: hp.Due) -> None:
    step = turn.state.steps.get(happening.step)
    if step is None or (step.attempt, step.generation) != (happening.attempt, happening.generation):
        return
    if step.status == "retrying":
        try_again(turn, step)
    elif step.status == "waiting" and step.due_at is not None and happening.at >= step.due_at:
        turn.command(Expire(step.key, step.node))


def _parked(turn: Turn, happening: hp.Parked) -> None:
    state = turn.state
    if happening.step not in state.evaluating and not is_current(state, happening):
        return
    state.evaluating.discard(happening.step)
    step = state.steps.get(happening.step)
    node = state.plan.ids[node_id_of(happening.step)]
    turn.emit(
        ev.StepWaiting(
            at=turn.at,
            step=happening.step,
            attempt=happening.attempt,
            generation=step.generation if step else happening.generation,
            wait_id=happening.wait_id,
            kind=happening.kind,
            until=happening.until,
            signal=happening.signal,
            prompt=happening.prompt,
            form=happening.form,
            assignees=happening.assignees,
            counted=state.released.get(node, ()),
        )
    )
    if happening.until is not None:
        turn.wake(state.steps[happening.step], happening.until)


def _execution_limit(turn: Turn, happening: hp.ExecutionLimit) -> None:
    limit = turn.state.plan.settings.timeout_s
    end(turn, ev.ExecutionTimedOut(at=turn.at, limit_s=limit))


def _cancel_asked(turn: Turn, happening: hp.CancelAsked) -> None:
    end(turn, ev.ExecutionCancelled(at=turn.at, reason=happening.reason))


def _concluded(turn: Turn, happening: hp.Concluded) -> None:
    state = turn.state
    if happening.error is None and (state.unfinished or state.evaluating or state.ready):
        return  # asked for before an operator's retry
    if happening.error is None:
        turn.emit(ev.ExecutionCompleted(at=turn.at, output=happening.output))
    else:
        end(turn, ev.ExecutionFailed(at=turn.at, error=happening.error))


def _taken_over(turn: Turn, happening: hp.TakenOver) -> None:
    """Go on where the journal ends: attempts that were not adopted are tried again, ready nodes
    released."""
    state = turn.state
    for step in [step for step in state.steps.values() if step.unfinished]:
        if state.over:
            return
        if step.key in state.items or step.key in happening.adopted:
            continue
        if step.status == "running":
            _broke(turn, lost(step, turn.at, happening.taken.get(step.key, ())))
        elif step.due_at is not None:
            turn.wake(step, step.due_at)
    if state.over:
        return
    if state.status == "pending":
        turn.emit(ev.ExecutionStarted(at=turn.at))
    _take_up(turn)


def _retry_asked(turn: Turn, happening: hp.RetryAsked) -> None:
    """A new generation of what failed, timed out or was cancelled with it; nothing else changes."""
    if turn.state.status not in ("failed", "timed_out", "cancelled"):
        return
    turn.emit(ev.ExecutionResumed(at=turn.at, reason="retry"))
    _take_up(turn)


def _release_asked(turn: Turn, happening: hp.ReleaseAsked) -> None:
    if turn.state.status == "running":
        turn.emit(ev.ExecutionResumed(at=turn.at, reason="release"))


def _take_up(turn: Turn) -> None:
    """Look at every join anew: what the journal leaves pending is released by it."""
    take_up_items(turn)
    turn.state.touched[:] = turn.state.plan.order


_HANDLE: dict[type, Callable[[Turn, Any], None]] = {
    hp.Accepted: _accepted,
    hp.Finished: _finished,
    hp.Broke: _broke,
    hp.Due: _due,
    hp.Expanded: expanded,
    hp.Parked: _parked,
    hp.StepLimit: step_limit,
    hp.ExecutionLimit: _execution_limit,
    hp.CancelAsked: _cancel_asked,
    hp.TakenOver: _taken_over,
    hp.RetryAsked: _retry_asked,
    hp.ReleaseAsked: _release_asked,
    hp.Concluded: _concluded,
}
