"""Edges and loops in the fold: what a resolved edge does, when an iteration ends, what begins anew."""

from __future__ import annotations

from agentflow.execution.joins import first_failure, past
from agentflow.execution.state import OPEN, SKIPPED, TAKEN, ExecutionState, Step
from agentflow.plan.plan import END, OUTSIDE, Loop, PlanEdge, PlanNode


def resolve(state: ExecutionState, step: Step, taken: tuple[int, ...]) -> None:
    """Resolve all outgoing edges of a step together: those in ``taken`` are taken, the rest skipped.

    An edge that leaves a loop, or leads back to its entry, has its effect when the iteration ends.
    """
    node = state.node_of(step)
    level = node.loops[-1] if node.loops else OUTSIDE
    chosen = frozenset(taken) if len(taken) > 8 else taken
    for index in node.outgoing:
        state.edges[index] = TAKEN if index in chosen else SKIPPED
        edge = state.plan.edges[index]
        if edge.level == level and not edge.back:
            _arrive(state, edge)
    if level != OUTSIDE:
        _part_over(state, state.plan.loops[level])


def _arrive(state: ExecutionState, edge: PlanEdge) -> None:
    """Count a resolved edge at the join of its target."""
    target = edge.target
    if target == END:
        return
    state.unresolved[target] -= 1
    if state.edges[edge.index] == TAKEN:
        state.taken_in[target] += 1
        if state.plan.nodes[target].join != "all":
            state.arrived.setdefault(target, []).append(edge.index)
    state.touched.append(target)


def unresolve(state: ExecutionState, node: PlanNode) -> None:
    """Open the skipped outgoing edges of a node again, within its iteration, which is not over then."""
    if node.loops:
        state.open_parts[node.loops[-1]] += 1
    for index in node.outgoing:
        edge = state.plan.edges[index]
        if state.edges[index] == SKIPPED and edge.target != END:
            state.edges[index] = OPEN
            state.unresolved[edge.target] += 1


def _part_over(state: ExecutionState, loop: Loop) -> None:
    """One node of a loop, or one loop inside it, is over. The last one ends the iteration: the next
    begins if an edge back to the entry was taken, else the loop is left, which may end the iteration
    of the loop around it."""
    state.open_parts[loop.index] -= 1
    while not state.open_parts[loop.index]:
        if any(state.edges[index] == TAKEN for index in loop.back):
            _next_iteration(state, loop)
            return
        _leave(state, loop)
        if loop.parent == OUTSIDE:
            return
        loop = state.plan.loops[loop.parent]
        state.open_parts[loop.index] -= 1


def _leave(state: ExecutionState, loop: Loop) -> None:
    """Edges that leave this loop, and no other, count as they were resolved in the last iteration."""
    for index in loop.exits:
        edge = state.plan.edges[index]
        if edge.level == loop.parent and not edge.back:
            _arrive(state, edge)


def _next_iteration(state: ExecutionState, loop: Loop) -> None:
    """Begin all members anew; the entry inherits the past of the edges that lead back to it."""
    state.carried[loop.index] = past(state, loop.back)
    state.sent_back[loop.index] = first_failure(state, loop.back)
    state.iterations[loop.index] += 1
    state.open_parts[loop.index] = loop.parts
    for member in loop.members:
        node = state.plan.nodes[member]
        state.released.pop(member, None)
        for index in node.outgoing:
            state.edges[index] = OPEN
        if member == loop.entry:
            continue
        state.unresolved[member] = node.awaited
        state.taken_in[member] = 0
        state.arrived.pop(member, None)
        inner = state.plan.loops[node.loops[-1]]
        if inner.entry == member:
            state.iterations[inner.index] = 1
            state.open_parts[inner.index] = inner.parts
    state.touched.append(loop.entry)
