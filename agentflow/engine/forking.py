"""What a fork may reuse of an execution: the completions of steps that would come out the same.

A step is reused when it is neither a step of the fork's node nor behind it, when its node reads the same
in both workflows, and when what it saw is the same. Whatever is not reused takes with it all that is
behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from agentflow.engine.inspection import Folding
from agentflow.execution import events as ev
from agentflow.execution.fold import apply
from agentflow.execution.keys import node_id_of
from agentflow.execution.state import ExecutionState
from agentflow.execution.views import view
from agentflow.plan.plan import Plan, PlanNode

Json = Any

_PLACED = ("index", "rank", "incoming", "outgoing", "reads", "loops", "place", "branch", "races")
"""What the compiler says of a node's place among the others; the rest is what its author wrote."""


def reusable(
    folding: Folding,
    events: Iterable[ev.Event],
    plan: Plan,
    created: ev.ExecutionCreated,
    from_node: str,
) -> tuple[ev.Event, ...]:
    """Copies of the completions (and skips) to reuse, in order, for an execution of ``plan`` that
    begins with ``created``. ``folding`` has folded ``events`` and wanted every step."""
    original = folding.state
    ends = {e.step: e for e in events if isinstance(e, ev.TERMINAL_STEP)}
    fork = ExecutionState(plan, created.execution_id)
    apply(fork, created)
    apply(fork, ev.ExecutionStarted(at=created.at))
    anew = behind(original.plan, from_node) | behind(plan, from_node)
    copies: list[ev.Event] = []
    for event in ends.values():
        node_id = node_id_of(event.step)
        if node_id in anew or event.step.endswith("]"):
            continue
        copy = _copied(original, plan, event, folding)
        if copy is None or not _sees_the_same(fork, copy, folding):
            anew |= behind(original.plan, node_id) | behind(plan, node_id)
            continue
        apply(fork, copy)
        copies.append(copy)
    return tuple(copies)


def behind(plan: Plan, node_id: str) -> set[str]:
    """The node and all that its edges lead to, around loops too; nothing where there is no such node."""
    found: set[str] = set()
    waiting = [plan.ids[node_id]] if node_id in plan.ids else []
    while waiting:
        node = plan.nodes[waiting.pop()]
        if node.id not in found:
            found.add(node.id)
            targets = (plan.edges[edge].target for edge in node.outgoing)
            waiting += [target for target in targets if target >= 0]
    return found


def _copied(
    original: ExecutionState, plan: Plan, event: ev.Event, folding: Folding
) -> ev.StepCompleted | ev.StepSkipped | None:
    """The event as the fork records it; None where it cannot be reused."""
    assert isinstance(event, ev.TERMINAL_STEP)
    node_id = node_id_of(event.step)
    if node_id not in plan.ids:
        return None
    mine, theirs = original.plan.nodes[original.plan.ids[node_id]], plan.nodes[plan.ids[node_id]]
    if _content(original.plan, mine) != _content(plan, theirs) or event.step in original.items:
        return None
    if isinstance(event, ev.StepSkipped):
        return None if mine.races else ev.StepSkipped(at=event.at, step=event.step)
    if not isinstance(event, ev.StepCompleted):
        return None
    edges = dict(zip(mine.outgoing + mine.incoming, theirs.outgoing + theirs.incoming, strict=True))
    counted = folding.counted.get(event.step, event.counted)
    return msgspec.structs.replace(
        event,
        generation=0,
        attempt=1,
        calls=(),
        taken=tuple(edges[edge] for edge in event.taken),
        counted=tuple(edges[edge] for edge in counted),
        started_at=original.steps[event.step].started_at,
        reused_from=original.execution_id,
        cached=None,
    )


def _sees_the_same(
    fork: ExecutionState, copy: ev.StepCompleted | ev.StepSkipped, folding: Folding
) -> bool:
    if isinstance(copy, ev.StepSkipped):
        return True
    node = fork.plan.nodes[fork.plan.ids[node_id_of(copy.step)]]
    fork.released[node.index] = copy.counted
    seen = view(fork, node)
    del fork.released[node.index]
    return _inputs(seen) == _inputs(folding.seen.get(copy.step, {}))


def _inputs(seen: dict[str, Json]) -> dict[str, Json]:
    """What a step saw, but for the names of the execution itself and what earlier steps were billed."""
    apart = ("execution", "tokens_used", "cost")
    return {name: value for name, value in seen.items() if name not in apart}


def _content(plan: Plan, node: PlanNode) -> Json:
    """What the author wrote about a node: its options, sources and edges."""
    written = {
        name: value for name, value in msgspec.to_builtins(node).items() if name not in _PLACED
    }
    sources = [msgspec.to_builtins(plan.source(source)) for source in node.sources]
    return written, sources, list(_edges(plan, node.outgoing)), list(_edges(plan, node.incoming))


def _edges(plan: Plan, indices: Iterable[int]) -> Iterator[Json]:
    for index in indices:
        edge = plan.edges[index]
        target = plan.nodes[edge.target].id if edge.target >= 0 else None
        kept = (edge.kind, edge.condition, edge.field, edge.key, edge.back)
        yield plan.nodes[edge.source].id, target, *kept
