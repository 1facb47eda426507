"""ExecutionState: what is known of an execution. It is the fold of its events (fold.py).

execution   pending -> running <-> waiting -> completed | failed | cancelled | timed_out
step        pending -> running <-> retrying | waiting -> completed | failed | timed_out | cancelled;
            or skipped
edge        open -> taken | skipped, once per iteration
"""

from __future__ import annotations

from typing import Any

from agentflow.execution.events import Cached, ErrorInfo, ModelCall, Worker
from agentflow.execution.keys import step_key
from agentflow.plan.plan import Plan, PlanNode

Json = Any

OPEN, TAKEN, SKIPPED = 0, 1, 2
OVER = frozenset({"completed", "failed", "cancelled", "timed_out"})
UNFINISHED = frozenset({"running", "retrying", "waiting"})
_NO_LOOPS: list[Any] = []
"""What is kept for each loop of a plan that has none."""
_NO_JOINS: dict[int, list[int]] = {}
"""What arrived at the joins of a plan of which every join is ``all``."""


class Step:
    """One activation of a node, or of one item of a map node.

    ``failures`` counts attempts that used up the retry policy, ``losses`` those whose worker or owner
    died, ``waited_s`` the back-off after uncounted errors. ``met`` says that the error of a failed step
    did not end the execution. ``iterations``: of the loops around it; ``index``: of a map item.
    ``past``: the causal past, as bits by ``ordinal`` (only where the plan is not ``fixed``).
    ``error_from``: the step whose failure led here by ``goto``.
    """

    __slots__ = (
        "attempt",
        "cached",
        "calls",
        "delta",
        "due_at",
        "ended_at",
        "error",
        "error_from",
        "failures",
        "generation",
        "index",
        "iterations",
        "key",
        "losses",
        "met",
        "node",
        "ordinal",
        "past",
        "result",
        "started_at",
        "status",
        "waited_s",
        "worker",
    )

    def __init__(self, key: str, node: int, at: float) -> None:
        self.key = key
        self.node = node
        self.status = "pending"
        self.generation = 0
        self.attempt = 1
        self.failures = 0
        self.losses = 0
        self.waited_s = 0.0
        self.due_at: float | None = None
        self.started_at = at
        self.ended_at: float | None = None
        self.result: Json = None
        self.delta: dict[str, Json] = {}
        self.calls: list[ModelCall] = []
        self.cached: Cached | None = None
        self.error: ErrorInfo | None = None
        self.met = False
        self.worker: Worker | None = None
        self.iterations: tuple[int, ...] = ()
        self.index: int | None = None
        self.ordinal = 0
        self.past = 0
        self.error_from: Step | None = None

    @property
    def unfinished(self) -> bool:
        return self.status in UNFINISHED


class Items:
    """The items of a map step. ``count``: how many there are; ``open``: how many steps of items are not
    over; ``stopped``: one met the ``until`` of the node, so no further one begins.

    Notes of ``decide``: ``handed``, the index up to which items were begun or made ready; ``held``, how
    many are ready.
    """

    __slots__ = ("count", "handed", "held", "open", "steps", "stopped")

    def __init__(self, count: int, steps: dict[int, Step]) -> None:
        self.count = count
        self.steps = steps
        self.open = 0
        self.stopped = False
        self.handed = 0
        self.held = 0


