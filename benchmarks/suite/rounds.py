"""The measurement: every contender in every round, only one of them up at a time."""

from __future__ import annotations

import itertools
import platform
import random
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import psutil

from benchmarks.suite import recovery
from benchmarks.suite.contender import Command, Contender, ContenderFailed, started
from benchmarks.suite.database import Database, named
from benchmarks.suite.workloads import LIMITS, Sample, Workload, is_void

Json = Any
RECOVERY = "recovery"
SHORT_S = 0.2
"""Of what is shorter, the CPU time of others is told too coarsely."""


@dataclass(frozen=True)
class Asked:
    """What is to be measured. ``seconds``: how long a request that can be made longer should take."""

    commands: Sequence[Command]
    workloads: Sequence[Workload]
    rounds: int = 3
    seconds: float = 4.0
    recovery: bool = True
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Contenders that cannot run here, and why."""


class Rows:
    """What came out: figures of every round, by contender and workload, and what went wrong."""

    def __init__(self) -> None:
        self.figures: dict[tuple[str, str], list[Mapping[str, float]]] = defaultdict(list)
        self.trouble: dict[tuple[str, str], str] = {}
        self.unsupported: dict[tuple[str, str], str] = {}
        self.facts: dict[str, Json] = {}
        self.samples: list[Json] = []

    def take(self, contender: str, workload: Workload, sample: Sample) -> None:
        """Note one request. A row whose contender's store holds another number of steps is void."""
        answer = sample.answer
        key = (contender, workload.name)
        kept = {k: v for k, v in answer.items() if k != "latencies_s"}
        self.samples.append(
            {
                "contender": contender,
                "workload": workload.name,
                "answer": kept,
                "usage": sample.usage._asdict(),
            }
        )
        if "unsupported" in answer:
            self.unsupported[key] = answer["unsupported"]
        elif "error" in answer:
            self.trouble[key] = f"error: {answer['error']}"
        elif void := is_void(answer):
            self.trouble[key] = void
        else:
            self.figures[key].append(workload.figures(sample))

    def told(self) -> Json:
        """All of it, as JSON has it."""
        return {
            "systems": self.facts,
            "figures": self.medians(),
            "counted": self.counted(),
            "trouble": _by_workload(self.trouble),
            "unsupported": _by_workload(self.unsupported),
            "others": _others(self),
            "samples": self.samples,
        }

    def closed(self, contender: str, workload: str) -> bool:
        """Whether measuring it once more would tell nothing."""
        return (contender, workload) in self.trouble or (contender, workload) in self.unsupported

    def counted(self) -> dict[str, dict[str, int]]:
        """workload -> contender -> of how many rounds its medians are."""
        found: dict[str, dict[str, int]] = defaultdict(dict)
        for (contender, workload), rounds in self.figures.items():
            found[workload][contender] = len(rounds)
        return dict(found)

    def medians(self) -> dict[str, dict[str, dict[str, float]]]:
        """workload -> contender -> figure -> median of the rounds; without rows that are void."""
        found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for (contender, workload), rounds in self.figures.items():
            if (contender, workload) in self.trouble:
                continue
            names = dict.fromkeys(name for figures in rounds for name in figures)
            found[workload][contender] = {
                name: statistics.median(each[name] for each in rounds if name in each)
                for name in names
            }
        return dict(found)


async def measure(
    asked: Asked, database: Database, folder: Path, keep: Callable[[Json], None]
) -> Json:
    """Everything, round after round; the order of the contenders changes with the round. ``keep`` is given
    what there is after each."""
    rows = Rows()
    rows.trouble |= {(name, "environment"): why for name, why in asked.left_out.items()}
    began = time.time()
    load = psutil.getloadavg()
    settings = await database.settings()
    found: Json = {}
    for round_ in range(asked.rounds):
        order = list(asked.commands)
        random.Random(round_).shuffle(order)
        for command in order:
            _say(f"round {round_ + 1} of {asked.rounds}: {command.name}")
            await _turn(asked, command, round_, database, folder, rows)
        found = {
            "began": began,
            "seconds": time.time() - began,
            "rounds": round_ + 1,
            "load_before": load,
            "machine": machine(),
            "database": settings,
            **rows.told(),
        }
        keep(found)
    return found


