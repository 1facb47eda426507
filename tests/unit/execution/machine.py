"""Drives the state machine by hand: plans from a few words, steps ended one by one."""

from __future__ import annotations

from typing import Any

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.fold import fold
from agentflow.execution.mapping import results
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.turn import (
    Abandon,
    Conclude,
    Dispatch,
    Evaluate,
    Expire,
    Fail,
    Gather,
    Wake,
)
from agentflow.execution.views import final_state, view
from agentflow.plan.compile import compile_plan
from agentflow.plan.plan import Plan

Json = Any
BAD = ev.ErrorInfo("ProviderRejected", "no")


def plan_of(
    links: dict[str, str],
    *,
    inline: str = "",
    settings: Json = None,
    state: Json = None,
    **nodes: Json,
) -> Plan:
    """The plan of a graph: ``links`` maps each node to its targets, in words; the first one starts.

    ``nodes`` holds further fields of a node, by id; nodes named in ``inline`` run in the coordinator.
    """
    remote = {"type": "llm", "metadata": {"source": "model"}}
    local = {"type": "aggregator"}
    return compile_plan(
        {
            "start_node": next(iter(links)),
            "nodes": [
                {"id": name, **(local if name in inline.split() else remote), **nodes.get(name, {})}
                for name in links
            ],
            "edges": [
                {"from": name, "to": target}
                for name, targets in links.items()
                for target in targets.split()
            ],
            "sources": [{"id": "model", "kind": "llm", "config": {"provider": "local"}}],
            "settings": settings or {},
            "state": state or {},
        }
    )


def map_node(**fields: Json) -> Json:
    """The fields of a map node; ``fields`` are its own (``join``, ...) and, by name, its options."""
    options = {"max_concurrency", "on_item_error", "until"}
    metadata = {name: fields.pop(name) for name in options & fields.keys()}
    body = {"type": "llm", "metadata": {"source": "model"}}
    return {"type": "map", "metadata": {"items": "${[1]}", "body": body, **metadata}, **fields}


HUMAN = {"type": "human"}


