"""Replay one seed, with its history: ``python -m tests.simulator SEED [BUILD]``; or judge many, a line
of JSON for each that breaks a rule, one of what they met, and a sentence that sums it up:
``python -m tests.simulator FIRST..LAST``.

BUILD is the name of a broken build; without it the product is simulated as it is.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

from tests.simulator.builds import BROKEN, REAL
from tests.simulator.rules import Violation
from tests.simulator.seeds import mode, play, simulate, world_of

FIGURES = {
    "crashes": "crashes",
    "commit-unknown": "commits unknown",
    "duplicate results": "duplicate results",
    "late results": "late results",
    "clock jumps": "clock jumps",
    "two-owner spells": "two owners",
    "fenced writes": "fenced writes",
}
"""As they are published -> as the worlds count them."""


def summed_up(met: Counter[str]) -> str:
    """What became of all seeds, in one line."""
    seeds = met["safety"] + met["liveness"]
    figures = ", ".join(f"{met[key]} {name}" for name, key in FIGURES.items())
    modes = f"{met['safety']} in safety mode, {met['liveness']} in liveness mode"
    return f"{seeds - met['broken']} of {seeds} seeds hold ({modes}): {figures}"


def main(what: str, build_name: str) -> int:
    if ".." in what:
        first, last = what.split("..")
        return judge(range(int(first), int(last) + 1))
    build = next((each for each in (REAL, *BROKEN) if each.name == build_name), None)
    if build is None:
        print(f"There is no build {build_name!r}. There are: {', '.join(b.name for b in BROKEN)}")
        return 2
    world = world_of(int(what), build)
    verdict = ""
    try:
        play(world)
    except Violation as violation:
        verdict = str(violation)
    for key, sample in world.samples.items():
        print(f"{key}: {sample.name}, {sample.durability}, {len(sample.spec['nodes'])} nodes")
    for at, text in world.trace:
        print(f"{at:9.4f}  {text}")
    print(f"seed {what}, {mode(int(what))} mode, {build.name}: {verdict or 'no rule is broken'}")
    return int(bool(verdict))


def judge(seeds: range) -> int:
    """Tell which of these seeds break a rule. Returns 0."""
    met: Counter[str] = Counter()
    for seed in seeds:
        met[mode(seed)] += 1
        try:
            world = simulate(seed)
        except Violation as violation:
            met["broken"] += 1
            print(json.dumps({"seed": seed, "broken": str(violation)[:600]}), flush=True)
        else:
            met.update(world.counts)
            met["fenced writes"] += world.store.fenced_writes
            met["executions"] += len(world.store.rows)
    print(json.dumps({"met": met}))
    print(summed_up(met))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], " ".join(sys.argv[2:]) or REAL.name))
