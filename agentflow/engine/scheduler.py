"""The readiness loop: decide -> append -> durable -> dispatch -> result -> decide."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.engine.evaluation import Evaluator
from agentflow.engine.outcome import outcome_of
from agentflow.engine.stream import Stream, TokenDelta
from agentflow.engine.workers import Attempt, Delta, Report
from agentflow.engine.writer import Writer
from agentflow.errors import (
    AgentFlowError,
    FencedOut,
    StoreUnavailable,
)
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.events import Event
from agentflow.execution.journal import Append, Recorded, Submission
from agentflow.execution.keys import attempt_id
from agentflow.execution.listener import Listener
from agentflow.execution.state import ExecutionState, Step
from agentflow.execution.turn import (
    Abandon,
    Command,
    Conclude,
    Dispatch,
    Evaluate,
    Expire,
    Fail,
    Gather,
    Wake,
)
from agentflow.execution.views import view
from agentflow.nodes.base import NodeSet
from agentflow.plan.plan import Field, PlanNode

Json = Any
WITHDRAWN = "The database did not acknowledge its acceptance in time"
TURN = 500
"""Events after which a turn ends, though there is more that needs no worker."""
LINGER_S = 30.0
"""How long an ended execution is kept for late results of its abandoned attempts."""


class Owned:
    """An execution that this coordinator drives. ``next_seq`` runs ahead of what is durable;
    ``committed`` says that its row is, ``ended`` that its outcome is, ``withdrawn`` that its caller was
    told it is not accepted."""

    def __init__(self, state: ExecutionState, tenant: str) -> None:
        self.state = state
        self.tenant = tenant
        self.next_seq = state.seq + 1
        self.committed = state.seq > 0
        self.ended = False
        self.withdrawn = False
        self.stream = Stream()
        self.timers: dict[str, asyncio.TimerHandle] = {}
        self.attempts: dict[str, tuple[str, int, int]] = {}
        self.obeyed: set[int] = set()

    @property
    def id(self) -> str:
        return self.state.execution_id


class Scheduler:
    """Drives every owned execution. All methods run on one loop and none of them waits inside a turn,
    so happenings of one execution are handled one after the other."""

    def __init__(
        self,
        *,
        nodes: NodeSet,
        writer: Writer,
        send: Callable[[Attempt], None],
        abandon: Callable[[Sequence[str]], None],
        refused: Callable[[str, AgentFlowError], None],
        listeners: Sequence[Listener],
        accept_s: float,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.owned: dict[str, Owned] = {}
        self.epoch = 0
        self.clock = clock
        self._writer = writer
        self._send = send
        self._abandon = abandon
        self._refused = refused
        self._listeners = listeners
        self._accept_s = accept_s
        self._evaluator = Evaluator(nodes, clock, chance)
        self._attempts: dict[str, Owned] = {}
        self._draining = False

    async def begin(self, owned: Owned, happening: hp.Accepted, submission: Submission) -> None:
        """Accept an execution; returns when it is committed.

        Raises what the journal refused with, and StoreUnavailable when it does not answer in time;
        should the acceptance be committed after all, the execution is cancelled before it begins.
        """
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def settle(error: AgentFlowError | None) -> None:
            if durable.done():
                return
            if error is None:
                durable.set_result(None)
            else:
                durable.set_exception(error)

        self.owned[owned.id] = owned
        self.advance(owned, happening, accept=submission, then=settle)
        try:
            async with asyncio.timeout(self._accept_s):
                await asyncio.shield(durable)
        except TimeoutError:
            owned.withdrawn = True
            durable.cancel()
            raise StoreUnavailable() from None

    def adopt(
        self, owned: Owned, instead: hp.Happening | None = None, commands: tuple[int, ...] = ()
    ) -> None:
        """Go on with an execution where its journal ends, or let happen what is to happen instead."""
        self.owned[owned.id] = owned
        for listener in self._listeners:
            listener.on_adopted(owned.state.plan, owned.tenant, owned.id)
        self._limit_execution(owned)
        taken: dict[str, tuple[int, ...]] = {}
        for step in [step for step in owned.state.steps.values() if step.unfinished]:
            node = owned.state.node_of(step)
            self._limit_step(owned, node, step)
            taken[step.key] = self._evaluator.continuing(owned.state, node)
        self.advance(
            owned, instead or hp.TakenOver(at=self.clock(), taken=taken), commands=commands
        )

    def advance(
        self,
        owned: Owned,
        happening: hp.Happening,
        *,
        accept: Submission | None = None,
        commands: tuple[int, ...] = (),
        then: Callable[[AgentFlowError | None], None] | None = None,
    ) -> None:
        """One turn: decide, run the whole inline closure, append it in one transaction.

        A closure of more than :data:`TURN` events is cut into several turns, so that other executions
        of this coordinator have theirs in between.
        """
        self._turn(owned, deque([happening]), accept, commands, then)

    def _turn(
        self,
        owned: Owned,
        pending: deque[hp.Happening],
        accept: Submission | None = None,
        commands: tuple[int, ...] = (),
        then: Callable[[AgentFlowError | None], None] | None = None,
    ) -> None:
        was_over = owned.state.over
        events, effects = self._closure(owned, pending)
        if pending:
            asyncio.get_running_loop().call_soon(self._next_turn, owned, pending)
        if not events and not commands:
            self._carry_out(owned, effects)
            return
        ended = owned.state.over and not was_over
        append = Append(
            execution_id=owned.id,
            tenant=owned.tenant,
            first_seq=owned.next_seq,
            events=tuple(events),
            accept=accept,
            outcome=outcome_of(owned.state) if ended else None,
            commands=commands,
        )
        owned.next_seq += len(events)

        def settle(error: AgentFlowError | None) -> None:
            if error is None and accept is not None and owned.withdrawn:
                self._durable(owned, append, [])
                self.advance(owned, hp.CancelAsked(at=self.clock(), reason=WITHDRAWN))
            elif error is None:
                self._durable(owned, append, effects)
            else:
                mine = self.owned.get(owned.id) is owned
                self.drop(owned)
                if mine and accept is None and not isinstance(error, FencedOut):
                    self._refused(owned.id, error)
            if then is not None:
                then(error)

        self._writer.put(append, settle)

    def report(self, report: Report) -> None:
        """Take in what a worker says about an attempt."""
        owned = self._attempts.get(report.id)
        if owned is None:
            return
        key, attempt, generation = owned.attempts[report.id]
        if isinstance(report, Delta):
            if owned.stream:
                owned.stream.publish([TokenDelta(key, attempt, report.offset, report.text)])
            return
        self._forget(owned, report.id)
        self.advance(owned, self._evaluator.report(owned.state, key, attempt, generation, report))
        if owned.ended and not owned.attempts:
            self._let_go(owned)

    def drop(self, owned: Owned) -> None:
        """This execution is no longer ours: forget it, whatever it waits for."""
        owned.stream.end()
        if self.owned.get(owned.id) is not owned:
            return
        self._abandon(list(owned.attempts))
        self._let_go(owned)
        if not owned.ended:
            for listener in self._listeners:
                listener.on_released(owned.state.plan, owned.tenant, owned.id)

    def drain(self) -> None:
        """Send nothing off any more; what is reported is still journaled."""
        self._draining = True

    def drop_all(self) -> None:
        for owned in list(self.owned.values()):
            self.drop(owned)

    def _next_turn(self, owned: Owned, pending: deque[hp.Happening]) -> None:
        if self.owned.get(owned.id) is owned and not owned.state.over:
            self._turn(owned, pending)

    def _closure(
        self, owned: Owned, pending: deque[hp.Happening]
    ) -> tuple[list[Event], list[Command]]:
        """Decide, and do at once all that needs no worker, until only commands for others are left, or
        enough is done for one turn."""
        events: list[Event] = []
        effects: list[Command] = []
        while pending and len(events) < TURN:
            decision = decide(owned.state, pending.popleft())
            events += decision.events
            for command in decision.commands:
                if isinstance(command, Evaluate | Gather | Expire | Fail):
                    pending.append(self._evaluator.evaluate(owned.state, owned.tenant, command))
                elif isinstance(command, Conclude):
                    pending.append(self._evaluator.conclude(owned.state))
                else:
                    effects.append(command)
        return events, effects

    def _durable(self, owned: Owned, append: Append, effects: list[Any]) -> None:
        """The events are committed: tell those who listen, then let the released steps leave."""
        owned.committed = True
        recorded = [
            Recorded(append.first_seq + offset, event) for offset, event in enumerate(append.events)
        ]
        if recorded:
            owned.stream.publish(recorded)
            for listener in self._listeners:
                listener.on_events(owned.state.plan, owned.tenant, owned.id, recorded)
        if append.accept is not None and not owned.state.over and self.owned.get(owned.id) is owned:
            self._limit_execution(owned)
        self._carry_out(owned, effects)
        if append.outcome is not None:
            self._ended(owned)

    def _carry_out(self, owned: Owned, effects: list[Any]) -> None:
        if self.owned.get(owned.id) is not owned:  # dropped while its events were on their way
            return
        for effect in effects:
            if isinstance(effect, Dispatch):
                self._dispatch(owned, effect)
            elif isinstance(effect, Wake):
                self._wake_later(owned, effect)
            elif isinstance(effect, Abandon):
                self._abandon(
                    [attempt_id(owned.id, effect.step, effect.generation, effect.attempt)]
                )

    def _dispatch(self, owned: Owned, command: Dispatch) -> None:
        state = owned.state
        step = state.steps[command.step]
        current = (step.attempt, step.generation) == (command.attempt, command.generation)
        if step.status != "running" or not current or self._draining:
            return
        node = state.plan.nodes[command.node]
        key = attempt_id(owned.id, command.step, command.generation, command.attempt)
        owned.attempts[key] = (command.step, command.attempt, command.generation)
        self._attempts[key] = owned
        timeout_s = self._limit_step(owned, node, step)
        self._send(
            Attempt(
                id=key,
                tenant=owned.tenant,
                execution_id=owned.id,
                step=command.step,
                attempt=command.attempt,
                generation=command.generation,
                epoch=self.epoch,
                node=node,
                view=view(state, node),
                fields=_fields_of(state, node),
                sources=tuple(state.plan.source(source) for source in node.sources),
                timeout_s=timeout_s,
            )
        )

    def _limit_step(self, owned: Owned, node: PlanNode, step: Step) -> float | None:
        """Arm the step's limit once; returns the seconds left of it."""
        if node.timeout_s is None:
            return None
        left = max(0.0, step.started_at + node.timeout_s - self.clock())
        name = f"limit {step.key}"
        if name not in owned.timers:
            self._later(owned, name, left, self._step_limit, owned, step.key, step.generation)
        return left

    def _step_limit(self, owned: Owned, key: str, generation: int) -> None:
        taken = self._evaluator.continuing(owned.state, owned.state.node_of(owned.state.steps[key]))
        self.advance(
            owned, hp.StepLimit(at=self.clock(), step=key, generation=generation, taken=taken)
        )

    def _limit_execution(self, owned: Owned) -> None:
        left = owned.state.clock_at + owned.state.plan.settings.timeout_s - self.clock()
        self._later(owned, "limit", max(0.0, left), self._execution_limit, owned)

    def _execution_limit(self, owned: Owned) -> None:
        self.advance(owned, hp.ExecutionLimit(at=self.clock()))

    def _wake_later(self, owned: Owned, wake: Wake) -> None:
        due = hp.Due(at=wake.at, step=wake.step, attempt=wake.attempt, generation=wake.generation)
        pause = max(0.0, wake.at - self.clock())
        self._later(owned, f"wake {wake.step}", pause, self.advance, owned, due)

    def _later(
        self, owned: Owned, name: str, seconds: float, call: Callable[..., None], *args: Any
    ) -> None:
        def fire() -> None:
            owned.timers.pop(name, None)
            if self.owned.get(owned.id) is owned and not owned.state.over:
                call(*args)

        if name in owned.timers:
            owned.timers[name].cancel()
        owned.timers[name] = asyncio.get_running_loop().call_later(seconds, fire)

    def _ended(self, owned: Owned) -> None:
        """After the outcome is durable: stop the clocks; linger only for late results."""
        owned.ended = True
        for timer in owned.timers.values():
            timer.cancel()
        owned.timers.clear()
        owned.stream.end()
        if owned.attempts:
            loop = asyncio.get_running_loop()
            owned.timers["linger"] = loop.call_later(LINGER_S, self._let_go, owned)
        else:
            self._let_go(owned)

    def _let_go(self, owned: Owned) -> None:
        for timer in owned.timers.values():
            timer.cancel()
        for key in list(owned.attempts):
            self._forget(owned, key)
        if self.owned.get(owned.id) is owned:
            del self.owned[owned.id]

    def _forget(self, owned: Owned, key: str) -> None:
        owned.attempts.pop(key, None)
        self._attempts.pop(key, None)


def _fields_of(state: ExecutionState, node: PlanNode) -> tuple[Field, ...]:
    """The fields that a node reads or writes: what its worker needs to know of the state."""
    names = dict.fromkeys([*(read.field for read in node.reads), node.output_key or ""])
    return tuple(state.fields[name] for name in names if name in state.fields)
