"""The workers of a simulated world. They outlive coordinators: what is left behind goes on, and its
report is kept for whoever adopts it, until it is acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from agentflow.engine.workers import Attempt, Delta, Done, Failed, describe
from agentflow.errors import StepError
from agentflow.execution.events import ErrorInfo, Worker

if TYPE_CHECKING:
    from tests.simulator.coordinator import SimWorkers
    from tests.simulator.world import World

WORKER = Worker(1, "sim", "sim")
BUSY = ErrorInfo("ProviderUnavailable", "503", retryable=True, uncounted=True)
LOST = ErrorInfo("WorkerLost", "The worker died", retryable=True, uncounted=True)
STOPPED = ErrorInfo("Cancelled", "The attempt was cancelled")


class Run(msgspec.Struct, eq=False):
    """An attempt at a worker. ``to``: who is told; ``report``: how it ended."""

    attempt: Attempt
    to: SimWorkers
    begun: bool = False
    over: bool = False
    report: Done | Failed | None = None


class Pool:
    """Every worker there is, by what they run."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._runs: dict[str, Run] = {}
        self._asked: set[tuple[str, str]] = set()
        self._handed: set[tuple[str, str]] = set()

    def send(self, to: SimWorkers, attempt: Attempt) -> None:
        """A coordinator sends an attempt off."""
        world = self._world
        world.judge(world.rules.sent, attempt)
        run = self._runs[attempt.id] = Run(attempt, to)
        world.later(world.latency(), None, self._begin, run)

    def _begin(self, run: Run) -> None:
        world, attempt = self._world, run.attempt
        if run.over:
            return
        run.begun = True
        report = self._result(attempt)
        turned_away = isinstance(report, Failed) and report.error is BUSY
        world.tell(f"worker    begins {attempt.id}")
        world.count("calls")
        world.judge(world.rules.called, attempt, world.build.key_of(attempt), not turned_away)
        seconds = world.chance.choice((0.02, 0.2, 1.0)) * world.chance.uniform(0.1, 1)
        if world.stormy and world.chance.random() < world.faults.late:
            seconds = world.chance.uniform(0, 8)
        if world.chance.random() < 0.1:
            run.to.report(Delta(attempt.id, 0, "word"), seconds / 2)
        world.later(seconds, None, self._end, run, report)

    def _result(self, attempt: Attempt) -> Done | Failed:
        world = self._world
        if world.stormy and world.chance.random() < world.faults.busy:
            return Failed(attempt.id, BUSY, (), WORKER)
        try:
            given = world.works[attempt.execution_id].give(attempt.node, attempt.step, attempt.view)
        except StepError as error:
            return Failed(attempt.id, describe(error), (), WORKER)
        return Done(attempt.id, given.result, given.delta, given.calls, WORKER)

    def _end(self, run: Run, report: Done | Failed, after_s: float = 0.0) -> None:
        """A run is over: whoever is to be told is told, once, as a rule."""
        world = self._world
        if run.over:
            return
        run.over, run.report = True, report
        if run.begun and world.rules.has_ended(run.attempt):
            world.count("late results")
        run.to.report(report, world.latency() + after_s)
        if world.stormy and world.chance.random() < world.faults.twice:
            world.count("duplicate results")
            run.to.report(report, world.latency() + world.chance.uniform(0, 3))

    def abandon(self, attempt_id: str) -> None:
        """A coordinator asks that an attempt stop; it may go on all the same."""
        run = self._runs.get(attempt_id)
        if run is not None and self._world.chance.random() < 0.8:
            self._end(run, Failed(attempt_id, STOPPED, (), WORKER))

    def leave(self, former: SimWorkers, attempt_ids: Sequence[str]) -> None:
        """They go on; nobody waits for them."""

    def adopt(self, to: SimWorkers, attempts: Sequence[Attempt]) -> frozenset[str]:
        """Those that run here, or whose report is kept, are reported to their new owner from now on."""
        world, found = self._world, set()
        for attempt in attempts:
            self._asked.add((to.name, attempt.id))
            run = self._runs.get(attempt.id)
            lost = world.stormy and world.chance.random() < world.faults.orphans
            if run is None or lost:
                continue
            found.add(attempt.id)
            self._handed.add((to.name, attempt.id))
            if run.to is not to and run.report is None:
                run.to.report(Failed(attempt.id, LOST, (), WORKER), world.latency())
            run.to = to
            world.count("adopted")
            world.tell(f"worker    hands {attempt.id} over")
            if run.report is not None:
                to.report(run.report, world.latency() + 0.01)
        return frozenset(found)

    def forsaken(self, owner: str, attempt_id: str) -> bool:
        """Whether an attempt goes on that its owner gives up: it never asked for it, or has it."""
        run, asked = self._runs.get(attempt_id), (owner, attempt_id)
        if run is None or not run.begun or run.over:
            return False
        return asked not in self._asked or asked in self._handed

    def acknowledge(self, attempt_ids: Sequence[str]) -> None:
        for attempt_id in attempt_ids:
            run = self._runs.get(attempt_id)
            if run is not None and run.over:
                del self._runs[attempt_id]

    def die(self) -> None:
        """A worker dies: much of what runs is lost; it may have taken effect, and even be reported."""
        world = self._world
        for attempt_id, run in list(self._runs.items()):
            if not run.over and world.chance.random() < 0.5:
                world.count("attempts lost")
                world.tell(f"worker    dies under {attempt_id}")
                lost = Failed(attempt_id, LOST, (), WORKER)
                self._end(run, lost, world.chance.uniform(0, 1))
                if run.begun and world.chance.random() < world.faults.twice:
                    run.to.report(self._result(run.attempt), world.chance.uniform(0, 2))
