"""Builds to simulate: the product as it is, and deliberately broken ones.

A broken build is the product"s own source with a few texts replaced, loaded beside the real modules,
or the real one in a world that does not keep its side of the contract.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import ModuleType

import msgspec

from agentflow.engine.engine import Engine
from agentflow.engine.workers import Attempt
from agentflow.nodes.base import StepContext

CHAIN = (
    "agentflow.execution.decide",
    "agentflow.engine.writer",
    "agentflow.engine.durability",
    "agentflow.engine.owned",
    "agentflow.engine.outbox",
    "agentflow.engine.timers",
    "agentflow.engine.parking",
    "agentflow.engine.scheduler",
    "agentflow.engine.recovery",
    "agentflow.engine.engine",
)
"""What is loaded anew for a broken build: each after those that it imports."""


class Change(msgspec.Struct, frozen=True):
    """A replaced text; it stands in the module exactly once."""

    module: str
    old: str
    new: str


class Build(msgspec.Struct, frozen=True):
    """What the coordinators of a world run. ``fenced``: whether the database refuses stale writes;
    ``breaks``: the rules by which a broken one is found out, any of them."""

    name: str = "as it is"
    changes: tuple[Change, ...] = ()
    fenced: bool = True
    breaks: tuple[str, ...] = ()

    def engine(self) -> Callable[..., Engine]:
        """The class of its engine."""
        engine: Callable[..., Engine] = _modules(self.changes)["agentflow.engine.engine"].Engine
        return engine

    def key_of(self, attempt: Attempt) -> str:
        """The idempotency key that the work of an attempt sends along."""
        context: type[StepContext] = _modules(self.changes)["agentflow.nodes.base"].StepContext
        return context(
            node=attempt.node,
            view=attempt.view,
            fields={},
            tenant=attempt.tenant,
            execution_id=attempt.execution_id,
            step=attempt.step,
            attempt=attempt.attempt,
            generation=attempt.generation,
        ).key()


@cache
def _modules(changes: tuple[Change, ...]) -> dict[str, ModuleType]:
    """The modules of a build, by name. Raises LookupError where a text is not there exactly once."""
    names = [*CHAIN, "agentflow.nodes.base"]
    real = {name: sys.modules[name] for name in names}
    if not changes:
        return real
    apart = names[-1:] if all(change.module == names[-1] for change in changes) else names[:-1]
    try:
        for name in apart:
            sys.modules[name] = _changed(real[name], [c for c in changes if c.module == name])
        return {name: sys.modules[name] for name in names}
    finally:
        sys.modules.update(real)


def _changed(real: ModuleType, changes: list[Change]) -> ModuleType:
    path = str(real.__file__)
    with open(path) as file:
        source = file.read()
    for change in changes:
        if source.count(change.old) != 1:
            raise LookupError(f"{change.module}: {source.count(change.old)} times {change.old!r}")
        source = source.replace(change.old, change.new)
    made = ModuleType(real.__name__)
    made.__file__, made.__package__ = path, real.__package__
    sys.modules[real.__name__] = made
    exec(compile(source, path, "exec"), made.__dict__)
    return made


REAL = Build()
DECIDE, WRITER, DURABILITY, _, _, _, PARKING, SCHEDULER, RECOVERY, _ = CHAIN
BROKEN = (
    Build(
        "fencing off",
        fenced=False,
        breaks=("no gaps", "one end per step", "epochs never fall", "a reader sees a prefix"),
    ),
    Build(
        "dispatch before commit",
        (
            Change(
                SCHEDULER,
                "early, effects = owned.durability.split(effects, self._may_lead())",
                "early, effects = effects, []",
            ),
        ),
        breaks=("commit before dispatch",),
    ),
    Build(
        "intent after the effect",
        (
            Change(
                DURABILITY,
                'elif self._state.plan.nodes[effect.node].effects == "once":',
                "elif False:",
            ),
        ),
        breaks=("commit before dispatch", "once is once"),
    ),
    Build(
        "adoption off",
        (
            Change(
                RECOVERY,
                "found = await self._workers.adopt(attempts)",
                "found = frozenset()",
            ),
        ),
        breaks=("what runs is adopted",),
    ),
    Build(
        "attempt in the idempotency key",
        (
            Change(
                "agentflow.nodes.base",
                "self.tenant, self.execution_id, self.step, call_index, self.generation",
                "self.tenant, self.execution_id, self.step, self.attempt, self.generation",
            ),
        ),
        breaks=("one key per step",),
    ),
    Build(
        "duplicate report accepted",
        (
            Change(SCHEDULER, "        self._forget(owned, report.id)\n\n", "\n"),
            Change(DECIDE, "elif not is_current(state, happening):", "elif False:"),
        ),
        breaks=("one end per step", "nothing after the end"),
    ),
    Build(
        "completion recorded twice",
        (
            Change(
                DECIDE,
                "    _complete(turn, happening, step.generation if step else happening.generation, "
                "begins)\n",
                "    _complete(turn, happening, step.generation if step else happening.generation, "
                "begins)\n    turn.events.append(turn.events[-1])\n",
            ),
        ),
        breaks=("one end per step",),
    ),
    Build(
        "acknowledged before commit",
        (Change(SCHEDULER, "await asyncio.shield(durable)", "await asyncio.sleep(0)"),),
        breaks=("accepted is durable",),
    ),
    Build(
        "take-over forgets running steps",
        (
            Change(
                DECIDE,
                '        if step.status == "running":\n            _broke(turn, lost(',
                "        if False:\n            _broke(turn, lost(",
            ),
        ),
        breaks=("everything ends",),
    ),
    Build(
        "commit unknown taken for done",
        (Change(WRITER, "                    tries += 1\n", "                    return\n"),),
        breaks=("told is durable",),
    ),
    Build(
        "sent again without a look",
        (
            Change(
                WRITER,
                "missing = await self._missing(batch) if tries or again else batch",
                "missing = batch",
            ),
        ),
        breaks=("everything ends",),
    ),
    Build(
        "expiry looks for no answer",
        (
            Change(
                PARKING,
                "if name not in answered and self._driven(owned):",
                "if self._driven(owned):",
            ),
        ),
        breaks=("an answer wins",),
    ),
)
