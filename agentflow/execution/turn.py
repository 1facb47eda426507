"""What ``decide`` works with: the commands it gives, and the turn in which it collects them."""

from __future__ import annotations

import msgspec

from agentflow.execution.events import ErrorInfo, Event
from agentflow.execution.fold import apply
from agentflow.execution.state import ExecutionState, Step


class Evaluate(msgspec.Struct, frozen=True):
    """Run this inline step now and report Finished, Broke, Expanded or Parked."""

    step: str
    node: int


class Gather(msgspec.Struct, frozen=True):
    """All items of this map step are over: report Finished with their results, or Broke."""

    step: str
    node: int


class Expire(msgspec.Struct, frozen=True):
    """The time until which this step waits has come: report Finished or Broke."""

    step: str
    node: int


class Fail(msgspec.Struct, frozen=True):
    """Report Broke for this step with this error: its join cannot be met."""

    step: str
    node: int
    error: ErrorInfo


class Dispatch(msgspec.Struct, frozen=True):
    """Send this attempt to a worker, once its ``step.started`` is durable."""

    step: str
    node: int
    attempt: int
    generation: int


class Wake(msgspec.Struct, frozen=True):
    """Report Due for this step at this time."""

    step: str
    attempt: int
    generation: int
    at: float


class Abandon(msgspec.Struct, frozen=True):
    """Ask the worker to stop this attempt; its result will not be used."""

    step: str
    attempt: int
    generation: int


class Conclude(msgspec.Struct, frozen=True):
    """Every step is over: evaluate the published output and report Concluded."""


Command = Evaluate | Gather | Expire | Fail | Dispatch | Wake | Abandon | Conclude


class Decision(msgspec.Struct, frozen=True):
    """Events to append, in order, and commands to carry out (dispatches only once durable)."""

    events: list[Event]
    commands: list[Command]


class Turn:
    """One call of decide: collects events (applying each at once) and commands."""

    def __init__(self, state: ExecutionState, at: float) -> None:
        self.state = state
        self.at = at
        self.events: list[Event] = []
        self.commands: list[Command] = []

    def emit(self, event: Event) -> None:
        """Append an event; the state is that after it."""
        apply(self.state, event)
        self.events.append(event)

    def command(self, command: Command) -> None:
        """Ask the engine for something."""
        self.commands.append(command)

    def wake(self, step: Step, at: float) -> None:
        """Ask to be told when a step is due."""
        self.commands.append(Wake(step.key, step.attempt, step.generation, at))
