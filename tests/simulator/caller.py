"""A caller of a simulated world: asks coordinator after coordinator, as the door to them does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentflow.errors import Conflict, StoreUnavailable
from agentflow.execution.journal import Submission
from tests.simulator.rules import Violation

if TYPE_CHECKING:
    from tests.simulator.coordinator import Process
    from tests.simulator.world import World

ANSWER_S = 4.0
ROUNDS_S = 10.0


class Caller:
    """Submits one execution, always with the same id; ``over`` when it knows, or gives up."""

    def __init__(self, world: World, asked: Submission) -> None:
        self._world, self._asked = world, asked
        self._refused = 0
        self._place = 0
        self._unanswered = self._doubted = False
        self._offer = 0
        self._waits_for: Process | None = None
        self._deadline = 0.0
        self.over = False

    def begin(self) -> None:
        self._deadline = self._world.now + ROUNDS_S
        self._try()

    def _try(self) -> None:
        """Offer it to the next one."""
        world, processes = self._world, self._world.processes
        if self._place == len(processes):
            if self._refused == len(processes) or world.now > self._deadline:
                world.tell(f"caller    gives {self._asked.execution_id} up")
                self.over = True
                return
            self._place = self._refused = 0
            world.later(0.2, None, self._try)
            return
        process = processes[self._place]
        self._place += 1
        self._offer += 1
        if process.dead:
            self._answered(self._offer, TimeoutError())
            return
        self._waits_for = process
        world.later(0.002, process, self._arrives, process, self._offer)
        world.later(ANSWER_S, None, self._answered, self._offer, TimeoutError())

    def _arrives(self, process: Process, offer: int) -> None:
        accepting = process.loop.create_task(process.engine.accept(self._asked))

        def done(task: asyncio.Task[None]) -> None:
            if not process.dead and not task.cancelled():
                error = task.exception()
                self._world.later(0.002, None, self._answered, offer, error)

        accepting.add_done_callback(done)

    def on_killed(self, process: Process) -> None:
        if self._waits_for is process:
            self._world.later(0.05, None, self._answered, self._offer, TimeoutError())

    def _answered(self, offer: int, error: BaseException | None) -> None:
        if offer != self._offer or self.over:
            return
        self._waits_for = None
        self._offer += 1
        key, world = self._asked.execution_id, self._world
        if isinstance(error, Conflict) and self._doubted:
            error = StoreUnavailable()
        if error is None or (isinstance(error, Conflict) and self._unanswered):
            self.over = True
            world.judge(world.rules.accepted, key)
        elif isinstance(error, Conflict):
            world.tell(f"caller    is told that {key} exists")
            self.over = True
        elif isinstance(error, StoreUnavailable):
            self._refused += 1
            self._doubted = True
            self._try()
        elif isinstance(error, TimeoutError):
            self._unanswered = True
            self._try()
        else:
            world.broken(Violation("nothing is refused but for a reason", f"{key}: {error!r}"))
