"""Thousands of small worlds, each of one seed, in which everything goes wrong; and what must hold.

Every other seed is judged in safety mode, which ends in the middle of it; the others in liveness mode,
which goes on after the last fault and demands that every execution ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.simulator.__main__ import summed_up
from tests.simulator.builds import BROKEN, Build
from tests.simulator.rules import Violation
from tests.simulator.seeds import simulate
from tests.soak import cases

Json = Any
ROOT = Path(__file__).parents[2]
SEEDS = cases(2000)
ENOUGH = 1000
"""Within so many seeds every broken build must be found out."""
FAULTS = (
    "killed",
    "hit between effects",
    "frozen",
    "database away",
    "clock jumps",
    "unanswered",
    "unheard",
    "limbo",
    "crashes",
    "commits unknown",
    "duplicate results",
    "late results",
    "two owners",
    "attempts lost",
    "adopted",
    "cancelled",
    "retried",
    "answered",
    "answered too late",
    "fenced writes",
)


def test_no_rule_is_broken_whatever_goes_wrong():
    met: Counter[str] = Counter()
    broken: list[str] = []
    for line in judged(SEEDS):
        if "met" in line:
            met.update(line["met"])
        else:
            seed, text = line["seed"], line["broken"]
            broken.append(f"{text}\n  replay: {sys.executable} -m tests.simulator {seed}")
    print(f"\n{summed_up(met)}\nIn all they met {dict(met.most_common())}")
    assert not broken, f"{len(broken)} of {SEEDS} seeds:\n" + "\n".join(broken[:5])
    assert [fault for fault in FAULTS if not met[fault]] == [], "these never struck"


def judged(seeds: int) -> Iterator[Json]:
    """What becomes of the seeds, judged on every core."""
    cores = len(os.sched_getaffinity(0))
    bounds = [core * seeds // cores for core in range(cores + 1)]
    judges = [start(f"{first}..{end - 1}") for first, end in pairwise(bounds)]
    for judge in judges:
        told, _ = judge.communicate()
        assert judge.returncode == 0
        yield from (json.loads(line) for line in told.splitlines() if line.startswith("{"))


def start(what: str, hashing: str = "random") -> subprocess.Popen[str]:
    environ = {key: text for key, text in os.environ.items() if not key.startswith("COVERAGE")}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulator", what],
        cwd=ROOT,
        env={**environ, "PYTHONHASHSEED": hashing},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_each_broken_build_is_found_out():
    found = {build.name: first(build) for build in BROKEN}
    print()
    for name, (seed, rule) in found.items():
        print(f"{name:<36} {rule or 'NOT FOUND':<38} seed {seed}")
    assert [name for name, (_, rule) in found.items() if rule is None] == []


def first(build: Build) -> tuple[int, str | None]:
    """The first seed whose world shows that a build is broken, and the rule that it breaks."""
    for seed in range(ENOUGH):
        try:
            simulate(seed, build)
        except Violation as violation:
            if violation.rule in build.breaks:
                return seed, violation.rule
    return ENOUGH, None


def test_seed_is_the_same_history_in_every_process():
    replays = [start("8", hashing) for hashing in ("1", "2")]
    one, other = (replay.communicate(timeout=60)[0] for replay in replays)
    assert one == other
    assert "no rule is broken" in one
