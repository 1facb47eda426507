"""What ends before its time: the open steps of an execution that is over, and those that lost a race;
and results that come too late."""

from __future__ import annotations

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.turn import Abandon, Turn
from agentflow.plan.plan import PlanNode


def end(turn: Turn, event: ev.Event) -> None:
    """End the execution early: open steps are cancelled, their attempts abandoned, and what this turn
    was about to begin is not begun."""
    state = turn.state
    turn.commands = [command for command in turn.commands if isinstance(command, Abandon)]
    state.ready.clear()
    state.evaluating.clear()
    state.released.clear()
    for step in list(state.steps.values()):
        if step.unfinished or step.status == "pending":
            cancel_step(turn, step)
    turn.emit(event)
    state.touched.clear()


def cancel_step(turn: Turn, step: Step, race: str = "") -> None:
    """Cancel an open step. ``race``: key of the step that no longer needs it."""
    turn.state.evaluating.discard(step.key)
    if step.unfinished:
        turn.command(Abandon(step.key, step.attempt, step.generation))
    _cancelled(turn, step.key, race, step.attempt, step.generation)


def cancel_losers(turn: Turn, join: PlanNode) -> None:
    """A first_success join was fired: whatever leads only to it is cancelled."""
    state = turn.state
    key = state.key(join)
    withdrawn: set[int] = set()
    for index in join.branch:
        node = state.plan.nodes[index]
        step = state.current(node)
        if step is not None and step.unfinished:
            cancel_items(turn, step.key, key)
            cancel_step(turn, step, key)
        elif index in state.released and (step is None or step.status == "pending"):
            state.evaluating.discard(state.key(node))
            withdrawn.add(index)
            _cancelled(turn, state.key(node), key, generation=step.generation if step else 0)
    _drop_ready(state, withdrawn)


def lost_race(state: ExecutionState, node: PlanNode) -> bool:
    """Whether the race of one of the branches that a node belongs to has been decided."""
    return any(_decided(state, state.plan.nodes[index]) for index in node.races)


def _decided(state: ExecutionState, join: PlanNode) -> bool:
    step = state.current(join)
    skipped = step is not None and step.status == "skipped"
    return state.repeats(join) or (state.begun(join) and not skipped)


def cancel_items(turn: Turn, key: str, race: str) -> None:
    """Cancel the open items of a map step; those held back never begin."""
    state = turn.state
    items = state.items.get(key)
    if items is None:
        return
    _drop_ready(state, {state.steps[key].node})
    items.held = 0
    for step in [step for step in items.steps.values() if step.unfinished]:
        cancel_step(turn, step, race)


def late(turn: Turn, happening: hp.Finished | hp.Broke) -> None:
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


def _cancelled(turn: Turn, key: str, race: str, attempt: int = 1, generation: int = 0) -> None:
    turn.emit(
        ev.StepCancelled(at=turn.at, step=key, attempt=attempt, generation=generation, race=race)
    )


def _drop_ready(state: ExecutionState, nodes: set[int]) -> None:
    if nodes:
        state.ready = sorted(item for item in state.ready if item[1] not in nodes)
