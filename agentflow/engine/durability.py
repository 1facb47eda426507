"""What ``settings.durability`` lets an execution do before a commit.

strict    what a turn released leaves when the events of the turn are committed
relaxed   it leaves at once and the events follow, in order, but for a barrier: what must be committed
          before anything runs ahead of its commit again
none      as relaxed, and only acceptance and outcome are written at all
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentflow.execution import events as ev
from agentflow.execution.journal import Append
from agentflow.execution.keys import attempt_id, node_id_of
from agentflow.execution.state import ExecutionState
from agentflow.execution.turn import Command, Dispatch

BACKLOG = 1000
"""Unwritten events of one execution, above which what is released waits for its own commit."""
WRITTEN = (ev.ExecutionCreated, ev.ExecutionStarted, *ev.TERMINAL_EXECUTION)
"""What is written of an execution without durability; and what reopens it after its end."""

LOST = ev.ErrorInfo(
    "ExecutionLost",
    "Its owner stopped, and with settings.durability 'none' nothing of it was kept",
)
"""Why an execution without durability ends when its owner is gone."""


class Durability:
    """One execution's. ``last`` is the last seq that was given out, ``durable`` the last committed one;
    nothing runs ahead of its commit while ``barrier`` is not durable. ``held``: attempts that wait for
    that without an event of their own. ``unnamed``: blobs of results of which no event is written."""

    __slots__ = (
        "_early",
        "_mode",
        "_once",
        "_state",
        "barrier",
        "durable",
        "held",
        "last",
        "unnamed",
    )

    def __init__(self, state: ExecutionState) -> None:
        self.last = self.durable = self.barrier = state.seq
        self.held: tuple[Command, ...] = ()
        self.unnamed: tuple[ev.Blob, ...] = ()
        self._state = state
        self._mode = state.plan.settings.durability
        self._once = {node.id for node in state.plan.nodes if node.effects == "once"} or None
        self._early: dict[str, int] | None = None

    def rows(self, events: Sequence[ev.Event]) -> tuple[ev.Event, ...]:
        """Those of the events that are written."""
        if self._mode != "none":
            return tuple(events)
        for event in events:
            if isinstance(event, ev.StepCompleted) and event.blobs:
                self.unnamed += event.blobs
        return tuple(event for event in events if _is_written(event))

    def stop(self) -> None:
        """Nothing runs ahead until the next event is durable."""
        self.barrier = self.last + 1

    def number(self, append: Append) -> None:
        """Count the events of an append, and stop at it where it is strict in every mode: acceptance,
        outcome, what answers a command, and the end of a step with effects once."""
        self.last += len(append.events)
        strict = append.accept or append.outcome or append.commands or self._mode == "none"
        if strict or (self._once and any(map(self._settles, append.events))):
            self.barrier = self.last

    def committed(self, append: Append) -> None:
        """The append is durable."""
        self.durable += len(append.events)
        if self._early is not None:
            left = {key: seq for key, seq in self._early.items() if seq > self.durable}
            self._early = left or None

    @property
    def settled(self) -> bool:
        """Whether all that has happened is committed."""
        return self.durable >= self.last

    def may_lead(self) -> bool:
        """Whether effects may run ahead of their commit now."""
        backlog = self.last - self.durable
        return self._mode != "strict" and self.durable >= self.barrier and backlog <= BACKLOG

    def split(self, effects: list[Command], may_lead: bool) -> tuple[list[Command], list[Command]]:
        """Effects to carry out at once, and those that wait for the commit of their turn. An attempt
        with effects once never leaves before its intent is durable."""
        if not (may_lead and self.may_lead()):
            return [], effects
        early: list[Command] = []
        later: list[Command] = []
        led: dict[str, int] = {} if self._early is None else self._early
        for effect in effects:
            if not isinstance(effect, Dispatch):
                early.append(effect)
            elif self._state.plan.nodes[effect.node].effects == "once":
                later.append(effect)
            else:
                led[self._attempt(effect)] = self.last
                early.append(effect)
        self._early = led or None
        return early, later

    def hold(self, effects: list[Command], may_lead: bool) -> list[Command]:
        """Effects of a turn of which nothing is written: those to carry out at once. Attempts are held
        back while nothing may run ahead."""
        if self._mode != "none" or (may_lead and self.may_lead()):
            return effects
        self.held += tuple(effect for effect in effects if isinstance(effect, Dispatch))
        return [effect for effect in effects if not isinstance(effect, Dispatch)]

    def let_go(self) -> list[Command]:
        """What was held back, now that it may leave."""
        held, self.held = self.held, ()
        return list(held)

    def unknown(self, attempts: Iterable[str]) -> list[str]:
        """Those of the attempts that the journal does not name: no other owner will ask for them."""
        if self._mode == "none":
            return list(attempts)
        early = self._early or ()
        return [key for key in attempts if key in early]

    def _attempt(self, dispatch: Dispatch) -> str:
        execution_id, step = self._state.execution_id, dispatch.step
        return attempt_id(execution_id, step, dispatch.generation, dispatch.attempt)

    def _settles(self, event: ev.Event) -> bool:
        if self._once is None or not isinstance(event, ev.TERMINAL_STEP):
            return False
        return node_id_of(event.step) in self._once


def _is_written(event: ev.Event) -> bool:
    if isinstance(event, ev.ExecutionResumed):
        return bool(event.reason)
    return isinstance(event, WRITTEN)
