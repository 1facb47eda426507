"""map: one step for each item of a list, some at a time; the results in input order.

An item's step is ``node[17]``. It sees the map step's view; its delta is discarded; its result goes into
the list only, which the engine gathers when no item is open any more.
"""

from __future__ import annotations

from heapq import heappush

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.cancel import cancel_items
from agentflow.execution.failure import fail_step
from agentflow.execution.keys import map_key_of, node_id_of
from agentflow.execution.state import ExecutionState, Items, Step
from agentflow.execution.turn import Gather, Turn

MAX_CONCURRENCY = 50
"""Items of one map step under way at once, where the node does not say."""


def expanded(turn: Turn, happening: hp.Expanded) -> None:
    """The list is known: begin its first items."""
    state = turn.state
    if happening.step not in state.evaluating:
        return
    state.evaluating.discard(happening.step)
    step = state.steps.get(happening.step)
    node = state.plan.ids[node_id_of(happening.step)]
    turn.emit(
        ev.StepStarted(
            at=turn.at,
            step=happening.step,
            generation=step.generation if step else 0,
            counted=state.released.get(node, ()),
            items=happening.items,
        )
    )
    next_items(turn, happening.step)


def next_items(turn: Turn, key: str) -> None:
    """Make items ready as far as ``max_concurrency`` allows; gather when there is none left."""
    state = turn.state
    items, step = state.items[key], state.steps[key]
    if not step.unfinished:
        return
    node = state.node_of(step)
    limit = node.options.get("max_concurrency", MAX_CONCURRENCY)
    while not items.stopped and items.handed < items.count and items.open + items.held < limit:
        item = items.steps.get(items.handed)
        if item is None or item.status == "pending":
            heappush(state.ready, (node.rank, node.index, items.handed))
            items.held += 1
        items.handed += 1
    if not items.open + items.held and key not in state.evaluating:
        state.evaluating.add(key)
        turn.command(Gather(key, node.index))


def item_over(turn: Turn, key: str, taken: tuple[int, ...] = ()) -> None:
    """The step of one item is over: stop early, fail the map step, or go on with further items.
    ``taken``: edges to take when an item fails the map step, and its node continues after errors."""
    state = turn.state
    if state.over:
        return
    whole = map_key_of(key)
    items, step = state.items[whole], state.steps[key]
    failed = step.status == "failed" and not step.met
    if failed and step.error is not None:
        around = state.steps[whole]
        error = ev.ErrorInfo(step.error.type, f"Item {step.index}: {step.error.message}")
        fail_step(turn, _broke(turn, around, error, taken))
        return
    if items.stopped:
        cancel_items(turn, whole, whole)
    next_items(turn, whole)


def results(state: ExecutionState, key: str) -> list[Step]:
    """The steps of a map step's items that have ended, in input order."""
    items: Items = state.items[key]
    return [items.steps[index] for index in sorted(items.steps)]


def take_up_items(turn: Turn) -> None:
    """A new owner: what was held back is ready again."""
    for key in list(turn.state.items):
        next_items(turn, key)


def _broke(turn: Turn, step: Step, error: ev.ErrorInfo, taken: tuple[int, ...]) -> hp.Broke:
    return hp.Broke(
        at=turn.at,
        step=step.key,
        attempt=step.attempt,
        generation=step.generation,
        error=error,
        taken=taken,
    )
