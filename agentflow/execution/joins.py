"""When a node runs: all, any, n_of, first_success; and what its step has in its causal past.

The causal past of a step is the union, over the incoming edges that count, of each edge's source step
and that step's own past. Edges back to the entry of a loop count for its next iteration alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from agentflow.execution.state import TAKEN, ExecutionState, Step
from agentflow.plan.plan import PlanNode

WAIT, RUN, SKIP = "wait", "run", "skip"


def verdict(state: ExecutionState, node: PlanNode) -> str:
    """Whether a node that has not begun runs now, is skipped, or waits for more edges."""
    if state.repeats(node) or (node.index == state.plan.start and not node.awaited):
        return RUN
    return _VERDICTS[node.join](state, node)


def _all(state: ExecutionState, node: PlanNode) -> str:
    """Every edge is resolved; at least one was taken."""
    if state.unresolved[node.index]:
        return WAIT
    return RUN if state.taken_in[node.index] else SKIP


def _some(state: ExecutionState, node: PlanNode) -> str:
    """As many edges as needed were taken; skipped once fewer than that can still be."""
    taken = state.taken_in[node.index]
    if taken >= node.needed:
        return RUN
    return WAIT if taken + state.unresolved[node.index] >= node.needed else SKIP


_VERDICTS: dict[str, Callable[[ExecutionState, PlanNode], str]] = {
    "all": _all,
    "any": _some,
    "n_of": _some,
    "first_success": _some,
}


def counted(state: ExecutionState, node: PlanNode) -> tuple[int, ...]:
    """The edges that release a node which runs now, where its join does not tell by itself."""
    if node.join == "all" or state.repeats(node):
        return ()
    return tuple(state.arrived.get(node.index, ())[: node.needed])


def counting(state: ExecutionState, node: PlanNode, recorded: tuple[int, ...]) -> Iterable[int]:
    """The incoming edges that count for a step, given those that were recorded."""
    if recorded:
        return recorded
    if state.repeats(node):
        return state.plan.loops[node.loops[-1]].back
    if node.join != "all":
        return ()
    return (index for index in node.incoming if not state.plan.edges[index].back)


def past_of(state: ExecutionState, node: PlanNode, recorded: tuple[int, ...]) -> int:
    """The causal past of a node's step that begins now, as bits by the ordinal of its steps."""
    if state.repeats(node):
        return state.carried[node.loops[-1]]
    return past(state, counting(state, node, recorded))


def past(state: ExecutionState, edges: Iterable[int]) -> int:
    """The source steps of these edges, and theirs, as bits."""
    found = 0
    for index in edges:
        source = state.current(state.plan.nodes[state.plan.edges[index].source])
        if source is not None:
            found |= source.past | 1 << source.ordinal
    return found


def failure_behind(state: ExecutionState, node: PlanNode, recorded: tuple[int, ...]) -> Step | None:
    """The step whose failure leads to a node's step that begins now, by ``goto``."""
    if state.repeats(node):
        return state.sent_back[node.loops[-1]]
    return first_failure(state, counting(state, node, recorded))


def first_failure(state: ExecutionState, edges: Iterable[int]) -> Step | None:
    """The source step of the taken error edge among these, the canonically first if there are more."""
    sources = [
        state.plan.nodes[edge.source]
        for edge in map(state.plan.edges.__getitem__, edges)
        if edge.kind == "error" and state.edges[edge.index] == TAKEN
    ]
    return state.current(min(sources, key=lambda node: node.place)) if sources else None
