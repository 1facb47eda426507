"""From joins to steps: nodes with news are released, skipped or failed; released ones are started."""

from __future__ import annotations

from heapq import heappop, heappush

from agentflow.execution import events as ev
from agentflow.execution.cancel import cancel_losers, lost_race
from agentflow.execution.failure import start_attempt
from agentflow.execution.joins import RUN, WAIT, counted, verdict
from agentflow.execution.keys import step_key
from agentflow.execution.state import ExecutionState
from agentflow.execution.turn import Evaluate, Fail, Turn
from agentflow.plan.plan import PlanNode

WHOLE = -1
"""In place of the index of an item: the step of the node itself."""


def settle(turn: Turn) -> None:
    """Decide for every node whose join has news. Skips spread: they are news for the nodes behind."""
    state = turn.state
    for index in state.touched:  # grows while skipped steps resolve their edges
        if state.over:
            break
        _settle_node(turn, state.plan.nodes[index])
    state.touched.clear()


def _settle_node(turn: Turn, node: PlanNode) -> None:
    state = turn.state
    if state.begun(node):
        return
    found = verdict(state, node)
    if found == WAIT:
        return
    if lost_race(state, node):
        _skip(turn, node)
    elif found == RUN:
        _run(turn, node)
    elif (failed := _branch_failure(state, node)) is not None:
        _fail(turn, node, failed)
    else:
        _skip(turn, node)


def _run(turn: Turn, node: PlanNode) -> None:
    state = turn.state
    if state.past_bound(node):
        bound = state.plan.loops[node.loops[-1]].bound
        text = f"The loop that begins at {node.id!r} needs more than {bound} iterations"
        _fail(turn, node, ev.ErrorInfo("IterationLimit", text))
        return
    release(turn, node)
    if node.join == "first_success":
        cancel_losers(turn, node)


def release(turn: Turn, node: PlanNode) -> None:
    """Let a node run: at once where it runs inline, else as soon as ``max_parallel`` allows."""
    state = turn.state
    state.released[node.index] = counted(state, node)
    if node.placement == "inline":
        key = state.key(node)
        state.evaluating.add(key)
        turn.command(Evaluate(key, node.index))
    else:
        heappush(state.ready, (node.rank, node.index, WHOLE))


def _skip(turn: Turn, node: PlanNode) -> None:
    step = turn.state.current(node)
    generation = step.generation if step is not None else 0
    turn.emit(ev.StepSkipped(at=turn.at, step=turn.state.key(node), generation=generation))


def _fail(turn: Turn, node: PlanNode, error: ev.ErrorInfo) -> None:
    """Fail a step that never ran; the engine is asked first where its edges would go."""
    key = turn.state.key(node)
    turn.state.released[node.index] = ()
    turn.state.evaluating.add(key)
    turn.command(Fail(key, node.index, error))


def _branch_failure(state: ExecutionState, node: PlanNode) -> ev.ErrorInfo | None:
    """The canonically first error among the branches that lead only to a first_success join; None in an
    iteration past the bound of a loop, in which all is skipped."""
    around = state.frame(node)
    if any(state.iterations[loop] > state.plan.loops[loop].bound for loop in around):
        return None
    frame = tuple(state.iterations[loop] for loop in around)
    failed = [
        step
        for index in node.branch
        for step in state.visits.get(index, ())
        if step.status in ("failed", "timed_out") and step.iterations[: len(frame)] == frame
    ]
    return min(failed, key=state.position).error if failed else None


def start_ready(turn: Turn) -> None:
    """Start what is ready, in canonical order, as far as ``max_parallel`` allows. Steps that hold no
    worker (waiting, or a map around its items) do not count."""
    state = turn.state
    limit = state.plan.settings.max_parallel
    while state.ready and not state.over and state.unfinished - state.parked < limit:
        _, index, item = heappop(state.ready)
        key = state.key(state.plan.nodes[index])
        if item != WHOLE:
            state.items[key].held -= 1
            key = step_key(key, (), (item,))
        step = state.steps.get(key)
        start_attempt(turn, key, index, generation=step.generation if step else 0)
