"""The readiness loop: decide -> append -> durable -> dispatch -> result -> decide."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.engine.evaluation import Evaluator
from agentflow.engine.owned import Owned, settling
from agentflow.engine.stream import TokenDelta
from agentflow.engine.timers import Timers
from agentflow.engine.workers import Attempt, Delta, Report
from agentflow.engine.writer import Writer
from agentflow.errors import AgentFlowError, FencedOut, StoreUnavailable
from agentflow.execution import happenings as hp
from agentflow.execution.decide import decide
from agentflow.execution.events import TERMINAL_EXECUTION, Event, StepWaiting
from agentflow.execution.journal import Append, Outcome, Recorded, Submission
from agentflow.execution.journal import Command as Asked
from agentflow.execution.keys import attempt_id, step_of_wait
from agentflow.execution.listener import Listener
from agentflow.execution.state import Step
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
from agentflow.nodes.base import Answer, NodeSet

Json = Any
WITHDRAWN = "The database did not acknowledge its acceptance in time"
TURN = 500
"""Events after which a turn ends, though there is more that needs no worker."""
LINGER_S = 30.0
"""How long an ended execution is kept for late results of its abandoned attempts."""


class Scheduler:
    """Drives every owned execution. All methods run on one loop and none of them waits inside a turn,
    so happenings of one execution are handled one after the other."""

    def __init__(
        self,
        *,
        nodes: NodeSet,
        writer: Writer,
        send: Callable[[Attempt, Owned], None],
        abandon: Callable[[Sequence[str]], None],
        leave: Callable[[Sequence[str]], None],
        acknowledge: Callable[[Sequence[str]], None],
        refused: Callable[[str, AgentFlowError], None],
        expire: Callable[[Owned, str, hp.Due | hp.StepLimit], None],
        rest: Callable[[Owned], None],
        may_lead: Callable[[], bool],
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
        self._leave = leave
        self._acknowledge = acknowledge
        self._refused = refused
        self._may_lead = may_lead
        self._listeners = listeners
        self._accept_s = accept_s
        self._rest = rest
        self._evaluator = Evaluator(nodes, clock, chance)
        self.timers = Timers(
            clock,
            happen=self.advance,
            expire=expire,
            driven=self.drives,
            continuing=lambda owned, node: self._evaluator.continuing(owned.state, node),
        )
        self._attempts: dict[str, Owned] = {}
        self._holding: dict[str, Owned] = {}
        self._draining = False

    def drives(self, owned: Owned) -> bool:
        """Whether this execution is still ours."""
        return self.owned.get(owned.id) is owned

    async def begin(self, owned: Owned, happening: hp.Accepted, submission: Submission) -> None:
        """Accept an execution; returns when it is committed.

        Raises what the journal refused with, and StoreUnavailable when it does not answer in time;
        should the acceptance be committed after all, the execution is cancelled before it begins. Not if
        we find out much too late: we were paused, and another coordinator may have answered for it.
        """
        loop = asyncio.get_running_loop()
        durable: asyncio.Future[None] = loop.create_future()
        too_late = loop.time() + 2 * self._accept_s
        self.owned[owned.id] = owned
        self.advance(owned, happening, accept=submission, then=settling(durable))
        try:
            async with asyncio.timeout(self._accept_s):
                await asyncio.shield(durable)
        except TimeoutError:
            owned.withdrawn = loop.time() < too_late
            durable.cancel()
            raise StoreUnavailable() from None
        except FencedOut:  # not here, but another coordinator may take it
            raise StoreUnavailable() from None

    def enrol(self, owned: Owned) -> list[Attempt]:
        """Expect reports about the attempts that a former owner left running; returns these."""
        self.owned[owned.id] = owned
        running = [step for step in owned.state.steps.values() if step.status == "running"]
        return [self._expect(owned, step) for step in running if step.key not in owned.state.items]

    def adopt(
        self,
        owned: Owned,
        lost: frozenset[str],
        instead: hp.Happening | None = None,
        commands: tuple[int, ...] = (),
    ) -> None:
        """Go on with an execution where its journal ends, or let happen what is to happen instead.
        ``lost``: ids of the attempts that the workers no longer have; what began since they were asked
        is not among them."""
        gone = {owned.attempts[key][0] for key in lost if key in owned.attempts}
        for key in lost:
            self._forget(owned, key)
        owned.durability.stop()
        for listener in self._listeners:
            listener.on_adopted(owned.state.plan, owned.tenant, owned.id)
        self.timers.keep_clock(owned)
        taken: dict[str, tuple[int, ...]] = {}
        for step in [step for step in owned.state.steps.values() if step.unfinished]:
            node = owned.state.node_of(step)
            self.timers.limit_step(owned, step)
            taken[step.key] = self._evaluator.continuing(owned.state, node)
        running = (step.key for step in owned.state.steps.values() if step.status == "running")
        adopted = frozenset(running) - gone
        taken_over = hp.TakenOver(at=self.clock(), taken=taken, adopted=adopted)
        self.advance(owned, instead or taken_over, commands=commands)

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
        before = owned.state.status
        events, effects = self._closure(owned, pending)
        if pending:
            asyncio.get_running_loop().call_soon(self._next_turn, owned, pending)
        if owned.may_wait:
            self._note_waits(owned, before, events)
        rows = owned.durability.rows(events)
        if not rows and not commands:
            self._lead(owned, effects)
            if then is not None:
                then(None)
            return
        ended = owned.state.over and any(isinstance(e, TERMINAL_EXECUTION) for e in events)
        append = Append(
            execution_id=owned.id,
            tenant=owned.tenant,
            first_seq=owned.next_seq,
            events=rows,
            accept=accept,
            outcome=owned.outcome() if ended else None,
            commands=commands,
            closes=owned.waits_ended(events) if owned.may_wait else (),
            wake_at=self.timers.next_wake(owned) if owned.state.status == "waiting" else None,
        )
        owned.next_seq += len(rows)
        owned.durability.number(append)
        early, effects = owned.durability.split(effects, self._may_lead())

        def settle(error: AgentFlowError | None) -> None:
            if error is None and accept is not None and owned.withdrawn:
                owned.durability.let_go()
                self._durable(owned, append, [])
                self.advance(owned, hp.CancelAsked(at=self.clock(), reason=WITHDRAWN))
            elif error is None and accept is not None and owned.doubted:
                self._durable(owned, append, [])
                self.drop(owned)
                self._refused(owned.id, FencedOut())
            elif error is None:
                self._durable(owned, append, effects)
            else:
                mine = self.owned.get(owned.id) is owned
                self.drop(owned, abandon=not isinstance(error, FencedOut))
                if mine:  # a refused acceptance may have hidden that its row is ours already
                    self._refused(owned.id, error if accept is None else FencedOut())
            if then is not None:
                then(error)

        self._writer.put(append, settle)
        self._carry_out(owned, early)

    def _note_waits(self, owned: Owned, before: str, events: Sequence[Event]) -> None:
        """What a turn changes about the time that an execution waits for, or that it has left."""
        for event in events:
            if isinstance(event, StepWaiting):
                self.timers.limit_step(owned, owned.state.steps[event.step])
        status = owned.state.status
        if before != status and before in ("running", "waiting") and not owned.state.over:
            self.timers.keep_clock(owned)
        if status == "waiting":
            self._rest(owned)

    def answer(self, owned: Owned, command: Asked) -> None:
        """Take in the answer to a wait, or the signal for it; nothing comes of it where the step does
        not wait any more."""
        key, generation = step_of_wait(command.wait)
        step = owned.state.steps.get(key)
        answered: deque[hp.Happening] = deque()
        if step is not None and (step.status, step.generation) == ("waiting", generation):
            given = Answer(data=command.payload.get("data"), by=command.by, at=command.at)
            answered.append(self._evaluator.answer(owned.state, owned.tenant, key, given))
        self._turn(owned, answered, commands=(command.id,))

    def report(self, report: Report) -> None:
        """Take in what a worker says about an attempt."""
        owned = self._attempts.get(report.id)
        if owned is None:
            return
        key, attempt, generation = owned.attempts[report.id]
        if isinstance(report, Delta):
            owned.stream.say(TokenDelta(key, attempt, report.offset, report.text))
            return
        self._forget(owned, report.id)

        def settle(error: AgentFlowError | None) -> None:
            if error is None:
                self._acknowledge((report.id,))
            else:  # the journal did not take it: the next owner may want it
                self._leave((report.id,))

        happening = self._evaluator.report(owned.state, key, attempt, generation, report)
        self.advance(owned, happening, then=settle)
        self.timers.unlimit(owned, key)
        if owned.ended and not owned.attempts:
            self._let_go(owned)

    def drop(self, owned: Owned, *, abandon: bool = False) -> None:
        """This execution is no longer ours: forget it, whatever it waits for. Its attempts go on, for
        the next owner to adopt, unless they are to be abandoned."""
        owned.stream.end()
        if self.owned.get(owned.id) is not owned:
            return
        mine = set(owned.attempts if abandon else owned.durability.unknown(owned.attempts))
        self._abandon(list(mine))
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
        owned.durability.committed(append)
        recorded = [
            Recorded(append.first_seq + offset, event) for offset, event in enumerate(append.events)
        ]
        if recorded:
            (owned.stream.begin if append.accept else owned.stream.add)(recorded)
            for listener in self._listeners:
                listener.on_events(owned.state.plan, owned.tenant, owned.id, recorded)
        if append.accept is not None and not owned.state.over and self.owned.get(owned.id) is owned:
            self.timers.keep_clock(owned)
        self._carry_out(owned, effects)
        if append.outcome is not None:
            self._ended(owned, append.outcome)

    def _lead(self, owned: Owned, effects: list[Command]) -> None:
        """Carry out effects that no event stands for, now or as soon as something may run ahead."""
        self._carry_out(owned, owned.durability.hold(effects, self._may_lead()))
        if owned.durability.held:
            self._holding[owned.id] = owned

    def catch_up(self) -> None:
        """Something was committed, or the lease is ours again: what was held back may leave."""
        for owned in list(self._holding.values()) if self._may_lead() else ():
            if owned.durability.may_lead():
                del self._holding[owned.id]
                self._carry_out(owned, owned.durability.let_go())

    def _carry_out(self, owned: Owned, effects: list[Any]) -> None:
        if self.owned.get(owned.id) is not owned:  # dropped while its events were on their way
            return
        for effect in effects:
            if isinstance(effect, Dispatch):
                self._dispatch(owned, effect)
            elif isinstance(effect, Wake):
                self.timers.wake(owned, effect)
            elif isinstance(effect, Abandon):
                self._abandon(
                    [attempt_id(owned.id, effect.step, effect.generation, effect.attempt)]
                )

    def _dispatch(self, owned: Owned, command: Dispatch) -> None:
        step = owned.state.steps[command.step]
        current = (step.attempt, step.generation) == (command.attempt, command.generation)
        if step.status == "running" and current and not self._draining:
            self.timers.limit_step(owned, step)
            self._send(self._expect(owned, step), owned)

    def _expect(self, owned: Owned, step: Step) -> Attempt:
        """The current attempt of a step, whose report is to be taken in from now on."""
        key = attempt_id(owned.id, step.key, step.generation, step.attempt)
        owned.attempts[key] = (step.key, step.attempt, step.generation)
        self._attempts[key] = owned
        return owned.attempt(key, step, self.epoch, self.timers.left(owned, step))

    def _ended(self, owned: Owned, outcome: Outcome) -> None:
        """After the outcome is durable: stop the clocks; linger only for late results."""
        owned.ended, owned.result = True, outcome
        for timer in owned.timers.values():
            timer.cancel()
        owned.timers.clear()
        owned.stream.end()
        if owned.attempts:
            lingering = self.timers.deadlines.later(LINGER_S, self._let_go, owned)
            owned.timers["linger"] = lingering
        else:
            self._let_go(owned)

    def _let_go(self, owned: Owned) -> None:
        for timer in owned.timers.values():
            timer.cancel()
        if owned.attempts:  # or the workers would wait for ever to have their reports acknowledged
            self._leave(list(owned.attempts))
        for key in list(owned.attempts):
            self._forget(owned, key)
        self._holding.pop(owned.id, None)
        if self.owned.get(owned.id) is owned:
            del self.owned[owned.id]

    def _forget(self, owned: Owned, key: str) -> None:
        owned.attempts.pop(key, None)
        self._attempts.pop(key, None)
