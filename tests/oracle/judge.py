"""Judges mutants: each in a process of its own, by the tests of the core. Prints a line of JSON for each.

Run as a program, so that the mutated modules never meet those of the tests around.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tests.oracle.mutants import MUTANTS, PACKAGE, Mutant

ANEW = ("agentflow.execution", "agentflow.plan", "agentflow.spec.graph", "tests.unit.execution")
"""What a mutated process imports again."""
JUDGES = (
    *("test_edges", "test_joins", "test_loops", "test_failure", "test_cancel", "test_generations"),
    *("test_mapping", "test_waiting", "test_views"),
)
LIMIT_S = 5
"""How long one process may take: a mutant that never ends is rejected too."""
AT_ONCE = 2
ACCEPTED, IMPORT = "accepted", "its import"


class Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from another text."""

    def __init__(self, mutant: Mutant) -> None:
        self._name = "agentflow." + mutant.module.replace("/", ".")
        self._path = str(PACKAGE / f"{mutant.module}.py")
        self._source = mutant.source()

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, self._path, "exec"), module.__dict__)


def judge(mutant: Mutant | None) -> Iterator[str]:
    """The name of each test before it is done; at the end, that all of them accept the mutant."""
    if mutant is not None:
        sys.meta_path.insert(0, Mutated(mutant))
    for name in list(sys.modules):
        if name.startswith(ANEW):
            del sys.modules[name]
            around, _, last = name.rpartition(".")
            vars(sys.modules.get(around, sys)).pop(last, None)
    for name in (mutant.judge,) if mutant is not None else JUDGES:
        module = importlib.import_module(f"tests.unit.execution.{name}")
        for test, arguments in tests_of(module):
            yield f"{name}::{test.__name__}"
            test(**arguments)
    yield ACCEPTED


def tests_of(module: ModuleType) -> Iterator[tuple[Callable[..., None], dict[str, Any]]]:
    """The tests of a module, with the arguments of each case."""
    for name, test in vars(module).items():
        if name.startswith("test_"):
            marks = [mark.args for mark in getattr(test, "pytestmark", ())]
            for values in itertools.product(*(_cases(*mark) for mark in marks)):
                yield test, {name: value for case in values for name, value in case.items()}


def _cases(names: str | Sequence[str], cases: Sequence[Any]) -> Iterator[dict[str, Any]]:
    one = isinstance(names, str)
    for case in cases:
        yield {str(names): case} if one else dict(zip(names, case, strict=True))


def apart(number: int) -> int:
    """Judge in a process of its own; returns what will tell of it."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        return reading
    signal.alarm(LIMIT_S if number >= 0 else 10 * LIMIT_S)
    found = IMPORT
    try:
        for name in judge(MUTANTS[number] if number >= 0 else None):
            found = name
    finally:
        os.write(writing, found.encode())
        os._exit(0)


def main() -> None:
    import agentflow.plan.compile  # noqa: F401  # what every process needs, imported once

    under_way: list[tuple[int, int]] = []
    for number in range(-1, len(MUTANTS)):
        under_way.append((number, apart(number)))
        if len(under_way) == AT_ONCE:
            tell(*under_way.pop(0))
    for rest in under_way:
        tell(*rest)


def tell(number: int, reading: int) -> None:
    with os.fdopen(reading) as told:
        print(json.dumps([number, told.read() or "stopped: it does not end"]), flush=True)
    os.wait()


if __name__ == "__main__":
    main()
