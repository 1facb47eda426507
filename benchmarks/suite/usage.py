"""What processes use: CPU seconds and resident memory of a whole tree, and of everybody else."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple

import psutil

PAUSE_S = 0.1
"""Between two looks at the memory of a tree."""
REFRESH_S = 1.0
"""Between two looks at which processes belong to it."""


class Usage(NamedTuple):
    """CPU seconds (user and system) of the contender with its servers, of the database, and of everybody
    who belongs to neither nor to us; bytes by which the contender's resident memory grew at most."""

    cpu_s: float
    database_s: float
    others_s: float
    wall_s: float
    grown_bytes: int
    peak_bytes: int


def tree(roots: Iterable[int]) -> list[psutil.Process]:
    """These processes and all below them, each once."""
    found: dict[int, psutil.Process] = {}
    for pid in roots:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for each in (root, *root.children(recursive=True)):
                found[each.pid] = each
    return list(found.values())


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """Of these processes, and of those of their children that have ended."""
    total = 0.0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def resident(processes: Iterable[psutil.Process]) -> int:
    """Bytes of resident memory; pages that several of them share count for each."""
    total = 0
    for process in processes:
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def machine_seconds() -> float:
    """CPU seconds that the whole machine was busy since it started."""
    times = psutil.cpu_times()
    return sum(times) - times.idle - times.iowait - times.guest - times.guest_nice


class Meter:
    """Measures what the block within uses. ``roots``: the contender's processes; ``database``: those of
    the PostgreSQL that all share."""

    def __init__(self, roots: Sequence[int], database: Sequence[int]) -> None:
        self._roots, self._database = roots, database
        self._stop = threading.Event()
        self._peak = 0
        self._watching = threading.Thread(target=self._watch, name="meter", daemon=True)
        self.usage = Usage(0.0, 0.0, 0.0, 0.0, 0, 0)

    def __enter__(self) -> Meter:
        members = tree(self._roots)
        self._before = self._seconds(members)
        self._grew_from = self._peak = resident(members)
        self._began = time.perf_counter()
        self._watching.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        wall = time.perf_counter() - self._began
        self._stop.set()
        self._watching.join()
        cpu, database, ours, machine = (
            now - before for now, before in zip(self._seconds(tree(self._roots)), self._before)
        )
        others = max(0.0, machine - cpu - database - ours)
        grown = self._peak - self._grew_from
        self.usage = Usage(cpu, database, others, wall, grown, self._peak)

    def _seconds(self, members: Sequence[psutil.Process]) -> tuple[float, float, float, float]:
        ours = sum(psutil.Process().cpu_times()[:2])
        return (
            cpu_seconds(members),
            cpu_seconds(tree(self._database)),
            ours,
            machine_seconds(),
        )

    def _watch(self) -> None:
        members, looked = tree(self._roots), time.monotonic()
        while not self._stop.wait(PAUSE_S):
            if time.monotonic() - looked > REFRESH_S:
                members, looked = tree(self._roots), time.monotonic()
            self._peak = max(self._peak, resident(members))
