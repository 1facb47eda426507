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
    _let_go(state, loop)
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


def _let_go(state: ExecutionState, loop: Loop) -> None:
    """Keep no more of a loop's iterations than somebody may still look at.

    Whoever sees anything of them from now on has what is carried in its past. So pasts of their own are
    of no use any more; nor are a node's results, and the values it wrote over, but for its newest step
    among what is carried.
    """
    carried, around = state.carried[loop.index], state.frame(state.plan.nodes[loop.entry])
    frame = tuple(state.iterations[outer] for outer in around)
    for member in loop.members:
        kept = state.kept.get(member)
        if not kept:
            continue
        newest = kept[-1]
        newest.past = 0
        if len(kept) == 1 or newest.status != "completed" or not carried >> newest.ordinal & 1:
            continue
        while len(kept) > 1 and kept[-2].iterations[: len(frame)] == frame:
            _write_over(state, kept.pop(-2), newest)


def _write_over(state: ExecutionState, step: Step, newest: Step) -> None:
    """Let go of what a later step of the same node has written over."""
    step.past = 0
    step.result = None
    step.delta = {
        name: value
        for name, value in step.delta.items()
        if state.merge_of(name) != "last" or newest.delta.get(name) is None
    }
