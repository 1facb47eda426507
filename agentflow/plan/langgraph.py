"""The same workflow as a LangGraph graph: for notebooks, for LangGraph's tools, and to check our engine by.

LangGraph only schedules. What a step may see and which edges it resolved are carried in the graph's
state, so that nothing depends on which superstep a node happens to run in. Every node of the plan is
a node of the graph, under its own id; it always runs, and when its join says *skipped* it only passes
this on. Two more nodes stand for each loop: ``loop <entry>`` waits until an iteration has ended, and
either starts the next or goes on to ``after loop <entry>``, which stands for the loop having been left.

What depends on time (races, time limits, waiting for a person) has no place in it: NotSupported.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec

from agentflow.errors import ConfigError, IterationLimit, NotSupported
from agentflow.plan.graphstate import (
    EDGES,
    FAILED,
    ITERATIONS,
    STATE,
    STEPS,
    StepRecord,
    Values,
    error_before,
    failure_of,
    final_state_of,
    steps_of,
    view_of,
)
from agentflow.plan.plan import END, OUTSIDE, Loop, Plan, PlanEdge, PlanNode, Settings

if TYPE_CHECKING:
    from langgraph.graph.state import CompiledStateGraph

__all__ = [
    "DoStep",
    "StepAnswer",
    "StepCall",
    "StepFault",
    "StepRecord",
    "failure_of",
    "final_state_of",
    "start_values",
    "steps_of",
    "to_langgraph",
    "unsupported",
]

Json = Any
Builder = Any
"""A StateGraph while it is built: its own types do not accept nodes made at run time."""
_PARKING = ("human", "wait")
_SPREADING = ("map", "subworkflow")


class StepCall(msgspec.Struct, frozen=True):
    """A step to be done: ``view`` holds what the node reads, folded from the causal past of the step;
    and where failures may lead, ``error``: the one that led here, or None."""

    node: PlanNode
    key: str
    view: dict[str, Json]


class StepFault(msgspec.Struct, frozen=True):
    """Why a step failed for good. ``at``: when, as RFC 3339, if the execution keeps time."""

    type: str
    message: str
    at: str | None = None


class StepAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """How a step ended. ``taken``: indices of its outgoing edges to take; with an ``error`` they hold
    where the node's policy is ``continue``. ``tokens`` and ``cost`` (US dollars) count either way."""

    result: Json = None
    delta: dict[str, Json] = {}
    taken: tuple[int, ...] = ()
    error: StepFault | None = None
    tokens: int = 0
    cost: float = 0.0


DoStep = Callable[[StepCall], Awaitable[StepAnswer]]


def to_langgraph(plan: Plan, do_step: DoStep) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A compiled graph that executes the plan: ``await graph.ainvoke(start_values(initial_state))``.

    ``do_step`` does the work of a step, retries included. A failure that ends the execution leaves
    the other steps undone; it is no exception: see :func:`failure_of`.
    Raises NotSupported (naming the feature and the node), ConfigError when LangGraph is not installed.
    """
    for reason in unsupported(plan):
        raise NotSupported(reason)
    try:
        from langgraph.graph import START, StateGraph
    except ImportError as error:
        raise ConfigError(
            "LangGraph is not installed: pip install 'agentflow[langgraph]'"
        ) from error
    graph: Builder = StateGraph(_channels())
    for node in plan.nodes:
        graph.add_node(node.id, _Work(plan, node, do_step), metadata={"type": node.type})
    for loop in plan.loops:
        _add_loop(graph, plan, loop)
    for loop in plan.loops:
        _wait_for(graph, _parts(plan, loop), _loop(plan, loop))
    graph.add_edge(START, plan.nodes[plan.start].id)
    for node in plan.nodes:
        _wait_for(graph, [_arrival(plan, edge) for edge in _awaited(plan, node)], node.id)
    name = plan.name or "workflow"
    compiled: CompiledStateGraph[Any, Any, Any, Any] = graph.compile(name=name)
    return compiled.with_config(
        recursion_limit=_supersteps(plan), max_concurrency=plan.settings.max_parallel
    )


def start_values(initial_state: Mapping[str, Json]) -> dict[str, Json]:
    """What the graph is invoked with."""
    return {STATE: dict(initial_state)}


def unsupported(plan: Plan) -> Iterator[str]:
    """What the plan needs and a graph of supersteps cannot express: a sentence each."""
    yield from plan.unsupported
    if plan.settings.timeout_s != Settings().timeout_s:
        yield "settings.timeout_s cannot be kept on LangGraph: a time limit is a race"
    for node in plan.nodes:
        if node.timeout_s is not None:
            yield f"Node {node.id!r}: timeout_s cannot be kept on LangGraph: it is a race"
        if node.id.startswith("__"):
            yield f"Node {node.id!r}: LangGraph keeps names that begin with '__' for itself"
        if node.type in _PARKING:
            yield f"Node {node.id!r}: type {node.type!r} waits, which the LangGraph form cannot"
        if node.type in _SPREADING:
            yield f"Node {node.id!r}: type {node.type!r} has no LangGraph form"
        if node.join != "all" and (node.join != "any" or node.awaited > 1):
            yield (
                f"Node {node.id!r}: join {node.join!r} over {node.awaited} edges is a race, "
                "which LangGraph's supersteps would decide otherwise"
            )


def _channels() -> type[Any]:
    """The schema of the graph's state: parallel nodes of a superstep write side by side."""
    # Annotations are given as values, for LangGraph reads them at run time.
    together = Annotated[dict, _joined]
    listed = Annotated[list, _appended]
    kinds = {STATE: dict, STEPS: together, EDGES: together, ITERATIONS: together, FAILED: listed}
    return TypedDict("Execution", kinds)  # type: ignore[operator, no-any-return]