class ExecutionState:
    """What is known of an execution. Mutated only by :func:`agentflow.execution.fold.apply`.

    ``clock_at``: when the clock of the execution's limit began; it is put off by the time for which the
    execution waits, and while it waits it is what the clock has counted, as a negative number.
    ``seq`` counts folded events. ``visits``: node -> its steps, one for each iteration; ``kept``: those
    of them, of nodes in loops, whose results may still be looked at; ``items``: step key of a map -> its
    items. ``unfinished`` counts open steps, ``parked`` those of them that hold no
    worker.

    Edges, joins and keys are those of the current iteration of each loop: ``iterations`` by loop,
    ``open_parts`` what is not over in it yet, ``carried`` the past that its entry inherits,
    ``sent_back`` the failed step that led back to it. ``unresolved`` and ``taken_in`` count incoming
    edges by node; ``arrived`` lists the taken ones, in order, of joins other than ``all``.

    Notes of ``decide`` for its own turn of work, not folded, but rebuilt from the fold by another
    owner: ``touched`` (nodes whose join has news), ``released`` (nodes on their way -> edges that
    counted), ``evaluating`` (steps handed to the engine), ``ready`` (what ``max_parallel`` holds back:
    rank, node, item). ``known`` is a note of the views: (node, field, loop) -> the field's value when
    an iteration of the loop began, and the canonical position of that moment.
    """

    __slots__ = (
        "arrived",
        "carried",
        "clock_at",
        "created_at",
        "edges",
        "ended_at",
        "error",
        "error_node",
        "evaluating",
        "execution_id",
        "fields",
        "initial_state",
        "items",
        "iterations",
        "kept",
        "known",
        "metadata",
        "open_parts",
        "output",
        "parked",
        "plan",
        "ready",
        "released",
        "sent_back",
        "seq",
        "started_at",
        "status",
        "steps",
        "taken_in",
        "touched",
        "unfinished",
        "unresolved",
        "visits",
    )

    def __init__(self, plan: Plan, execution_id: str) -> None:
        self.plan = plan
        self.execution_id = execution_id
        self.status = "pending"
        self.seq = 0
        self.initial_state: dict[str, Json] = {}
        self.metadata: dict[str, Json] = {}
        self.created_at = 0.0
        self.started_at: float | None = None
        self.clock_at = 0.0
        self.ended_at: float | None = None
        self.error: ErrorInfo | None = None
        self.error_node: str | None = None
        self.output: Json = None
        self.steps: dict[str, Step] = {}
        self.visits: dict[int, list[Step]] = {}
        self.kept: dict[int, list[Step]] = {}
        self.items: dict[str, Items] = {}
        self.unfinished = 0
        self.parked = 0
        self.edges = bytearray(len(plan.edges))
        self.unresolved = [node.awaited for node in plan.nodes]
        self.taken_in = [0] * len(plan.nodes)
        self.arrived: dict[int, list[int]] = _NO_JOINS if plan.fixed else {}
        if plan.loops:
            self.iterations = [1] * len(plan.loops)
            self.open_parts = [loop.parts for loop in plan.loops]
            self.carried = [0] * len(plan.loops)
            self.sent_back: list[Step | None] = [None] * len(plan.loops)
        else:
            self.iterations = self.open_parts = self.carried = self.sent_back = _NO_LOOPS
        self.touched: list[int] = []
        self.released: dict[int, tuple[int, ...]] = {}
        self.evaluating: set[str] = set()
        self.ready: list[tuple[int, int, int]] = []
        self.known: dict[tuple[int, str, int], tuple[Json, tuple[int, ...]]] = {}
        self.fields = plan.named

    @property
    def over(self) -> bool:
        return self.status in OVER

    def node_of(self, step: Step) -> PlanNode:
        return self.plan.nodes[step.node]

    def merge_of(self, name: str) -> str:
        """The merge rule of a state field."""
        field = self.fields.get(name)
        return field.merge if field is not None else "last"

    def key(self, node: PlanNode) -> str:
        """The key of a node's step in the current iteration."""
        if not node.loops:
            return node.id
        return step_key(node.id, tuple(self.iterations[loop] for loop in node.loops))

    def current(self, node: PlanNode) -> Step | None:
        """A node's step in the current iteration."""
        return self.steps.get(self.key(node))

    def begun(self, node: PlanNode) -> bool:
        """Whether a node has run, runs, or is about to, in the current iteration."""
        if node.index in self.released:
            return True
        step = self.steps.get(self.key(node))
        return step is not None and step.status != "pending"

    def position(self, step: Step) -> tuple[int, ...]:
        """Canonical position: rank of the outermost loop, its iteration, and so on inwards; last the
        rank of the node. Compared lexicographically."""
        place = self.plan.nodes[step.node].place
        pairs = zip(place, step.iterations, strict=False)
        return (*(part for pair in pairs for part in pair), place[-1])

    def frame(self, node: PlanNode) -> tuple[int, ...]:
        """The loops in whose iteration a node's join lies: all around it but one that it is the entry of."""
        loops = node.loops
        enters = loops and self.plan.loops[loops[-1]].entry == node.index
        return loops[:-1] if enters else loops

    def past_bound(self, node: PlanNode) -> bool:
        """Whether a node is the entry of a loop whose iterations are used up."""
        return self.repeats(node) and (
            self.iterations[node.loops[-1]] > self.plan.loops[node.loops[-1]].bound
        )

    def repeats(self, node: PlanNode) -> bool:
        """Whether a node is the entry of a loop in its second iteration or later."""
        if not node.loops:
            return False
        loop = node.loops[-1]
        return self.iterations[loop] > 1 and self.plan.loops[loop].entry == node.index
