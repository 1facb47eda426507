"""Whole executions of a plan: scripted work that ends in a drawn order, and incidents on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from random import Random
from typing import Any

from agentflow.execution import events as ev
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.fold import fold
from agentflow.execution.keys import parse_key
from agentflow.execution.mapping import results
from agentflow.execution.state import ExecutionState
from agentflow.execution.turn import (
    Abandon,
    Conclude,
    Decision,
    Dispatch,
    Evaluate,
    Expire,
    Fail,
    Gather,
    Wake,
)
from agentflow.execution.views import view
from agentflow.plan.plan import Plan, PlanNode

Json = Any
FAULT = ev.ErrorInfo("ProviderRejected", "no")
FLAKY = ev.ErrorInfo("ProviderUnavailable", "503", retryable=True, uncounted=True)
CALL = ev.ModelCall("model", "local", "m", ev.Usage(2, 3), 0.125)


class Script:
    """How each step ends: a function of its key alone. A ``tame`` one leaves time no influence: no
    failure fails the execution, no loop passes its bound."""

    def __init__(self, plan: Plan, seed: int, tame: bool) -> None:
        self.plan, self.seed, self.tame = plan, seed, tame

    def draw(self, key: str, what: str, count: int) -> int:
        text = f"{self.seed} {key} {what}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:4]) % count

    def fails(self, key: str) -> bool:
        """Whether the step fails for good."""
        node = self.node(key)
        if self.tame and (node.on_error == "fail" or not self._may_repeat(key, node, error=True)):
            return False
        return self.draw(key, "fails", 4) == 0

    def flaky(self, key: str) -> int:
        """How many attempts fail for a moment before."""
        return max(0, self.draw(key, "flaky", 6) - 4)

    def count(self, key: str) -> int:
        """How many items a map step has."""
        return self.draw(key, "items", 5)

    def taken(self, key: str) -> tuple[int, ...]:
        node = self.node(key)
        return tuple(
            index
            for index in node.outgoing
            if self.plan.edges[index].kind != "error"
            and (self._may_repeat(key, node, index) or not self.tame)
            and self.draw(key, f"edge {index}", 4)
        )

    def node(self, key: str) -> PlanNode:
        return self.plan.node(parse_key(key)[0])

    def _may_repeat(self, key: str, node: PlanNode, index: int = -1, error: bool = False) -> bool:
        """Whether an edge (or the node's error edges) may be taken without passing a bound."""
        iterations = dict(zip(node.loops, parse_key(key)[1], strict=True))
        edges = [self.plan.edges[i] for i in ([index] if not error else node.outgoing)]
        return not any(
            edge.back
            and (edge.kind == "error" or not error)
            and iterations[edge.level] >= self.plan.loops[edge.level].bound
            for edge in edges
        )


class Run:
    """One execution. What is under way ends in the order that ``choose(count)`` draws."""

    def __init__(self, plan: Plan, script: Script, choose: Callable[[int], int]) -> None:
        self.plan, self.script, self.choose = plan, script, choose
        self.state = ExecutionState(plan, "exec_1")
        self.events: list[ev.Event] = []
        self.pending: list[Any] = []
        self.views: dict[str, Json] = {}
        self.worked: list[str] = []

    def accept(self) -> Run:
        self.happen(hp.Accepted(at=0.0, tenant="t", initial_state={"seen": ["start"]}))
        return self

    def adopt(self, events: list[ev.Event]) -> Run:
        """Go on where a journal ends, as a new owner."""
        self.state = fold(ExecutionState(self.plan, "exec_1"), events)
        self.events, self.pending = list(events), []
        taken = {key: self.script.taken(key) for key in self.state.steps}
        self.happen(hp.TakenOver(at=self.at, taken=taken))
        for key, step in self.state.steps.items():
            if step.status == "waiting" and self.state.steps[key].due_at is None:
                self.pending.append(("answer", key, step.attempt, step.generation))
        return self

    def to_the_end(self, limit: int = 3_000) -> Run:
        for _ in range(limit):
            if not self.pending:
                return self
            self.step()
        raise AssertionError("the execution does not end")

    def step(self) -> None:
        """One of the things under way ends."""
        self.happen(self.report(self.pending.pop(self.choose(len(self.pending)))))

    @property
    def at(self) -> float:
        return float(self.state.seq)

    def happen(self, happening: hp.Happening) -> Decision:
        was_over = self.state.over
        decision = decide(self.state, happening)
        self.events += decision.events
        self._look(decision, was_over)
        for command in decision.commands:
            if isinstance(command, Evaluate | Dispatch):
                self._see(command)
            if not isinstance(command, Abandon):
                self.pending.append(command)
        for event in decision.events:
            if isinstance(event, ev.StepWaiting):
                self.pending.append(("answer", event.step, event.attempt, event.generation))
        return decision

    def _look(self, decision: Decision, was_over: bool) -> None:
        """What must hold after every decision."""
        state = self.state
        if state.over:
            kinds = {type(command) for command in decision.commands}
            assert kinds <= {Abandon}, f"work begins after the end: {kinds}"
            open_ = [key for key, step in state.steps.items() if step.unfinished]
            assert not open_, f"open after the end: {open_}"
        if was_over and state.over:
            assert all(isinstance(event, ev.StepLate) for event in decision.events)
        busy = sum(1 for step in state.steps.values() if step.status == "running")
        busy -= sum(1 for key in state.items if state.steps[key].status == "running")
        assert busy <= self.plan.settings.max_parallel
        waits = state.unfinished and all(
            step.status == "waiting" for step in state.steps.values() if step.unfinished
        )
        if state.status == "waiting":
            assert waits, "the execution waits with work under way"

    def _see(self, command: Evaluate | Dispatch) -> None:
        self.worked.append(command.step)
        if "[" in command.step:
            return
        seen = view(self.state, self.plan.nodes[command.node])
        before = self.views.setdefault(command.step, seen)
        step = self.state.steps.get(command.step)
        assert _settled(before) == _settled(seen) or (step is not None and step.generation)

    def report(self, command: Any) -> hp.Happening:
        """How something under way ends."""
        if isinstance(command, Conclude):
            return hp.Concluded(at=self.at)
        if isinstance(command, tuple):
            _, key, attempt, generation = command
            return self._ended(key, attempt, generation)
        key, taken = command.step, self.script.taken(command.step)
        if isinstance(command, Wake):
            given = {"attempt": command.attempt, "generation": command.generation}
            return hp.Due(at=max(self.at, command.at), step=key, **given)
        if isinstance(command, Dispatch):
            if command.attempt <= self.script.flaky(key):
                given = {"attempt": command.attempt, "generation": command.generation}
                return hp.Broke(at=self.at, step=key, error=FLAKY, jitter=0.5, taken=taken, **given)
            return self._ended(key, command.attempt, command.generation)
        if isinstance(command, Fail):
            return hp.Broke(at=self.at, step=key, error=command.error, taken=taken, inline=True)
        node = self.plan.nodes[command.node]
        if isinstance(command, Expire):
            step = self.state.steps[key]
            return self._ended(key, step.attempt, step.generation)
        if isinstance(command, Gather):
            done = [step.result for step in results(self.state, key) if step.status == "completed"]
            return hp.Finished(at=self.at, step=key, result=done, taken=taken, inline=True)
        if node.type == "map":
            return hp.Expanded(at=self.at, step=key, items=self.script.count(key))
        if node.type == "human":
            return hp.Parked(at=self.at, step=key, wait_id=key)
        return self._ended(key, 1, 0, inline=True)

    def _ended(self, key: str, attempt: int, generation: int, inline: bool = False) -> hp.Happening:
        taken = self.script.taken(key)
        given: dict[str, Json] = {"step": key, "attempt": attempt, "generation": generation}
        given |= {
            "taken": taken,
            "inline": inline,
            "at": self.at,
            "calls": () if inline else (CALL,),
        }
        if self.script.fails(key):
            return hp.Broke(error=FAULT, **given)
        written = {"seen": key} if self.plan.node(parse_key(key)[0]).output_key else {}
        return hp.Finished(result=f"of {key}", delta=written, **given)


class Incidents:
    """Interrupts a run now and then: limits, cancellation, new owners, retries."""

    def __init__(self, run: Run, chance: Random) -> None:
        self.run, self.chance = run, chance
        self.retries = chance.randint(0, 2)

    def to_the_end(self, limit: int = 3_000) -> Run:
        run = self.run
        for _ in range(limit):
            if run.state.over and self.retries:
                self.retries -= 1
                run.happen(hp.RetryAsked(at=run.at))
            if not run.pending:
                return run
            if self.chance.random() < 0.06:
                self._incident()
            else:
                run.step()
        raise AssertionError("the execution does not end")

    def _incident(self) -> None:
        run, kind = self.run, self.chance.randrange(8)
        if kind == 0:
            run.happen(hp.CancelAsked(at=run.at))
        elif kind == 1:
            run.happen(hp.ExecutionLimit(at=run.at))
        elif kind < 5:
            self._step_limit()
        elif kind < 7:
            run.adopt(run.events)
        else:
            late = [c for c in run.pending if isinstance(c, Dispatch)]
            if late:
                run.happen(run.report(self.chance.choice(late)))

    def _step_limit(self) -> None:
        run = self.run
        limited = [
            step
            for step in run.state.steps.values()
            if step.unfinished and step.index is None and run.state.node_of(step).timeout_s
        ]
        if limited:
            step = self.chance.choice(limited)
            taken = run.script.taken(step.key)
            given = {"step": step.key, "generation": step.generation, "taken": taken}
            run.happen(hp.StepLimit(at=run.at, **given))


def _settled(seen: dict[str, Json]) -> dict[str, Json]:
    """What a step sees, but for what late results have cost meanwhile."""
    return {name: seen[name] for name in seen if name not in ("tokens_used", "cost")}