async def _turn(
    asked: Asked, command: Command, round_: int, database: Database, folder: Path, rows: Rows
) -> None:
    """All of one contender in one round. What fails is left out from then on, and the rest goes on with the
    contender started anew."""
    name, starts = command.name, itertools.count()
    due = _of(command, asked.workloads)
    while due := [each for each in due if _is_open(name, each.name, each.asked, rows)]:
        together = [each for each in due if each.apart == due[0].apart]
        number = next(starts)
        place = folder / f"{name}-{round_}-{number}"
        await database.rest()
        async with database.fresh(named(f"{name}_{number}", round_)) as dsn:
            done = await _measured(asked, command, together, database, place, dsn, rows)
        if not done:
            return
        due = [each for each in due if each not in together[:done]]
    if asked.recovery and _is_open(name, RECOVERY, RECOVERY, rows):
        async with database.fresh(named(f"{name}_killed", round_)) as dsn:
            await recovery.once(command, folder / f"{name}-{round_}-killed", dsn, rows)


def _is_open(name: str, workload: str, asked: str, rows: Rows) -> bool:
    """Whether there is anything to learn from this contender with this workload."""
    if asked not in rows.facts.get(name, {}).get("can", [asked]):
        rows.unsupported.setdefault((name, workload), "it has no such workload")
    return not rows.closed(name, workload)


async def _measured(
    asked: Asked,
    command: Command,
    workloads: Sequence[Workload],
    database: Database,
    place: Path,
    dsn: str,
    rows: Rows,
) -> int:
    """These workloads with one start of the contender, until one fails; how many were begun."""
    at, begun = "start", 0
    try:
        async with started(command, place, dsn) as contender:
            rows.facts[command.name] = contender.facts
            for workload in workloads:
                at, begun = workload.name, begun + 1
                if _is_open(command.name, at, workload.asked, rows):
                    await _sample(asked, contender, workload, database.pids, rows)
    except ContenderFailed as failure:
        rows.trouble[command.name, at] = str(failure)
        _say(str(failure))
    return begun


def _of(command: Command, chosen: Sequence[Workload]) -> list[Workload]:
    if command.name == "limits":
        return list(LIMITS)
    return [each for each in chosen if not each.only or command.name in each.only]


async def _sample(
    asked: Asked, contender: Contender, workload: Workload, database: list[int], rows: Rows
) -> None:
    """Warm up, then measure."""
    answer, usage = await contender.ask(
        workload.warm_asked or workload.asked, workload.warm_up(), database
    )
    if "unsupported" in answer or "error" in answer:
        rows.take(contender.name, workload, Sample(answer, usage))
        return
    parameters = workload.sized(answer["seconds"], asked.seconds)
    answer, usage = await contender.ask(workload.asked, parameters, database)
    rows.take(contender.name, workload, Sample(answer, usage))
    _say(f"    {workload.name}: {usage.wall_s:.1f} s")


def _by_workload(found: Mapping[tuple[str, str], str]) -> dict[str, dict[str, str]]:
    by: dict[str, dict[str, str]] = defaultdict(dict)
    for (contender, workload), text in found.items():
        by[workload][contender] = text
    return dict(by)


def _others(rows: Rows) -> Json:
    """How much of one core everybody else used while something was measured."""
    used = [sample["usage"] for sample in rows.samples if "usage" in sample]
    shares = [each["others_s"] / each["wall_s"] for each in used if each["wall_s"] > SHORT_S]
    if not shares:
        return {"median_cores": 0.0, "most_cores": 0.0}
    return {"median_cores": statistics.median(shares), "most_cores": max(shares)}


def machine() -> Json:
    """Where it was measured."""
    name = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    return {
        "processor": name,
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "asyncpg": asyncpg.__version__,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
