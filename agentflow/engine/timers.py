"""What the clock brings about: the end of a back-off, of a wait, of a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentflow.engine.deadlines import Deadlines
from agentflow.engine.owned import Owned
from agentflow.execution import happenings as hp
from agentflow.execution.state import Step
from agentflow.execution.turn import Wake
from agentflow.plan.plan import PlanNode


class Timers:
    """The timers of one coordinator's executions. ``happen``: let something happen to an execution;
    ``expire``: the same, once its wait takes no answer any more; ``driven``: whether it is still ours;
    ``continuing``: the edges to take when a step is ended and its node continues."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        happen: Callable[[Owned, hp.Happening], None],
        expire: Callable[[Owned, str, hp.Due | hp.StepLimit], None],
        driven: Callable[[Owned], bool],
        continuing: Callable[[Owned, PlanNode], tuple[int, ...]],
    ) -> None:
        self.deadlines = Deadlines()
        self._clock = clock
        self._happen = happen
        self._expire = expire
        self._driven = driven
        self._continuing = continuing
        self._passed = self._pass  # one object, which every timer has
        self._ended = self._execution_limit

    def later(
        self, owned: Owned, name: str, seconds: float, call: Callable[..., None], *args: Any
    ) -> None:
        """Call this after a while, if the execution is still ours and open; instead of what was to be
        called under the same name."""
        self.forget(owned, name)
        owned.timers[name] = self.deadlines.later(seconds, self._passed, owned, name, call, args)

    def _pass(
        self, owned: Owned, name: str, call: Callable[..., None], args: tuple[Any, ...]
    ) -> None:
        owned.timers.pop(name, None)
        if self._driven(owned) and not owned.state.over:
            call(*args)

    def forget(self, owned: Owned, name: str) -> None:
        """Call nothing under this name."""
        timer = owned.timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def keep_clock(self, owned: Owned) -> None:
        """Arm the limit of an execution, which counts from acceptance or from an operator's retry; not
        while the execution waits, for then its clock stands still."""
        if owned.state.status == "waiting":
            self.forget(owned, "limit")
            return
        left = owned.state.clock_at + owned.state.plan.settings.timeout_s - self._clock()
        self.later(owned, "limit", max(0.0, left), self._ended, owned)

    def left(self, owned: Owned, step: Step) -> float:
        """Seconds left of a step's limit and of its execution's, whichever ends first, for a step whose
        attempt runs: the clock of its execution does too, until that attempt has ended."""
        state, node = owned.state, owned.state.node_of(step)
        ends = state.clock_at + state.plan.settings.timeout_s
        if node.timeout_s is not None:
            ends = min(ends, step.started_at + node.timeout_s)
        return max(0.0, ends - self._clock())

    def limit_step(self, owned: Owned, step: Step) -> None:
        """Arm the step's limit, once."""
        limit, name = owned.state.node_of(step).timeout_s, _limit_of(step.key)
        if limit is not None and name not in owned.timers:
            left = max(0.0, step.started_at + limit - self._clock())
            self.later(owned, name, left, self._step_limit, owned, step.key, step.generation)

    def unlimit(self, owned: Owned, key: str) -> None:
        """Let go of a step's limit once the step is over: an execution of many steps would keep them all."""
        step = owned.state.steps.get(key)
        if step is not None and not step.unfinished:
            self.forget(owned, _limit_of(key))

    def wake(self, owned: Owned, wake: Wake) -> None:
        """Report at its time that a step is due."""
        pause = max(0.0, wake.at - self._clock())
        self.later(owned, f"wake {wake.step}", pause, self._due, owned, wake)

    def next_wake(self, owned: Owned) -> float | None:
        """When an execution that waits goes on by itself, in seconds since the epoch; None: never."""
        moments = []
        for step in owned.state.steps.values():
            if step.unfinished:
                node = owned.state.node_of(step)
                limit = None if node.timeout_s is None else step.started_at + node.timeout_s
                moments += [moment for moment in (step.due_at, limit) if moment is not None]
        return min(moments, default=None)

    def _due(self, owned: Owned, wake: Wake) -> None:
        # A timer may fire a little before its time by the clock of the day.
        at = max(wake.at, self._clock())
        due = hp.Due(at=at, step=wake.step, attempt=wake.attempt, generation=wake.generation)
        self._end_wait(owned, wake.step, due)

    def _step_limit(self, owned: Owned, key: str, generation: int) -> None:
        taken = self._continuing(owned, owned.state.node_of(owned.state.steps[key]))
        limit = hp.StepLimit(at=self._clock(), step=key, generation=generation, taken=taken)
        self._end_wait(owned, key, limit)

    def _end_wait(self, owned: Owned, key: str, happening: hp.Due | hp.StepLimit) -> None:
        """Let it happen; to a step that may be answered only when no answer was given before."""
        step = owned.state.steps.get(key)
        waits = step is not None and step.status == "waiting"
        if step is not None and waits and _answerable(owned.state.node_of(step)):
            self._expire(owned, key, happening)
        else:
            self._happen(owned, happening)

    def _execution_limit(self, owned: Owned) -> None:
        self._happen(owned, hp.ExecutionLimit(at=self._clock()))


def _limit_of(key: str) -> str:
    """The name of the timer of a step's limit."""
    return f"limit {key}"


def _answerable(node: PlanNode) -> bool:
    """Whether what a step of this node waits for can come from outside."""
    return node.type == "human" or node.options.get("signal") is not None
