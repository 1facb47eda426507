"""Judges mutants by the oracle: our engine with one broken rule, against what LangGraph's runtime did.
Prints a line of JSON for each.

Run as a program: what LangGraph gives is computed once, and each mutant is judged in a process of its
own, forked from this one, into which the engine is imported anew.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import os
import selectors
import signal
import sys
from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from tests.oracle.judge import AT_ONCE, IMPORT, Mutated
from tests.oracle.mutants import Mutant
from tests.oracle.runtimes import Ended, compiled, differences, on_langgraph
from tests.oracle.shared_mutants import SHARED
from tests.oracle.workflows import Workflow, make

Json = Any
SEEDS = 36
DECIDING = ("agentflow.execution", "agentflow.engine", "agentflow.nodes", "agentflow.testing")
"""What imports the core; what is below the core does not."""
ORACLE = ("tests.oracle.runtimes", "tests.oracle.script")
LIMIT_S = 1
"""Seconds of the processor that one workflow may take: an execution that never ends is rejected too."""
AGREES, ENDLESS = "agrees", "it does not end"
UNMUTATED = -1


class Case(msgspec.Struct, frozen=True):
    """A generated workflow, and what LangGraph's runtime made of it."""

    seed: int
    workflow: Workflow
    normalized: dict[str, Json]
    theirs: Ended


async def cases() -> list[Case]:
    """The first workflows of the generator."""
    found = []
    for seed in range(SEEDS):
        workflow = make(Random(seed))
        normalized, plan = compiled(workflow)
        theirs, _ = await on_langgraph(plan, workflow)
        found.append(Case(seed, workflow, normalized, theirs))
    return found


class Timeless(asyncio.SelectorEventLoop):
    """A loop that never waits: when there is nothing to do, the next timer is due. So a standstill is
    found at once, however long it was to be waited for."""

    def __init__(self) -> None:
        self._waiting = _NeverWaits()
        super().__init__(self._waiting)

    def time(self) -> float:
        return super().time() + self._waiting.spared

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:
        done = self.create_future()
        done.set_result(func(*args))
        return done


class _NeverWaits(selectors.DefaultSelector):
    spared = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if not found:
            self.spared += timeout or 0.0
        return found


def judged(mutant: Mutant | None, known: list[Case], tell: Callable[[str], None]) -> None:
    """Tell the first difference between our engine, with a broken rule, and what is known."""
    if mutant is not None:
        sys.meta_path.insert(0, Mutated(mutant))
    core = mutant is None or mutant.module.startswith(("execution/", "engine/"))
    _forget((*(DECIDING if core else ("agentflow",)), *ORACLE))
    runtimes = importlib.import_module("tests.oracle.runtimes")
    with asyncio.Runner(loop_factory=Timeless) as runner:
        runner.run(_compared(runtimes, known, tell))


def _forget(modules: tuple[str, ...]) -> None:
    """Have these imported again."""
    for name in [name for name in sys.modules if name.startswith(modules)]:
        del sys.modules[name]
        around, _, last = name.rpartition(".")
        vars(sys.modules.get(around, sys)).pop(last, None)


async def _compared(runtimes: Any, known: list[Case], tell: Callable[[str], None]) -> None:
    async with runtimes.our_engine() as engine:
        for case in known:
            seed = f"seed {case.seed}"
            signal.signal(signal.SIGPROF, lambda *_, seed=seed: tell(f"{seed}: {ENDLESS}"))
            signal.setitimer(signal.ITIMER_PROF, LIMIT_S)
            try:
                ours = await engine.execute(case.normalized, case.workflow, Random(case.seed))
            except TimeoutError:
                tell(f"{seed}: {ENDLESS}")
            if found := differences(ours, case.theirs):
                tell(f"{seed}: {_kinds(found)}")
    tell(AGREES)


def _kinds(found: list[str]) -> str:
    """What is different: the final state, statuses, views, or whether the execution failed."""
    return ", ".join(dict.fromkeys(line.split()[0].rstrip(":") for line in found))


def apart(number: int, known: list[Case]) -> int:
    """Judge in a process of its own; returns what will tell of it."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading

    def tell(found: str) -> None:
        os.write(writing, found[:200].encode())
        os._exit(0)

    gc.disable()
    logging.disable()
    try:
        judged(SHARED[number] if number != UNMUTATED else None, known, tell)
    finally:
        tell(IMPORT)  # unless something was told: that ends the process


def main() -> None:
    known = asyncio.run(cases())
    gc.freeze()
    under_way: list[tuple[int, int]] = []
    for number in range(UNMUTATED, len(SHARED)):
        under_way.append((number, apart(number, known)))
        if len(under_way) == AT_ONCE:
            _print(*under_way.pop(0))
    for rest in under_way:
        _print(*rest)


def _print(number: int, reading: int) -> None:
    with os.fdopen(reading) as told:
        print(json.dumps([number, told.read()]), flush=True)
    os.wait()


if __name__ == "__main__":
    main()