class Machine:
    """One execution of a plan. Inline steps end at once, taking the edges to ``choices[step or node]``
    (all, unless it says otherwise); what is asked of workers waits for :meth:`finish` and the like.

    ``items``: how many items each map node has. ``held``, in words: nodes whose inline work waits for
    :meth:`let_go`. Nodes of type human wait, until the time that ``until`` says.
    """

    def __init__(
        self,
        plan: Plan,
        choices: dict[str, str] | None = None,
        *,
        items: dict[str, int] | None = None,
        held: str = "",
        until: float | None = None,
    ) -> None:
        self.plan = plan
        self.choices = choices or {}
        self.items = items or {}
        self.until = until
        self.holding = set(held.split())
        self.held: list[Any] = []
        self.state = ExecutionState(plan, "exec_1")
        self.events: list[ev.Event] = []
        self.commands: list[Any] = []
        self.dispatched: list[str] = []
        self.abandoned: list[str] = []

    def accept(self, **initial: Json) -> Machine:
        """Start the execution."""
        return self.happen(hp.Accepted(at=0.0, tenant="t", initial_state=initial))

    def take_over(self, events: list[ev.Event], **given: Json) -> Machine:
        """Go on, as another owner, from a journal."""
        fold(self.state, events)
        return self.happen(hp.TakenOver(at=self.at, **given))

    def happen(self, happening: hp.Happening) -> Machine:
        """One turn, and those of the inline steps that follow."""
        pending = [happening]
        while pending:
            decision = decide(self.state, pending.pop(0))
            self.events += decision.events
            self.commands += decision.commands
            for command in decision.commands:
                if isinstance(command, Dispatch):
                    self.dispatched.append(command.step)
                elif isinstance(command, Abandon):
                    self.abandoned.append(command.step)
                elif isinstance(command, Conclude):
                    pending.append(hp.Concluded(at=self.at, output="output"))
                elif isinstance(command, Wake):
                    continue
                elif self.plan.nodes[command.node].id in self.holding:
                    self.held.append(command)
                else:
                    pending.append(self._inline(command))
        return self

    @property
    def at(self) -> float:
        return float(self.state.seq)

    def let_go(self, node_id: str = "") -> Machine:
        """Do the inline work that was held back, of one node or of all, and hold no more back."""
        self.holding = self.holding - {node_id} if node_id else set()
        ready = [c for c in self.held if node_id in ("", self.plan.nodes[c.node].id)]
        self.held = [c for c in self.held if c not in ready]
        for command in ready:
            self.happen(self._inline(command))
        return self

    def fail_inline(self, key: str, error: ev.ErrorInfo = BAD) -> Machine:
        """The inline work of a step, which was held back, failed."""
        taken = self.edges(key)
        return self.happen(hp.Broke(at=self.at, step=key, error=error, taken=taken, inline=True))

    def _inline(self, command: Any) -> hp.Happening:
        """What the engine reports about a command that needs no worker."""
        node, key = self.plan.nodes[command.node], command.step
        if isinstance(command, Fail):
            taken = self.edges(key)
            return hp.Broke(at=self.at, step=key, error=command.error, taken=taken, inline=True)
        if isinstance(command, Evaluate) and node.type == "map":
            return hp.Expanded(at=self.at, step=key, items=self.items.get(node.id, 1))
        if isinstance(command, Evaluate) and node.type == "human":
            return hp.Parked(at=self.at, step=key, wait_id=f"wait {key}", until=self.until)
        if isinstance(command, Gather):
            ended = [step for step in results(self.state, key) if step.status == "completed"]
            return self.ended(key, result=[step.result for step in ended])
        if isinstance(command, Expire):
            step = self.state.steps[key]
            attempt, generation = step.attempt, step.generation
            return self.ended(key, inline=False, attempt=attempt, generation=generation)
        assert isinstance(command, Evaluate)
        return self.ended(key)

    def ended(self, key: str, inline: bool = True, **given: Json) -> hp.Finished:
        taken = given.pop("taken", None)
        if taken is None:
            taken = self.edges(key, self.choices.get(key))
        return hp.Finished(at=self.at, step=key, taken=taken, inline=inline, **given)

    def edges(self, key: str, to: str | None = None) -> tuple[int, ...]:
        """The edges of a step to these nodes, in words; all but error edges unless given."""
        node_id = key.partition("@")[0].partition("[")[0]
        if to is None:
            to = self.choices.get(node_id)
        wanted = None if to is None else to.split()
        edges = [self.plan.edges[index] for index in self.plan.node(node_id).outgoing]
        return tuple(
            edge.index
            for edge in edges
            if edge.kind != "error" and (wanted is None or self.name(edge.target) in wanted)
        )

    def name(self, node: int) -> str:
        return self.plan.nodes[node].id if node >= 0 else "end"

    def finish(self, key: str, to: str | None = None, **given: Json) -> Machine:
        """A worker reports the result of a step's current attempt."""
        step = self.state.steps[key]
        given = {"attempt": step.attempt, "generation": step.generation, **given}
        given.setdefault("taken", self.edges(key, to))
        return self.happen(self.ended(key, inline=False, **given))

    def fail(self, key: str, error: ev.ErrorInfo = BAD, **given: Json) -> Machine:
        """A worker reports that a step's current attempt failed."""
        step = self.state.steps[key]
        given = {"attempt": step.attempt, "generation": step.generation, **given}
        given = {"taken": self.edges(key), "jitter": 0.5, **given}
        return self.happen(hp.Broke(at=self.at, step=key, error=error, **given))

    def cancel(self) -> Machine:
        """A caller cancels."""
        return self.happen(hp.CancelAsked(at=self.at))

    def retry(self) -> Machine:
        """An operator retries."""
        return self.happen(hp.RetryAsked(at=self.at))

    def due(self, key: str, at: float | None = None) -> Machine:
        """The time has come for which a step waits."""
        step = self.state.steps[key]
        given = {"attempt": step.attempt, "generation": step.generation}
        return self.happen(hp.Due(at=self.at if at is None else at, step=key, **given))

    def time_out(self, key: str) -> Machine:
        """A step has been open for its node's ``timeout_s``."""
        step = self.state.steps[key]
        limit = hp.StepLimit(
            at=self.at, step=key, generation=step.generation, taken=self.edges(key)
        )
        return self.happen(limit)

    def seen(self, node_id: str) -> dict[str, Json]:
        """What a node's current step sees."""
        return view(self.state, self.plan.node(node_id))

    def past(self, key: str) -> set[str]:
        """The steps in the causal past of a step."""
        mask = self.state.steps[key].past
        return {name for name, step in self.state.steps.items() if mask >> step.ordinal & 1}

    @property
    def final_state(self) -> dict[str, Json]:
        return final_state(self.state)

    def folded(self) -> ExecutionState:
        """The fold of the events so far into a new state."""
        return fold(ExecutionState(self.plan, "exec_1"), self.events)

    def heir(self, events: list[ev.Event] | None = None) -> Machine:
        """Another owner, which has taken over after these events (all, unless given)."""
        other = Machine(self.plan, self.choices, items=self.items, until=self.until)
        return other.take_over(self.events if events is None else events)

    def of(self, kind: str) -> list[str]:
        """The steps that had an event of this type, in order."""
        return [event.step for event in self.events if ev.kind(event) == kind]

    @property
    def open(self) -> list[str]:
        """The steps that are not over, in the order of their start."""
        return [key for key, step in self.state.steps.items() if step.unfinished]

    def status(self, key: str) -> str | None:
        """The status of a step; None if there is none."""
        step = self.state.steps.get(key)
        return step.status if step else None

    @property
    def statuses(self) -> dict[str, str]:
        """Step -> status."""
        return {key: step.status for key, step in self.state.steps.items()}

    @property
    def kinds(self) -> list[str]:
        """The types of the events so far."""
        return [ev.kind(event) for event in self.events]


def facts(state: ExecutionState) -> dict[str, Json]:
    """Everything that is folded; what ``decide`` notes for itself is left out."""
    notes = {"plan", "touched", "released", "evaluating", "ready", "known", "fields"}
    found = {name: getattr(state, name) for name in state.__slots__ if name not in notes}
    found["steps"] = [_facts_of(step) for step in state.steps.values()]
    found["visits"] = {node: [step.key for step in found] for node, found in state.visits.items()}
    found["kept"] = {node: [step.key for step in found] for node, found in state.kept.items()}
    found["sent_back"] = [step and step.key for step in state.sent_back]
    found["items"] = {
        key: (items.count, items.open, items.stopped, sorted(items.steps))
        for key, items in state.items.items()
    }
    return found


def _facts_of(step: Step) -> dict[str, Json]:
    found = {name: getattr(step, name) for name in Step.__slots__}
    return {**found, "error_from": step.error_from and step.error_from.key}
