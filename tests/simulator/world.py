"""A world made of one seed: coordinators, a database, workers, callers, and what goes wrong.

One thread, no real clock, no real chance: the same seed is the same history. Things happen at
instants; the world takes the next one, whosever it is. Processes can end between any two effects.
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgspec

from agentflow.errors import AgentFlowError, StoreUnavailable
from agentflow.execution.events import StepFailed, StepRetrying, StepWaiting
from agentflow.execution.journal import Submission
from agentflow.execution.keys import attempt_id
from agentflow.nodes.base import NodeSet
from agentflow.nodes.human import HumanNode
from agentflow.nodes.wait import WaitNode
from tests.simulator.builds import REAL, Build
from tests.simulator.caller import Caller
from tests.simulator.clockwork import NEVER
from tests.simulator.coordinator import Answer, Process
from tests.simulator.documents import InlineWork, RemoteWork, Sample, Work, draw
from tests.simulator.pool import Pool
from tests.simulator.rules import Rules, Violation
from tests.simulator.store import SimStore

Json = Any
LEFT_BEHIND = "The coordinator died while the attempt ran"
"""Why a new owner tries a step again whose attempt it did not find."""


class Faults(msgspec.Struct, frozen=True):
    """What may go wrong until ``until``, and how often: chances per occasion, counts per world."""

    until: float = 0.0
    points: float = 0.0
    kills: int = 0
    freezes: int = 0
    away: int = 0
    jumps: int = 0
    cancels: int = 0
    worker_deaths: int = 0
    unanswered: float = 0.0
    unheard: float = 0.0
    limbo: float = 0.0
    slow: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    busy: float = 0.0
    retries: int = 0
    orphans: float = 0.0


class World:
    """Everything there is. :meth:`run` lets time pass."""

    epoch_s = 1_700_000_000.0
    lease_s = 3.0
    heartbeat_s = 0.9
    accept_s = 2.0

    def __init__(
        self,
        seed: int,
        samples: Sequence[Sample],
        coordinators: int = 2,
        faults: Faults | None = None,
        build: Build = REAL,
    ) -> None:
        self.seed, self.build, self.faults = seed, build, faults or Faults()
        self.chance = Random(seed)
        self.now = 0.0
        self.trace: list[tuple[float, str]] = []
        self.violation: Violation | None = None
        self.rules = Rules(self.tell)
        self.store = SimStore(
            lambda: self.now,
            self.lease_s,
            self._on_commit,
            fenced=build.fenced,
            clock=lambda: self.epoch_s + self.now,
        )
        self.rules.store = self.store
        self.samples = {f"exec_{n}": sample for n, sample in enumerate(samples)}
        for key, sample in self.samples.items():
            self.rules.durability[key] = sample.durability
        self.works = {key: Work(sample) for key, sample in self.samples.items()}
        inline = InlineWork(self.works)
        self.nodes = NodeSet(
            {
                "aggregator": inline,
                "input": inline,
                "router": inline,
                "llm": RemoteWork(),
                "human": HumanNode(),
                "wait": WaitNode(),
            }
        )
        self.counts: dict[str, int] = {}
        self.disturbed: set[str] = set()
        self.away_until = 0.0
        self._heap: list[tuple[float, int, Process | None, Callable[..., None], Any]] = []
        self._number = 0
        self.pool = Pool(self)
        self.processes = [Process(self, f"c{n}") for n in range(coordinators)]
        self.graves: list[Process] = []
        self.callers = [Caller(self, self._asked(key)) for key in self.samples]
        for caller in self.callers:
            self.later(self.chance.uniform(0, 1.5), None, caller.begin)
        self._plan_faults()

    def _asked(self, key: str) -> Submission:
        sample = self.samples[key]
        return Submission(
            execution_id=key,
            tenant="ten_sim",
            content_hash=sample.content_hash,
            spec=sample.spec,
            initial_state=sample.initial_state,
        )

    # Time

    def later(
        self, seconds: float, process: Process | None, call: Callable[..., None], *args: Any
    ) -> None:
        """Do this after a while, in that process (never, when it is dead by then) or in the world."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + seconds, self._number, process, call, args))

    def run(self, until: float, done: Callable[[], bool] = lambda: False) -> None:
        """Let time pass. Raises Violation as soon as a rule is broken."""
        with _Overheard(self):
            while self._next(until):
                if self.violation is not None:
                    raise self.violation
                if done():
                    return

    def _next(self, until: float) -> bool:
        """The next thing that happens; False when nothing does until then."""
        soonest, whose = self._heap[0][0] if self._heap else NEVER, None
        for process in self.processes:
            if not process.dead:
                due = process.loop.due()
                if due < process.frozen_until:
                    due = process.frozen_until
                if due < soonest:
                    soonest, whose = due, process
        if soonest > until:
            self.now = until
            return False
        if soonest > self.now:
            self.now = soonest
        if whose is not None:
            whose.round()
            return True
        _, _, process, call, args = heapq.heappop(self._heap)
        if process is not None and process.dead:
            return True
        if process is not None and process.frozen_until > self.now:
            self.later(process.frozen_until - self.now, process, call, *args)
            return True
        call(*args)
        return True

    def close(self) -> None:
        """The end of the world: what was left undone stays so."""
        for process in [*self.processes, *self.graves]:
            process.bury()

    # Judging

    def tell(self, text: str) -> None:
        self.trace.append((self.now, text))

    def judge(self, rule: Callable[..., None], *args: Any) -> None:
        """Ask a rule, in the middle of code that must not be stopped by the answer."""
        try:
            rule(*args)
        except Violation as violation:
            self.broken(violation)

    def broken(self, violation: Violation) -> None:
        self.tell(f"VIOLATION {violation}")
        self.violation = self.violation or violation

    def _on_commit(self, owner: str, epoch: int, append: Any) -> None:
        names = ", ".join(_shown(event) for event in append.events)
        self.tell(
            f"database  {append.execution_id} {append.first_seq}.. by {owner} {epoch}: {names}"
        )
        for event in append.events:
            if isinstance(event, StepFailed) and event.error.type == "WorkerLost":
                self.disturbed.add(append.execution_id)
            if isinstance(event, StepRetrying) and event.error.message == LEFT_BEHIND:
                key = attempt_id(append.execution_id, event.step, event.generation, event.attempt)
                self.judge(self.rules.given_up, key, self.pool.forsaken(owner, key))
            if isinstance(event, StepWaiting) and event.kind != "timer":
                self._answer_later(append.execution_id, event)
        self.judge(self.rules.committed, owner, epoch, append)

    def on_fault(self, who: str, context: dict[str, Any]) -> None:
        """What nobody in a process caught."""
        fault = context.get("exception")
        self.broken(Violation("no inner errors", f"{who}: {context['message']} {fault!r}"))

    def driven(self, process: Process, key: str) -> None:
        """A process drives this execution from now on; another one may not know yet that it lost it."""
        others = [each for each in self.processes if each is not process and not each.dead]
        if any(key in each.drives for each in others):
            self.count("two owners")
            self.tell(f"world     {key} has two owners")
        process.drives.add(key)

    # The database

    def ask(self, process: Process, what: str, work: Callable[[], Any], answered: Answer) -> None:
        """A request to the database, on its way there and back."""
        there, back = self.latency(), self.latency()
        fate = self._fate()
        if fate in ("unanswered", "limbo") and what.startswith("append"):
            self.count("commits unknown")
        if fate == "unheard":
            self.count(fate)
            self.tell(f"network   loses {what} of {process.name}")
            self.later(there + back, process, answered, None, StoreUnavailable())
            return
        if fate == "limbo":
            self.count(fate)
            self.tell(f"network   holds {what} of {process.name} back")
            self.later(back, process, answered, None, StoreUnavailable())
            there += self.chance.uniform(0, 2)
        self.later(there, None, self._apply, process, what, work, answered, back, fate)

    def _apply(
        self,
        process: Process,
        what: str,
        work: Callable[[], Any],
        answered: Answer,
        back: float,
        fate: str,
    ) -> None:
        value: Any = None
        error: AgentFlowError | None = None
        if self.now < self.away_until:
            error = StoreUnavailable()
        else:
            try:
                value = work()
            except AgentFlowError as refusal:
                error = refusal
        if error is not None:
            self.tell(f"database  answers {what} of {process.name}: {error.type}")
        if fate == "limbo":
            return
        if fate == "unanswered":
            self.count(fate)
            self.tell(f"network   loses the answer to {what} of {process.name}")
            value, error = None, StoreUnavailable()
        self.later(back, process, answered, value, error)

    def latency(self) -> float:
        if self.stormy and self.chance.random() < self.faults.slow:
            return self.chance.uniform(0, 1.0)
        return self.chance.uniform(0.001, 0.005)

    def _fate(self) -> str:
        if not self.stormy:
            return ""
        drawn = self.chance.random()
        for fate in ("unanswered", "unheard", "limbo"):
            drawn -= getattr(self.faults, fate)
            if drawn < 0:
                return fate
        return ""

    # What goes wrong

    @property
    def stormy(self) -> bool:
        return self.now < self.faults.until

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _plan_faults(self) -> None:
        faults = self.faults
        incidents = (
            (faults.kills, self._kill),
            (faults.freezes, self._freeze),
            (faults.away, self._go_away),
            (faults.jumps, self._jump),
            (faults.cancels, self._cancel),
            (faults.retries, self._retry),
            (faults.worker_deaths, self.pool.die),
        )
        for often, incident in incidents:
            for _ in range(often):
                self.later(self.chance.uniform(0, faults.until), None, incident)
        if faults.until:
            self.later(faults.until, None, self._heal)

    def strikes_here(self) -> bool:
        """Whether a process is hit at this point of its work."""
        hit = self.stormy and self.chance.random() < self.faults.points
        if hit:
            self.count("hit between effects")
        return hit

    def _alive(self) -> Process | None:
        alive = [process for process in self.processes if not process.dead]
        return self.chance.choice(alive) if alive else None

    def _kill(self) -> None:
        if (process := self._alive()) is not None:
            self.count("killed")
            process.kill()

    def on_killed(self, process: Process) -> None:
        """Its callers notice, perhaps the cluster does; in a while it is started again."""
        self.count("crashes")
        for caller in self.callers:
            caller.on_killed(process)
        epoch = self.store.leases[process.name].epoch if process.name in self.store.leases else 0
        if self.chance.random() < 0.5:
            self.later(self.chance.uniform(0.1, 1), None, self._bury, process.name, epoch)
        self.later(self.chance.uniform(0.1, 5), None, self._restart, process)

    def _bury(self, name: str, epoch: int) -> None:
        lease = self.store.leases.get(name)
        if lease is not None and lease.epoch == epoch and self.now >= self.away_until:
            self.tell(f"cluster   buries {name}")
            lease.epoch, lease.until = lease.epoch + 1, float("-inf")

    def _restart(self, process: Process) -> None:
        self.graves.append(process)
        self.tell(f"{process.name:<9} starts again")
        self.processes[self.processes.index(process)] = Process(self, process.name)

    def _freeze(self) -> None:
        if (process := self._alive()) is not None:
            process.freeze()

    def _go_away(self) -> None:
        self.count("database away")
        self.away_until = self.now + self.chance.choice((0.1, 1.0, 3.0, 6.0))
        self.tell(f"database  away until {self.away_until:.3f}")

    def _jump(self) -> None:
        if (process := self._alive()) is not None:
            self.count("clock jumps")
            process.clock_offset += self.chance.uniform(-5, 5)
            self.tell(f"{process.name:<9} clock is {process.clock_offset:+.3f} now")

    def _cancel(self) -> None:
        key = self.chance.choice(list(self.samples))
        if self.now >= self.away_until and self.store.cancel(key):
            self.count("cancelled")
            self.disturbed.add(key)
            self.tell(f"caller    cancels {key}")
            self._nudge(key)

    def _answer_later(self, key: str, event: StepWaiting) -> None:
        """Somebody will answer: at any time, or near the last moment."""
        after = self.chance.uniform(0, 4)
        if event.until is not None and self.chance.random() < 0.7:
            left = event.until - self.epoch_s - self.now
            after = max(0.0, left - self.chance.uniform(0, 0.4))
        self.later(after, None, self._answer, key, event.wait_id, event.kind)

    def _answer(self, key: str, wait: str, kind: str) -> None:
        """A caller answers, and goes on trying while the database is away."""
        if self.now < self.away_until:
            self.later(0.5, None, self._answer, key, wait, kind)
            return
        drawn = draw(wait)
        data = {"approved": drawn % 2 == 0} if kind == "human" else drawn % 10
        if self.store.answer(key, wait, data):
            self.count("answered")
            self.tell(f"caller    answers {wait} of {key}")
            self._nudge(key)
        else:
            self.count("answered too late")

    def _retry(self) -> None:
        """An operator retries all that has not completed."""
        for key in self.store.rows if self.now >= self.away_until else ():
            if self.store.retry(key):
                self.count("retried")
                self.disturbed.add(key)
                self.rules.released(key)
                self.tell(f"operator  retries {key}")
                self._nudge(key)

    def _nudge(self, key: str) -> None:
        owner = self.store.rows[key].owner
        for process in self.processes:
            if process.name == owner and not process.dead and self.chance.random() < 0.5:
                self.later(self.latency(), process, process.engine.nudge, key)

    def _heal(self) -> None:
        """Nothing new goes wrong from here on; an operator gives back what was quarantined."""
        self.tell("world     the faults end")
        self.away_until = self.now
        self._free()

    def _free(self) -> None:
        for key, row in self.store.rows.items():
            if row.quarantined:
                self.tell(f"operator  gives {key} back")
                self.store.free(key)
                self.rules.released(key)
        self.later(1.0, None, self._free)


class _Overheard(logging.Handler):
    """While the world runs, what the product logs as an error breaks a rule."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.ERROR)
        self._world = world
        self._logger = logging.getLogger("agentflow")

    def emit(self, record: logging.LogRecord) -> None:
        fault = record.exc_info[1] if record.exc_info else ""
        text = f"{record.getMessage()} {getattr(record, 'error', '')} {fault!r}"
        self._world.broken(Violation("no inner errors", text))

    def __enter__(self) -> None:
        self._propagate, self._logger.propagate = self._logger.propagate, False
        self._logger.addHandler(self)

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.propagate = self._propagate


def _shown(event: Any) -> str:
    words = [
        event.__struct_config__.tag,
        *(str(getattr(event, n, "")) for n in ("step", "attempt")),
    ]
    return " ".join(word for word in words if word)