def _joined(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return {**a, **b}


def _appended(a: list[str], b: list[str]) -> list[str]:
    return [*a, *b]


def _add_loop(graph: Builder, plan: Plan, loop: Loop) -> None:
    turn = _Turn(plan, loop)
    graph.add_node(_loop(plan, loop), turn)
    graph.add_node(_after(plan, loop), _pass_on)
    ways = {"again": plan.nodes[loop.entry].id, "on": _after(plan, loop)}
    graph.add_conditional_edges(_loop(plan, loop), turn.chosen, ways)


async def _pass_on(values: Any) -> dict[str, Any]:
    return {}


class _Turn:
    """What the graph does when an iteration is over: it counts, and chooses where to go on.

    Objects, for LangGraph takes each function that it is given apart, at some milliseconds a piece.
    """

    def __init__(self, plan: Plan, loop: Loop) -> None:
        self._loop = loop.index
        self._back = [plan.edges[index] for index in loop.back]
        self._inside = [other.index for other in plan.loops if _lies_in(plan, other, loop)]

    async def __call__(self, values: Any) -> dict[str, Any]:
        if self.chosen(values) == "on":
            return {}
        anew = {str(loop): 1 for loop in self._inside}
        return {ITERATIONS: {**anew, str(self._loop): _iteration(values, self._loop) + 1}}

    def chosen(self, values: Any) -> str:
        """Again if a back edge was taken, else on."""
        again = not values[FAILED] and any(_token(values, edge)["taken"] for edge in self._back)
        return "again" if again else "on"


def _parts(plan: Plan, loop: Loop) -> list[str]:
    """The nodes of the graph that end what lies directly in a loop."""
    nodes = [plan.nodes[index] for index in loop.members]
    inside = [other for other in plan.loops if other.parent == loop.index]
    direct = [node.id for node in nodes if node.loops[-1] == loop.index]
    return direct + [_after(plan, other) for other in inside]


def _wait_for(graph: Builder, sources: Iterable[str], target: str) -> None:
    """The target runs once all of these have."""
    names = list(dict.fromkeys(sources))
    if len(names) == 1:
        graph.add_edge(names[0], target)
    elif names:
        graph.add_edge(names, target)


class _Work:
    """What the graph does for a node, each time that it is its turn."""

    def __init__(self, plan: Plan, node: PlanNode, do_step: DoStep) -> None:
        self._plan = plan
        self._node = node
        self._do_step = do_step
        self._awaited = _awaited(plan, node)
        loop = plan.loops[node.loops[-1]] if node.loops else None
        self._opens = loop if loop is not None and loop.entry == node.index else None

    async def __call__(self, values: Any) -> dict[str, Any]:
        plan, node = self._plan, self._node
        if values[FAILED]:
            return {}
        iteration = [_iteration(values, index) for index in node.loops]
        key = node.id + ("@" + ".".join(map(str, iteration)) if iteration else "")
        again = self._opens if iteration and iteration[-1] > 1 else None
        edges = [plan.edges[index] for index in again.back] if again else self._awaited
        tokens = [(edge, _token(values, edge)) for edge in edges]
        taken = [(edge, token) for edge, token in tokens if token["taken"]]
        counted = tokens if again or node.join == "all" else taken
        step = _opened(node, iteration, [token["by"] for _, token in counted])
        if tokens and not taken:
            return _ended(plan, node, key, {**step, "status": "skipped"}, ())
        if again and iteration[-1] > again.bound:
            return _limited(plan, node, again, key, step)
        seen = view_of(plan, node, values[STEPS], values[STATE], step["counted"])
        if node.catches:
            seen["error"] = error_before(plan, values[STEPS], taken)
        answer = await self._do_step(StepCall(node, key, seen))
        return _answered(plan, node, key, step, answer)


def _answered(
    plan: Plan, node: PlanNode, key: str, step: StepRecord, answer: StepAnswer
) -> dict[str, Any]:
    step = {**step, "tokens": answer.tokens, "cost": answer.cost}
    if answer.error is None:
        done: StepRecord = {**step, "result": answer.result, "delta": dict(answer.delta)}
        return _ended(plan, node, key, done, answer.taken)
    failed: StepRecord = {**step, "status": "failed", "error": _as_error(answer.error)}
    if node.on_error == "continue":
        return _ended(plan, node, key, failed, answer.taken)
    if node.on_error == "goto":
        return _ended(plan, node, key, failed, [edge.index for edge in _gotos(plan, node)])
    return _ended(plan, node, key, failed, (), fatal=node.on_error == "fail")


def _limited(plan: Plan, node: PlanNode, loop: Loop, key: str, step: StepRecord) -> dict[str, Any]:
    """The entry of one iteration too many: it leaves the loop, or ends the execution."""
    message = f"The loop that begins at {node.id!r} needs more than {loop.bound} iterations"
    fault = StepFault(IterationLimit.__name__, message)
    failed: StepRecord = {**step, "status": "failed", "error": _as_error(fault)}
    ways_out = [edge.index for edge in _gotos(plan, node) if edge.target not in loop.members]
    fatal = node.on_error != "skip" and not ways_out
    return _ended(plan, node, key, failed, ways_out, fatal=fatal)


def _gotos(plan: Plan, node: PlanNode) -> list[PlanEdge]:
    return [plan.edges[index] for index in node.outgoing if plan.edges[index].kind == "error"]


def _as_error(fault: StepFault) -> dict[str, Json]:
    error: dict[str, Json] = {"type": fault.type, "message": fault.message}
    return error if fault.at is None else {**error, "at": fault.at}


def _opened(node: PlanNode, iteration: list[int], counted: list[str]) -> StepRecord:
    return {
        "node": node.index,
        "iteration": iteration,
        "status": "completed",
        "counted": list(dict.fromkeys(counted)),
        "result": None,
        "delta": {},
        "error": None,
        "tokens": 0,
        "cost": 0.0,
    }


def _ended(
    plan: Plan,
    node: PlanNode,
    key: str,
    step: StepRecord,
    taken: Iterable[int],
    *,
    fatal: bool = False,
) -> dict[str, Any]:
    """What a step that is over writes: its record and, unless it ends all, its edges' resolution."""
    if fatal:
        return {STEPS: {key: step}, FAILED: [key]}
    chosen = set(taken)
    tokens = {str(index): {"taken": index in chosen, "by": key} for index in node.outgoing}
    return {STEPS: {key: step}, EDGES: tokens}


def _token(values: Values, edge: PlanEdge) -> Any:
    """How an edge was resolved last: ``taken``, and the key of the step ``by`` which."""
    return values[EDGES][str(edge.index)]


def _iteration(values: Values, loop: int) -> int:
    found: int = values[ITERATIONS].get(str(loop), 1)
    return found


def _awaited(plan: Plan, node: PlanNode) -> list[PlanEdge]:
    """The edges a join waits for."""
    return [plan.edges[index] for index in node.incoming if not plan.edges[index].back]


def _arrival(plan: Plan, edge: PlanEdge) -> str:
    """The node of the graph after which an edge counts: its source, or the loop that it leaves."""
    source = plan.nodes[edge.source]
    target = plan.nodes[edge.target].loops if edge.target != END else ()
    for loop in source.loops:
        if loop not in target:
            return _after(plan, plan.loops[loop])
    return source.id


def _lies_in(plan: Plan, loop: Loop, outer: Loop) -> bool:
    parent = loop.parent
    while parent != OUTSIDE and parent != outer.index:
        parent = plan.loops[parent].parent
    return parent == outer.index


def _loop(plan: Plan, loop: Loop) -> str:
    return f"loop {plan.nodes[loop.entry].id}"


def _after(plan: Plan, loop: Loop) -> str:
    return f"after loop {plan.nodes[loop.entry].id}"


def _supersteps(plan: Plan) -> int:
    """More supersteps than any execution of the plan can take."""
    around = [node.loops for node in plan.nodes]
    around += [plan.nodes[loop.entry].loops for loop in plan.loops for _ in range(2)]
    total = 1
    for loops in around:
        passes = 1
        for index in loops:
            passes *= plan.loops[index].bound + 1
        total += passes
    return total
