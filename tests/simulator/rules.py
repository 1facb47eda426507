"""What must hold in a world, judged by what the world itself saw: commits, calls, promises.

Nothing here asks the code under test about itself; only the fold is shared, to tell what a reader of
the journal would see.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from agentflow.engine.workers import Attempt
from agentflow.execution import events as ev
from agentflow.execution.fold import fold
from agentflow.execution.journal import Append, Recorded, Submission
from agentflow.execution.keys import wait_id
from agentflow.execution.state import ExecutionState
from agentflow.execution.views import final_state
from tests.oracle.script import without_times
from tests.simulator.documents import PLANS
from tests.simulator.store import CANCELLED, SimStore

Json = Any
OF_THE_TIME = (
    "execution_id",
    "execution_time",
    "start_time",
    "end_time",
    "tokens_used",
    "cost",
    "metadata",
)


class Violation(Exception):
    """A promise was broken. ``rule`` names it."""

    def __init__(self, rule: str, text: str) -> None:
        self.rule = rule
        super().__init__(f"{rule}: {text}")


class Rules:
    """The ledger of a world and the rules over it. Every method raises Violation."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self.store: SimStore
        self.durability: dict[str, str] = {}
        self.acknowledged: set[str] = set()
        self.calls: dict[tuple[str, str, int], list[tuple[int, str]]] = {}
        self._lengths: dict[str, int] = {}
        self._ended: dict[str, set[tuple[str, int]]] = {}
        self._completed: dict[str, set[tuple[str, int]]] = {}
        self._started: dict[str, set[tuple[str, int, int]]] = {}
        self._over: dict[str, bool] = {}
        self._tenures: dict[str, list[tuple[str, int]]] = {}
        self._keys: dict[str, tuple[str, str, int]] = {}
        self._withdrawn: set[str] = set()
        self._effects: set[tuple[str, str, int]] = set()

    def committed(self, owner: str, epoch: int, append: Append) -> None:
        """These events are in the journal now."""
        key = append.execution_id
        last = self._lengths.get(key, 0)
        if append.events and append.first_seq != last + 1:
            raise Violation("no gaps", f"{key}: seq {append.first_seq} follows {last}")
        self._lengths[key] = last + len(append.events)
        self._tenure(key, owner, epoch)
        for event in append.events:
            self._event(key, event)

    def _tenure(self, key: str, owner: str, epoch: int) -> None:
        """Owners follow one another; none returns with an epoch it had before another came."""
        tenures = self._tenures.setdefault(key, [])
        if tenures and tenures[-1] == (owner, epoch):
            return
        if any(name == owner and epoch <= former for name, former in tenures):
            raise Violation("epochs never fall", f"{key}: {owner} at {epoch} after {tenures}")
        tenures.append((owner, epoch))

    def released(self, key: str) -> None:
        """Nobody owns it; whoever owned it may do so again."""
        self._tenures.pop(key, None)

    def _event(self, key: str, event: ev.Event) -> None:
        if self._over.get(key) and not isinstance(event, (ev.StepLate, ev.ExecutionResumed)):
            raise Violation("nothing after the end", f"{key}: {ev.kind(event)}")
        if isinstance(event, ev.ExecutionResumed):
            self._over[key] = False
        elif isinstance(event, ev.TERMINAL_EXECUTION):
            self._over[key] = True
            if isinstance(event, ev.ExecutionCancelled) and event.reason != CANCELLED:
                self._withdrawn.add(key)
        elif isinstance(event, ev.StepStarted):
            started = (event.step, event.generation, event.attempt)
            self._started.setdefault(key, set()).add(started)
        elif isinstance(event, ev.TERMINAL_STEP):
            ended, step = self._ended.setdefault(key, set()), (event.step, event.generation)
            if step in ended:
                raise Violation("one end per step", f"{key}: {ev.kind(event)} of {step} again")
            ended.add(step)
            self._answered(key, event)
            if isinstance(event, ev.StepCompleted):
                self._completed.setdefault(key, set()).add(step)

    def _answered(self, key: str, event: Any) -> None:
        """A wait that was answered did not expire."""
        if self.store.waits.get((key, wait_id(event.step, event.generation))) != "answered":
            return
        nobody = isinstance(event, ev.StepCompleted) and isinstance(event.result, dict)
        expired = isinstance(event, ev.StepFailed) and event.error.type == "StepTimeout"
        if expired or (nobody and event.result.get("by", "sim") is None):
            raise Violation("an answer wins", f"{key}: {event.step} expired though it was answered")

    def has_ended(self, attempt: Attempt) -> bool:
        """Whether the journal holds the end of the step that an attempt is of."""
        ended = self._ended.get(attempt.execution_id, ())
        return (attempt.step, attempt.generation) in ended

    def sent(self, attempt: Attempt) -> None:
        """A coordinator sends this attempt off."""
        key, number = attempt.execution_id, (attempt.step, attempt.generation, attempt.attempt)
        if self._over.get(key):
            raise Violation("nothing after the end", f"{key}: {number} is sent off")
        strict = self.durability[key] == "strict" or attempt.node.effects == "once"
        if strict and number not in self._started.get(key, ()):
            raise Violation("commit before dispatch", f"{key}: {number}")

    def called(self, attempt: Attempt, idempotency_key: str, effect: bool) -> None:
        """A worker begins this attempt: from here on the outside world sees it. ``effect``: it is not
        turned away at the door."""
        key, step = attempt.execution_id, (attempt.step, attempt.generation)
        if step in self._completed.get(key, ()):
            raise Violation("nothing committed is called again", f"{key}: {step}")
        whose = (key, *step)
        if self._keys.setdefault(idempotency_key, whose) != whose:
            raise Violation("one key per step", f"{whose} has the key of another step")
        calls = self.calls.setdefault(whose, [])
        if any(former != idempotency_key for _, former in calls):
            raise Violation("one key per step", f"{whose} is called with several keys")
        again = any(former == attempt.attempt for former, _ in calls)
        if again and self.durability[key] == "strict":
            raise Violation("one call per attempt", f"{whose}: {attempt.attempt} is called twice")
        calls.append((attempt.attempt, idempotency_key))
        if effect and attempt.node.effects == "once":
            if whose in self._effects:
                raise Violation("once is once", f"{whose} takes effect again")
            self._effects.add(whose)

    def given_up(self, attempt: str, goes_on: bool) -> None:
        """A new owner takes an attempt for lost."""
        if goes_on:
            raise Violation("what runs is adopted", f"{attempt} is made again while it goes on")

    def told(self, key: str, recorded: Sequence[Recorded]) -> None:
        """A reader was told these events."""
        entries = self.store.journal.get(key, ())
        for each in recorded:
            if each.seq > len(entries) or entries[each.seq - 1].event != each.event:
                raise Violation("told is durable", f"{key}: {ev.kind(each.event)} at {each.seq}")

    def accepted(self, key: str) -> None:
        """A caller was told that its execution is accepted."""
        self._tell(f"client    {key} acknowledged")
        self.acknowledged.add(key)
        if key not in self.store.rows:
            raise Violation("accepted is durable", f"{key} is acknowledged and not committed")

    def kept(self) -> None:
        """What was acknowledged is still there, and was ended by nobody but its callers."""
        for key in self.acknowledged:
            if not self.store.events(key):
                raise Violation("accepted is durable", f"{key} is lost")
            if key in self._withdrawn:
                raise Violation("accepted is durable", f"{key} is withdrawn")

    def ended(self, key: str, calm: Json | None) -> None:
        """An execution is over: its row tells what the fold of its journal tells. ``calm``: the state
        in which it ends undisturbed, where nothing was done that may change it."""
        row = self.store.rows[key]
        if self.durability[key] == "none":  # its journal keeps no steps
            return
        state = read_by(row.submission, self.store.events(key))
        outcome = row.outcome
        if outcome is None or not state.over:
            raise Violation("a reader sees a prefix", f"{key}: the row and its journal differ")
        seen, kept = (
            settled(state.status, final_state(state)),
            settled(outcome.status, outcome.final_state),
        )
        if seen != kept:
            raise Violation("a reader sees a prefix", f"{key}: {seen} is not {kept}")
        if calm is not None and seen != calm and key not in self._withdrawn:
            raise Violation("same end", f"{key}: {seen} is not {calm}")


def read_by(asked: Submission, events: Sequence[ev.Event]) -> ExecutionState:
    """What a reader of a journal sees."""
    plan = PLANS.of(asked.content_hash, asked.spec)
    return fold(ExecutionState(plan, asked.execution_id), events)


def settled(status: str, state: dict[str, Json]) -> str:
    """An ended execution, but for what depends on time."""
    kept = {name: state[name] for name in state if name not in OF_THE_TIME}
    kept["errors"] = without_times(kept.get("errors"))
    return json.dumps([status, kept], sort_keys=True, default=str)
