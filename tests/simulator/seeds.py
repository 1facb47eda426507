"""From a seed to a world, and from a world to a verdict."""

from __future__ import annotations

from functools import cache
from random import Random

from tests.simulator.builds import REAL, Build
from tests.simulator.documents import KINDS, Sample, sample
from tests.simulator.rules import Violation, settled
from tests.simulator.world import Faults, World

STORM_S = 7.0
HEALED_S = 60.0
"""Within so much time after the last fault every execution must have ended."""


@cache
def undisturbed(asked: Sample) -> str:
    """How a calm workflow ends when nothing goes wrong."""
    world = World(0, [asked], coordinators=1)
    rows = world.store.rows
    try:
        world.run(HEALED_S, lambda: any(row.outcome for row in rows.values()))
        outcome = rows["exec_0"].outcome
        assert outcome is not None, f"{asked.name} does not end"
        return settled(outcome.status, outcome.final_state)
    finally:
        world.close()


def world_of(seed: int, build: Build = REAL) -> World:
    """The world of a seed: two or three coordinators, some executions, and some kinds of faults."""
    chance = Random(f"world {seed}")
    samples = [
        sample(chance.randrange(KINDS), calm=chance.random() < 0.5)
        for _ in range(chance.randint(1, 3))
    ]
    return World(seed, samples, chance.choice((2, 2, 3)), _storm(chance), build)


def _storm(chance: Random) -> Faults:
    """Few kinds of faults at a time reach further than all of them at once."""

    def some(often: float) -> bool:
        return chance.random() < often

    return Faults(
        until=STORM_S,
        points=chance.choice((0.003, 0.01, 0.03)) if some(0.4) else 0.0,
        kills=chance.randint(1, 3) if some(0.4) else 0,
        freezes=chance.randint(1, 3) if some(0.5) else 0,
        away=chance.randint(1, 2) if some(0.3) else 0,
        jumps=chance.randint(1, 3) if some(0.3) else 0,
        cancels=1 if some(0.25) else 0,
        worker_deaths=chance.randint(1, 3) if some(0.3) else 0,
        unanswered=chance.choice((0.01, 0.1)) if some(0.4) else 0.0,
        unheard=chance.choice((0.01, 0.1)) if some(0.3) else 0.0,
        limbo=chance.choice((0.01, 0.05)) if some(0.2) else 0.0,
        slow=chance.choice((0.02, 0.3)) if some(0.4) else 0.0,
        twice=0.3 if some(0.4) else 0.0,
        late=0.1 if some(0.4) else 0.0,
        busy=0.1 if some(0.3) else 0.0,
        retries=chance.randint(1, 2) if some(0.2) else 0,
        orphans=chance.choice((0.3, 1.0)) if some(0.4) else 0.0,
    )


def mode(seed: int) -> str:
    """*safety*: nothing may be broken at any moment, and the world ends in the middle of it; or
    *liveness*: moreover the faults end, and then every execution must end as well."""
    return "safety" if seed % 2 else "liveness"


def simulate(seed: int, build: Build = REAL) -> World:
    """The world of a seed, after its time. Raises Violation."""
    world = world_of(seed, build)
    play(world)
    return world


def play(world: World) -> None:
    """Let time pass: through the faults and, in liveness mode, on to the end of every execution.

    Raises Violation.
    """
    try:
        world.run(STORM_S)
        _look(world)
        if mode(world.seed) == "liveness":
            _see_the_end(world)
    finally:
        world.close()


def _look(world: World) -> None:
    """What must hold at any time."""
    world.rules.kept()
    for key, row in world.store.rows.items():
        if row.outcome is not None:
            calm = world.samples[key].calm and key not in world.disturbed
            world.rules.ended(key, undisturbed(world.samples[key]) if calm else None)


def _see_the_end(world: World) -> None:
    def all_over() -> bool:
        rows = world.store.rows.values()
        return all(c.over for c in world.callers) and all(r.outcome is not None for r in rows)

    world.run(STORM_S + HEALED_S, all_over)
    if not all_over():
        left = {k: row.owner for k, row in world.store.rows.items() if row.outcome is None}
        raise Violation("everything ends", f"{left or 'a caller'} waits after {HEALED_S:g} s")
    _look(world)
